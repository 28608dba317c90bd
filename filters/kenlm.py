"""The perplexity of a caption under an n-gram model, as CCNet judges text (Wenzek et al. 2019, §3.3)."""

import importlib.util
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.causal_lm import WHOLE, Measured
from mmcorpus.filters.normal_forms import normalize as normalize_form
from mmcorpus.filters.plain_tokens import clean
from mmcorpus.filters.texts import BLANK, TextScorer
from mmcorpus.filters.weights import is_hub_id, local_copy, weights_identity

# What CCNet's normaliser writes for punctuation of other scripts. Full-width digits have become 0 before.
_PUNCTUATION: Final = str.maketrans(
    dict(zip("，。、∶：？！（）；～〈〉【】％━►–´’", ",.,::?!();~<>[]%---''", strict=True))
    | dict.fromkeys("„”“«»」「《》", '"')
    | {"—": " - ", "．": ". ", "…": "..."}
)
_CONTROL: Final = dict.fromkeys((*range(32), *range(127, 160)))
_DIGIT: Final = re.compile(r"\d")
_NATS: Final = math.log(10)


@dataclass(frozen=True, kw_only=True)
class KenlmScorer(TextScorer):
    """nll_sum: of the caption's words and line ends together, in nats. n_tokens: how many they are. ppl: exp of their
    quotient, which is CCNet's perplexity, 10^(-log10 P / (words + lines)).

    Each line is normalised as CCNet's models were trained (lower case, accents stripped, digits to 0, punctuation to
    ASCII), cut into pieces by its SentencePiece model if there is one, and scored as a sentence; a caption's lines are
    summed. CCNet's own pipeline glues a document's lines into one before it scores them.
    Captions without a word are null (`no_caption`, `blank`).
    """

    file: str
    """The model, `.arpa` or KenLM's binary; a path or a URL."""
    sentencepiece: str | None = None
    """The SentencePiece model that the n-gram model's words come from (CCNet's `en.sp.model`); null where its words are
    separated by spaces."""
    normalize: bool = True
    """CCNet's normalisation before anything else; false for a model of plain text."""

    name: ClassVar[str] = "kenlm"
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        if not self.file:
            raise ValueError("file is empty; give a KenLM model, .arpa or binary")

    def schema(self) -> pa.Schema:
        return WHOLE

    def check(self) -> None:
        for package in ("kenlm", "sentencepiece") if self.sentencepiece else ("kenlm",):
            if importlib.util.find_spec(package) is None:
                raise ValueError(f"it needs {package}; install it with: pip install 'mmcorpus[kenlm]'")
        self.model()

    def model(self) -> str:
        files = [self.file, self.sentencepiece] if self.sentencepiece else [self.file]
        return " ".join(weights_identity(_path(file)) for file in files)

    def load_measure(self) -> Callable[[str], Mapping[str, Any] | str]:
        score, pieces = load_kenlm(_path(self.file)), _load_pieces(self.sentencepiece)

        def measure(caption: str) -> dict[str, Any] | str:
            lines = [normalize(line) if self.normalize else line.strip() for line in clean(caption).splitlines()]
            words = [pieces(line) for line in lines if line]
            if not words:
                return BLANK
            nll = -_NATS * sum(score(line) for line in words)
            return Measured(nll, sum(len(line.split()) + 1 for line in words)).columns()

        return measure


def normalize(line: str) -> str:
    """A line as CCNet's models have seen text (cc_net's `text_normalizer.normalize` with its defaults).

    >>> normalize("Dès 1984, «Été»…")
    'des 0000, "ete"...'
    """
    decomposed = normalize_form("NFD", line.strip().lower())
    bare = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    return _DIGIT.sub("0", bare).translate(_PUNCTUATION).translate(_CONTROL)


def _path(file: str) -> str:
    """The path of the file; a name that looks like a Hugging Face id is taken as a relative path."""
    return f"./{file}" if is_hub_id(file) else file


def load_kenlm(file: str) -> Callable[[str], float]:
    """The model as a function from a line of words to its log10 probability, sentence end included.

    Raises:
        OSError: it is no model.
    """
    import kenlm

    config = kenlm.Config()
    config.show_progress = False
    model = kenlm.Model(local_copy(file), config)
    return lambda line: float(model.score(line, bos=True, eos=True))


def _load_pieces(file: str | None) -> Callable[[str], str]:
    if file is None:
        return lambda line: line
    import sentencepiece

    processor: Any = sentencepiece.SentencePieceProcessor(model_file=local_copy(_path(file)))
    return lambda line: " ".join(processor.encode(line, out_type=str))
