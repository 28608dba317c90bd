"""`mmcorpus export KIND`: samples, documents, packs and questions in the layouts that other programs read."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mmcorpus.pipelines.commands.common import (
    BudgetOption,
    Cluster,
    CpusOption,
    SettingsOption,
    ShardsArgument,
    WorkersOption,
    a_folder,
    budget_of,
    fail_if,
    named,
    read_config,
    say,
)
from mmcorpus.pipelines.commands.data import shards_for
from mmcorpus.pipelines.commands.documents import export_documents

if TYPE_CHECKING:
    from mmcorpus.packing.export.run import Exporter, ExportReport

OutOption = Annotated[str, typer.Option("--out", help="Folder of the export, local or remote.", callback=a_folder)]
SelectionOption = Annotated[
    str | None, typer.Option("--selection", help=".parquet, .npy or .txt; every sample by default.")
]


def _of_samples(make: Callable[[], "Exporter"]) -> Callable[..., None]:
    """The command of an exporter without settings, whose function has its name and help."""

    def command(
        shards: ShardsArgument,
        out: OutOption,
        selection: SelectionOption = None,
        workers: WorkersOption = None,
        num_cpus: CpusOption = None,
    ) -> None:
        _export(make(), shards, out, selection, workers, num_cpus)

    command.__name__, command.__doc__ = make.__name__, make.__doc__
    return command


@_of_samples
def llava() -> "Exporter":
    """LLaVA's JSON beside a folder of images: `llava.json`, `images/…`; pairs and conversations.

    **Lost**: documents and texts (left out, and counted). A caption becomes the answer to its image. The uid stands
    beside (`uid`; `id` says which copy, too), and so does what else the shards know of a sample.

    **Examples**

        mmcorpus export llava chat/shards --selection chat.parquet --out llava/
    """
    from mmcorpus.packing.export.llava import LlavaExporter

    return LlavaExporter()


def parquet(
    source: Annotated[
        str, typer.Argument(metavar="SHARDS|PACKS", help="A folder of shards, data that is indexed first, or packs.")
    ],
    out: OutOption,
    selection: SelectionOption = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Parquet that Hugging Face `datasets` loads, images in the rows: pairs, conversations, texts, documents, packs.

    `datasets.load_dataset(OUT)` decodes the images. Pairs have image and caption, conversations images and
    conversations, documents images and texts as parallel lists; packs a row a sequence, with labels
    and, where the targets have them, weights.

    **Lost**: of documents the images that were not downloaded; packs of images with several captions are refused.

    **Examples**

        mmcorpus export parquet data/shards --selection basic.parquet --out hf/

        mmcorpus export parquet runs/pages/shards/pages.trimmed --out s3://bucket/hf

        mmcorpus export parquet packs/pretrain --out hf-packs/
    """
    from mmcorpus.curation.store.storage import exists, join
    from mmcorpus.packing.export.huggingface import ParquetExporter
    from mmcorpus.packing.export.packed import export_packs

    if not exists(join(source, "manifest.json")):
        _export(ParquetExporter(), source, out, selection, workers, num_cpus)
        return
    if selection is not None:
        raise ValueError("--selection chooses samples of shards; packs are exported whole")
    with Cluster(num_cpus):
        _tell(export_packs(source, out, workers=workers), out)


@_of_samples
def webdataset() -> "Exporter":
    """WebDataset tars, the uid as key: `uid.jpg`, `uid.txt`, `uid.json`; of several images `uid.000.jpg`, …

    mmcorpus reads the result as any shard. The json has all that is known: `conversations`, a document's `nodes`.

    **Lost**: nothing; but Hugging Face's loader of WebDataset refuses documents and conversations, whose samples differ
    in their number of images (`mmcorpus export parquet`).

    **Examples**

        mmcorpus export webdataset data/shards --selection basic.npy --out wds/
    """
    from mmcorpus.packing.export.webdataset import WebdatasetExporter

    return WebdatasetExporter()


@_of_samples
def energon() -> "Exporter":
    """WebDataset tars with the index of NVIDIA's Megatron-Energon (`.nv-meta`), made by its own library; local.

    Pairs load as its CaptioningSample, all else as CrudeSample. All shards are in the split `train`.

    **Lost**: nothing. Needs `pip install 'mmcorpus[energon]'`.

    **Examples**

        mmcorpus export energon data/shards --selection basic.parquet --out energon/
    """
    from mmcorpus.packing.export.energon import EnergonExporter

    return EnergonExporter()


@_of_samples
def mds() -> "Exporter":
    """MosaicML streaming's MDS, by its own writer: `StreamingDataset(local=OUT, batch_size=…)` gives the samples.

    Pairs have `uid`, `image` (bytes), `caption`, `about`; all else `images`, one after the other, with `image_sizes`,
    `conversations`, `nodes`.

    **Lost**: nothing. Needs mosaicml-streaming, installed without its dependencies (docs/exports.md).

    **Examples**

        mmcorpus export mds data/shards --selection basic.parquet --out mds/
    """
    from mmcorpus.packing.export.mds import MdsExporter

    return MdsExporter()


