"""The recipe: one YAML file that says everything about a run, as nested frozen dataclasses.

The stages' own configs are used as they are, so a recipe knows exactly the keys that the code knows.
`pipelines/recipe/load.py` reads a file into it, whole, before any work.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.documents.config import ImageListConfig, PlaceConfig
from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.published import Published
from mmcorpus.curation.engine.budget import SampleBudget
from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.sources.config import IndexConfig
from mmcorpus.curation.sources.written import WrittenConfig
from mmcorpus.curation.synthetic.miniweb.config import MiniWebConfig
from mmcorpus.filters.dfn import DfnScorer
from mmcorpus.filters.model import Device, Dtype
from mmcorpus.filters.scorer import Scorer
from mmcorpus.packing import numbers
from mmcorpus.packing.config import PlanConfig
from mmcorpus.training.clip.config import ContrastiveConfig
from mmcorpus.training.evaluation.config import EvaluationConfig

if TYPE_CHECKING:
    from mmcorpus.curation.dedup.passes import DedupPass
    from mmcorpus.training.config import ModelConfig, StageConfig

DEDUP: Final = "dedup"
"""The section of the passes, and the folder of what they write."""
DFN: Final = DfnScorer.name
"""The section, the scorer, the folder of what is trained, the first part of the columns' names."""
USES: Final = "uses"
"""In a scorer's parameters: which scorer it is, so that the key can be a name of one's own."""
ON: Final = "on"
"""There too: the populations that it judges."""
DOCUMENTS: Final = frozenset({"document", "text"})
"""The kinds of sources that are read from pages."""
WEB: Final = "${web}"
"""In a path: the folder of the run's site."""
INDEXED: Final = ("shards", "parquet", "json")
"""The keys of sources whose samples are here already."""
KEPT_ASIDE_BY: Final = ("heldout_fraction", "heldout_by", "salt")
"""The settings of a selection that say which samples are kept aside, whatever else it says."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
"""Names become folders."""


@dataclass(frozen=True, kw_only=True)
class WebConfig:
    """A site served on loopback while the run downloads: generated, or one that lies in a folder."""

    generate: MiniWebConfig | None = None
    """Make a mini-web in the run's folder."""
    folder: str | None = None
    """Serve the site in this folder (`mmcorpus web`, or a script such as synthetic.corpora.tuxpaint, makes one)."""
    also: tuple[str, ...] = ()
    """Folders of more sites to be served beside it; sources name their files by path."""

    def __post_init__(self) -> None:
        if (self.generate is None) == (self.folder is None):
            raise ValueError("give either `generate` (make a site) or `folder` (serve one that exists)")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One list of samples, pages to make documents of, or samples that are here."""

    urls: str | None = None
    """The URL list: parquet, csv, tsv, jsonl or txt, or a folder of them; local or remote. `${web}` is the site's
    folder."""
    pages: str | tuple[str, ...] | None = None
    """In place of `urls`, what documents are made of: WARC files, HTML, or a corpus of documents or texts; files,
    folders, globs, lists of paths. `${web}` is the site's folder."""
    shards: str | tuple[str, ...] | None = None
    """In place of `urls`, samples that are here already: WebDataset tars of anybody, or folders of images and their
    texts; files, folders, globs. They are read where they lie."""
    parquet: str | tuple[str, ...] | None = None
    """Likewise parquet or Arrow files whose rows hold images, as Hugging Face's do."""
    json: str | tuple[str, ...] | None = None
    """Likewise JSON (an array, or an object a line) that names its images or holds them: LLaVA's, ShareGPT's, chat
    messages."""
    written: WrittenConfig | None = None
    """In place of `urls`, texts that a served model wrote about the samples of another source: `{source: pairs, column:
    capfusion.text}`. Scorers and passes judge them only where they name this source."""
    reselect: str | None = None
    """In place of `urls`, another source whose samples are selected from once more: `select` may say something else
    of this name, by the same scores. What that one keeps aside is kept aside here too."""
    columns: dict[str, str] = field(default_factory=dict)
    """Of `shards`, `parquet`, `json`: which column is the `image`, `caption`, `conversations`, `url`, `uid`, where it
    has none of the usual names."""
    image_root: str | None = None
    """Of these: the folder below which paths of images lie; null for that of the file."""
    strip: str = ""
    """Of these: what is taken off the beginning of such paths."""
    downloaded: str | None = None
    """Of these: shards that `mmcorpus download` made, in which images at addresses are looked for."""
    published: Published | None = None
    """Of `urls` (there a setting of its download), `parquet` and `json`: a published layout whose columns become
    annotations of the image, for `kind: conversation`."""
    kind: Literal["pair", "conversation", "document", "text"] = "pair"
    """Of `urls`: an image and its caption, or an image and a conversation (column `conversations`, LLaVA's turns). Of
    `pages`: a document of texts and images, or its text alone. Of `shards`, `parquet`, `json`, `written`: an image and
    its caption, or a conversation with any number of images."""
    download: dict[str, Any] = field(default_factory=dict)
    """Download settings of this source, over those of the recipe's `download`."""
    extract: PagesConfig = field(default_factory=PagesConfig)
    """How `pages` are read."""
    images: ImageListConfig = field(default_factory=ImageListConfig)
    """Which images of documents are downloaded."""
    place: PlaceConfig = field(default_factory=PlaceConfig)
    """How they are put back into their documents."""
    opt_out: bool = True
    """Drop documents that ask not to be used (`extract.opt_out` says whose wishes count)."""

    def __post_init__(self) -> None:
        given = [name for name in ("urls", "pages", *INDEXED, "written", "reselect") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give one of `urls` (a list of images), `pages` (WARC, HTML, documents, texts), `shards`, `parquet` "
                "and `json` (samples that are here), `written` (texts about those of another source), and `reselect` "
                "(those of another source, selected from once more); it has "
                f"{' and '.join(given) or 'none'}"
            )
        if self.written is not None and self.kind in DOCUMENTS:
            raise ValueError(f"kind: a {self.kind} is read from `pages`; a model writes captions and conversations")
        if self.written is not None and self.kind == "conversation" and self.written.fallback == "original":
            raise ValueError("written.fallback is original, and a caption is no conversation; leave it out")
        if self.is_indexed and not getattr(self, given[0]):
            raise ValueError(f"{given[0]} is empty; name at least one file, folder or glob")
        folders = (self.image_root, self.downloaded)
        if not self.is_indexed and (self.columns or self.strip or folders != (None, None)):
            raise ValueError("`columns`, `image_root`, `strip` and `downloaded` are of `shards`, `parquet` and `json`")
        if self.published is not None and self.shards is not None:
            raise ValueError("published: these layouts are of `urls`, `parquet` and `json`, not of `shards`")
        if self.published is not None and self.kind != "conversation":
            raise ValueError(f"published: {self.published} gives conversations; say `kind: conversation`")
        if self.is_indexed and self.kind in DOCUMENTS:
            raise ValueError(f"kind: a {self.kind} is read from `pages`; name these files there")
        if self.is_indexed:
            self.index_config()
        if self.pages is not None and not self.pages:
            raise ValueError("pages is empty; name at least one file, folder or glob")
        if self.urls is not None and self.kind in DOCUMENTS:
            raise ValueError(f"kind: a {self.kind} is made of `pages`, and this source has `urls`")
        if self.pages is not None and self.kind not in DOCUMENTS:
            raise ValueError(f"kind: `pages` give documents: say `kind: document`, or `kind: text` (it is {self.kind})")

    @property
    def inputs(self) -> tuple[str, ...]:
        """What `pages` names, or `shards`, `parquet` or `json`."""
        given = next((found for name in ("pages", *INDEXED) if (found := getattr(self, name)) is not None), ())
        return (given,) if isinstance(given, str) else given

    @property
    def is_indexed(self) -> bool:
        """Whether its samples are here already."""
        return self.indexed_as is not None

    @property
    def indexed_as(self) -> str | None:
        """The key that names samples that are here: `shards`, `parquet` or `json`."""
        return next((name for name in INDEXED if getattr(self, name) is not None), None)

    def index_config(self) -> IndexConfig:
        """How these are read."""
        return IndexConfig(
            kind="conversation" if self.kind == "conversation" else "pair",
            columns=self.columns,
            image_root=self.image_root,
            strip=self.strip,
            downloaded=self.downloaded,
            published=self.published,
        )


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """The scorers that judge the samples, and how they run."""

    workers: int | None = None
    """Worker processes; null for as many as Ray has CPUs."""
    model_workers: int | None = None
    """Processes that hold the models of scorers such as `clip`; null for one a GPU. Without GPUs each worker holds them
    itself, unless a number is given."""
    scorers: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """By name, each with its parameters (`image: {}` for the defaults): one that is shipped, or `package.module:Class`
    of your own. With `uses` among the parameters the name is free: `clip_l14: {uses: clip, model: …}`. With `on` it
    judges these populations alone (`on: [pages.images]`), without it all sources of pairs and conversations."""

    def __post_init__(self) -> None:
        for name in ("workers", "model_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more, or null")


@dataclass(frozen=True, kw_only=True)
class DfnScoring:
    """How the trained network scores: DfnScorer's settings, but for which network."""

    device: Device = "auto"
    """Where it runs; auto takes GPUs if the cluster has any."""
    dtype: Dtype = "auto"
    """Of the forward pass; auto is bf16 on a GPU and fp32 on a CPU."""
    batch_size: int = 256
    """Samples in one forward pass, at most."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class DfnEntry(ContrastiveConfig):
    """A data filtering network: whom to trust and how to learn from them. The trainer's settings stand beside these."""

    trust: SelectConfig
    """Which pairs are good: a selection over the scores and the deduplication, as under `select`. Its
    `heldout_fraction` is what retrieval is tested on."""
    sources: tuple[str, ...] = ()
    """Whose pairs it learns from; empty for every source of pairs. All sources of pairs are scored."""
    device: str | None = None
    """Where it is trained, cpu or cuda; null for what is there."""
    scoring: DfnScoring = field(default_factory=DfnScoring)
    """How it scores."""


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerConfig:
    """A small tokenizer made from the run's own selected text."""

    vocab_size: int = 4096
    """Ids, the 256 bytes and 4 control tokens among them."""
    sources: tuple[str, ...] = ()
    """Whose selected texts it is made from; empty for those of all packs. Name some where a selection waits for a model
    of this run (`${run}/training/…`), which itself waits for the tokenizer."""

    def __post_init__(self) -> None:
        if self.vocab_size < 260:
            raise ValueError(f"vocab_size is {self.vocab_size}; give at least 260 (256 bytes and 4 control tokens)")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The tokenizer that plans, packs and trains."""

    train: TrainTokenizerConfig | None = None
    """Make one from the selected texts."""
    name: str | None = None
    """A Hugging Face name, or a folder."""

    def __post_init__(self) -> None:
        if (self.train is None) == (self.name is None):
            raise ValueError("give either `name` (a Hugging Face name or a folder) or `train` (make a small one)")


@dataclass(frozen=True, kw_only=True)
class PackEntry(PlanConfig):
    """One set of packs: what goes in, and how it is stored. The plan's settings stand beside these."""

    sources: tuple[str, ...]
    """Names of the recipe's sources."""
    format: Literal["webdataset", "both"] = "webdataset"
    """`webdataset` is what the trainer reads; `both` adds Open-Qwen2VL's layout, a pickle a sequence."""
    sequences_per_shard: int = 1000
    """Packed sequences in one shard."""
    images: Literal["original", "resized", "reference"] = "original"
    """`original`: as they arrived. `resized`: once, the shorter side to `image_side`. `reference`: where they lie in
    the sources' shards, which must then stay."""
    image_side: int = 512
    """Pixels of a resized image's shorter side; smaller images, and those whose bytes would grow, stay as they are."""
    annotations: dict[str, str] = field(default_factory=dict)
    """By source of pairs, the pass of `dedup` that says which images have several captions, e.g. `{pairs: same_image}`:
    it has `annotations: true`, and the selection keeps `same_image.rank == 0`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sources:
            raise ValueError("sources is empty; name at least one of the recipe's sources")
        if len(set(self.sources)) != len(self.sources):
            raise ValueError(f"sources names one twice: {list(self.sources)}")
        for name in ("image_side", "sequences_per_shard"):
            numbers.whole(name, getattr(self, name))
        if self.images == "resized" and not isinstance(self.per_image, int):
            raise ValueError(
                f"images is resized, but under the layout {self.per_image.kind!r} an image's size decides its length: "
                "give original or reference"
            )


@dataclass(frozen=True, kw_only=True)
class SoupEntry:
    """A mean of what several stages trained, which begin with the same weights (POINTS' model soups)."""

    stages: tuple[str, ...]
    """The stages of training whose last checkpoints are the candidates."""
    method: Literal["average", "maximum", "greedy"] = "average"
    """`average`: all; `maximum`: the best; `greedy`: the best, then each that makes it no worse, by turns."""
    top: int | None = None
    """How many `maximum` takes; null for half."""
    judge: str | None = None
    """The evaluation whose questions, and whose first result, `maximum` and `greedy` go by."""

    def __post_init__(self) -> None:
        if len(set(self.stages)) < 2 or len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages is {list(self.stages)}; name two or more, each once")
        if (self.method == "average") == (self.judge is not None):
            raise ValueError("average takes all and has no `judge`; maximum and greedy need one, an evaluation")
        if self.top is not None and not (self.method == "maximum" and 1 <= self.top <= len(self.stages)):
            raise ValueError(f"top is {self.top}; it is how many stages maximum takes, 1 to {len(self.stages)}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The model and the stages that train it."""

    model: dict[str, Any] = field(default_factory=dict)
    """training.ModelConfig: the encoder, the language model and what joins them."""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By name: `pack`, `init` or `model`, and the settings of training.StageConfig (of SFTConfig, for
    conversations)."""
    soups: dict[str, SoupEntry] = field(default_factory=dict)
    """By name: means of stages' checkpoints. An evaluation's `stage` and a stage's `init` may be one."""
    device: str | None = None
    """cpu or cuda; null for what is there."""
    processes: int | None = None
    """Processes that train together on this machine; null for one a GPU. No stage is done again because it changed."""

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"processes is {self.processes}; give 1 or more, or null for one a GPU")


@dataclass(frozen=True, kw_only=True)
class ExportEntry:
    """A checkpoint of the run as a folder that transformers and vLLM load: `${run}/exports/NAME`."""

    stage: str
    """The training stage, or soup, whose last checkpoint is written."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the weights; fp32 is what the checkpoint holds, bf16 and fp16 are half the size."""


@dataclass(frozen=True, kw_only=True)
class EvaluateEntry(EvaluationConfig):
    """An evaluation of what a training stage has learnt. How it is held stands beside these."""

    stage: str
    """The training stage, or soup, whose last checkpoint answers."""
    data: str | None = None
    """The questions: a file or folder (docs/evaluation.md)."""
    source: str | None = None
    """In place of `data`: what the selection of this source keeps aside. Conversations are asked their questions, pairs
    their captions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.data is None) == (self.source is None):
            raise ValueError("give either `data` (a file of questions) or `source` (what one keeps aside)")


@dataclass(frozen=True, kw_only=True)
class IndividualSelectEntry:
    """POINTS' choice of instruction sources, by `mmcorpus individual-select`: from a base, round for round the
    candidate is added whose addition helps most."""

    stage: str
    """The training stage that is tried, each time on other sources of its pack."""
    base: tuple[str, ...]
    """Sources of its pack that are always in."""
    candidates: tuple[str, ...]
    """Sources of its pack of which each is tried."""
    judge: str
    """The evaluation whose questions each trial is asked; its first result decides."""
    rounds: int | None = None
    """The most candidates that are added; null goes on until none helps."""
    gain: float = 0.0
    """What an addition must gain at least, in the evaluation's own unit (0.01 is one per cent of answers); it must be
    better in any case."""

    def __post_init__(self) -> None:
        if not self.base or not self.candidates:
            raise ValueError("base and candidates name one source or more each")
        named = [*self.base, *self.candidates]
        if len(set(named)) < len(named):
            raise ValueError(f"base and candidates name a source twice: {named}")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; give 1 or more, or null")
        if self.gain < 0:
            raise ValueError(f"gain is {self.gain}; give 0 or more")


@dataclass(frozen=True, kw_only=True)
class StageLinks:
    """What joins a training stage to the rest of the recipe."""

    pack: str
    """Which of the recipe's packs it learns from."""
    init: str | None = None
    """The stage whose last checkpoint it starts from; null begins with `train.model`."""
    model: dict[str, Any] | None = None
    """The model that it begins with, in place of `train.model`."""

    def __post_init__(self) -> None:
        if self.init is not None and self.model is not None:
            raise ValueError("init and model are both given: a stage goes on with a model, or begins with one")


@dataclass(frozen=True, kw_only=True)
class TrainStage:
    """A training stage, resolved."""

    links: StageLinks
    config: "StageConfig"
    model: "ModelConfig | None" = None
    """Of its own."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The HTML report."""

    enabled: bool = True
    """Write report.html at the end of the run."""


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """A recipe as its file is laid out."""

    name: str
    """What the run is called in its summary and report."""
    sources: dict[str, SourceConfig]
    """The lists of samples, by name."""
    seed: int = 0
    """Given to every stage that draws (the site, held-out splits, training) and has no seed of its own."""
    web: WebConfig | None = None
    """A site to serve while downloading; null downloads from the web itself."""
    download: DownloadConfig = field(default_factory=DownloadConfig)
    """How images are fetched and stored."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """What judges them."""
    dedup: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Passes of deduplication, by name: the settings of curation.dedup.DedupConfig (`by`, `sources`, `survivor`,
    `among`) and of the method that `by` names. Columns `NAME.copies`, `NAME.rank`, `NAME.cluster` are for `select`."""
    dfn: DfnEntry | None = None
    """A data filtering network: trained on the pairs that `trust` keeps, it scores all. Columns `dfn.similarity`, … are
    for `select`."""
    select: dict[str, SelectConfig] = field(default_factory=dict)
    """Which samples are kept, by source, and of documents which nodes (`pages.images`, `pages.paragraphs`); what has
    no entry is kept whole."""
    tokenizer: TokenizerConfig | None = None
    """Needed as soon as there are packs."""
    pack: dict[str, PackEntry] = field(default_factory=dict)
    """Sets of packs, by name."""
    train: TrainConfig | None = None
    """What learns from them."""
    export: dict[str, ExportEntry] = field(default_factory=dict)
    """Checkpoints for other programs, by name. A scorer's `model_name` may be one: `${run}/exports/NAME`."""
    evaluate: dict[str, EvaluateEntry] = field(default_factory=dict)
    """What the model answers, by a name of your own."""
    individual_select: IndividualSelectEntry | None = None
    """Which sources of a pack are worth it, for `mmcorpus individual-select`; a run does not look at it."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """What the run shows at the end."""
    sample_budget: SampleBudget = field(default_factory=SampleBudget)
    """What one sample may cost before it is set aside. No stage is done again because it changed."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe that has been checked: the file, and what its free-form sections were resolved to."""

    file: RecipeFile
    downloads: dict[str, DownloadConfig]
    """By source."""
    scorers: dict[str, Scorer]
    """By the name that the recipe uses."""
    on: dict[str, tuple[str, ...]]
    """The populations that each of them judges, by the scorer's own name (its tables')."""
    passes: "dict[str, DedupPass]"
    """The passes of `dedup`, each after those whose columns it reads."""
    model: "ModelConfig | None"
    stages: dict[str, TrainStage]
    """In an order in which each comes after the one it starts from."""
    data: dict[str, Any]
    """The recipe as given, `--set` included: what `recipe.yaml` keeps."""