def datacomp(
    shards: ShardsArgument,
    out: OutOption,
    selection: SelectionOption = None,
    scores: Annotated[str | None, typer.Option("--scores", help="Scores of these shards, for --column.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=SCORER.COLUMN", help="A score to add, by name; repeatable."),
    ] = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """DataComp's metadata parquet (uid, url, text, sizes, sha256) and the subset as its sorted `.npy`; pairs.

    **Lost**: the images, which stay in the shards, and all columns but these and the scores that `--column` names.
    `metadata/*.parquet` is a URL list again: `mmcorpus download` with `caption_col=text` and `uid_col=uid`.

    **Examples**

        mmcorpus export datacomp data/shards --selection basic.parquet --out datacomp/

        mmcorpus export datacomp data/shards --scores data/scores
        --column clip_l14_similarity_score=clip_l14.similarity --out datacomp/
    """
    from mmcorpus.packing.export.datacomp import DatacompExporter

    _export(
        DatacompExporter(scores=scores, columns=named(column, "--column")), shards, out, selection, workers, num_cpus
    )


def pickles(
    packs: Annotated[str, typer.Argument(metavar="PACKS", help="A folder of packs.")],
    out: OutOption,
    min_side: Annotated[int, typer.Option(min=1, help="Shrink images whose shorter side is longer to this.")] = 384,
    sample_budget: BudgetOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Open-Qwen2VL's pickles, one a sequence, with the loss mask: `labels` beside `input_ids`.

    Their collator trains what `labels` say; their data set overwrites them with the ids (docs/exports.md has the
    line to change), and then questions and padding are learned as well.

    **Lost**: the images' own bytes (pixels are stored, about ten times as large), uids, sources, what must not see each
    other. Packs of images with several captions, or of other layouts than squares, are refused.

    **Examples**

        mmcorpus export pickles packs/sft --out sft.pkl/
    """
    from mmcorpus.packing.pickles import write_pickles
    from mmcorpus.pipelines.stages.packing import over_ray

    with budget_of(sample_budget), Cluster(num_cpus, lazy=True) as cluster:
        stats = write_pickles(packs, out, min_side=min_side, map_fn=over_ray(cluster.start, out, few=0))
    say(f"{out}: {sum(len(one['len']) for one in stats):,} sequences in {len(stats):,} shards")
    if lost := sum(len(one["undecodable"]) for one in stats):
        say(f"{lost:,} samples are left out: their images cannot be decoded (named in the stats)")


def obelics(
    shards: Annotated[str, typer.Argument(metavar="SHARDS", help="Trimmed documents: RUN/shards/SOURCE.trimmed.")],
    out: OutOption,
    selection: SelectionOption = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Documents in OBELICS's schema: parallel lists of texts and images, which are their addresses.

    The same as `mmcorpus export-documents`.

    **Lost**: the images' bytes, but for those whose page carries them in its address; breaks between texts that follow
    each other are blank lines. uids are kept in `general_metadata`.

    **Examples**

        mmcorpus export obelics runs/pages/shards/pages.trimmed --out obelics/
    """
    export_documents(shards, out, selection=selection, workers=workers, num_cpus=num_cpus)


def vlmevalkit(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Questions, as evaluate takes them.")],
    out: Annotated[str, typer.Option("--out", help="The folder that LMUData will name.", callback=a_folder)],
    name: Annotated[str, typer.Option("--name", help="Of the data set; its metric's benchmark is added.")],
    settings: SettingsOption = None,
) -> None:
    """Questions as a tsv with their images, for VLMEvalKit to ask a served model (docs/evaluation.md).

    `--set` takes the settings of `mmcorpus evaluate` that say how questions are read (`images`, `only`, `limit`,
    `metric`, …). All questions must be judged by one of choice, exact, vqa, relaxed, anls and pope.

    **Lost**: questions without an image or with several right choices (counted); where an image stands in a text.

    **Examples**

        mmcorpus export vlmevalkit questions.jsonl --out LMUData/ --name looks --set limit=500
    """
    from mmcorpus.training.evaluation import EvaluationConfig, read_questions
    from mmcorpus.training.evaluation.vlmevalkit import write_tsv

    written = write_tsv(read_questions(data, read_config(EvaluationConfig, settings)), out, name)
    say(f"{written.path}: {written.questions:,} questions")
    if written.left_out:
        say("left out: " + ", ".join(f"{count:,} {reason}" for reason, count in written.left_out.items()))
    say(f"VLMEvalKit: --data {written.name} --data-config '{written.data_config}'")


KINDS: Final[tuple[Callable[..., None], ...]] = (
    *(llava, parquet, webdataset, energon, mds),
    *(datacomp, pickles, obelics, vlmevalkit),
)
"""As the help lists them; each by its function's name."""


def _export(
    exporter: "Exporter", shards: str, out: str, selection: str | None, workers: int | None, num_cpus: int | None
) -> None:
    from mmcorpus.packing.export.run import export_samples

    with Cluster(num_cpus):
        found, unread = shards_for(shards, out, workers=workers)
        _tell(export_samples(exporter, found.folder, out, selection=selection, workers=workers), out, unread)


def _tell(report: "ExportReport", out: str, unread: Sequence[str] = ()) -> None:
    resumed = f" ({report.resumed:,} were there)" if report.resumed else ""
    say(f"{out}: {report.samples:,} samples with {report.images:,} images in {report.shards:,} shards{resumed}")
    if report.left_out:
        say("left out: " + ", ".join(f"{count:,} {reason}" for reason, count in report.left_out.items()))
    if report.missing:
        say(f"{report.missing:,} selected samples are in none of the shards")
    fail_if([*unread, *(f"{name}: {error}" for name, error in report.failed.items())])
    if not report.samples:
        raise RuntimeError(f"nothing was exported to {out}: this layout holds none of these samples")
