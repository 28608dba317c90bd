"""The ground floor: judging. A batch of columns in, a batch of columns out; no files, no Ray.

    from mmcorpus.filters import SCORERS, PROFILES, decode_image
    judge = SCORERS["caption"]().load()
    judge({"caption": ["a red clock on a wall"]})

A scorer of your own is a subclass of `Scorer` that a recipe names as `package.module:ClassName`.
"""

import dataclasses
import importlib
from typing import Final

from mmcorpus.filters.c4 import C4Scorer
from mmcorpus.filters.caption import CaptionScorer
from mmcorpus.filters.clip import ClipScorer
from mmcorpus.filters.contamination import ContaminationScorer
from mmcorpus.filters.decode import MAX_PIXELS, DecodedImage, DecodeFailure, decode_image
from mmcorpus.filters.dfn import DfnScorer
from mmcorpus.filters.document import DocumentScorer
from mmcorpus.filters.faces import FacesScorer
from mmcorpus.filters.fineweb import FinewebScorer
from mmcorpus.filters.fingerprint import FingerprintScorer
from mmcorpus.filters.gopher_quality import GopherQualityScorer
from mmcorpus.filters.gopher_repetition import GopherRepetitionScorer
from mmcorpus.filters.image import ImageScorer
from mmcorpus.filters.image_perplexity import ImagePerplexityScorer
from mmcorpus.filters.image_text import ImageTextScorer
from mmcorpus.filters.kenlm import KenlmScorer
from mmcorpus.filters.language import LanguageScorer
from mmcorpus.filters.mllm import MllmScorer
from mmcorpus.filters.obelics import ObelicsScorer
from mmcorpus.filters.perplexity import PerplexityScorer
from mmcorpus.filters.profiles import PROFILES, Profile
from mmcorpus.filters.run_scorer import judge_batch
from mmcorpus.filters.scorer import Scorer
from mmcorpus.filters.served_perplexity import ServedPerplexityScorer
from mmcorpus.filters.url import UrlScorer
from mmcorpus.filters.written import WrittenScorer

__all__ = [
    "ABOVE",
    "MAX_PIXELS",
    "PROFILES",
    "RULES",
    "SCORERS",
    "DecodeFailure",
    "DecodedImage",
    "Profile",
    "Scorer",
    "decode_image",
    "judge_batch",
    "load_scorer_class",
    "with_defaults",
]

SCORERS: Final[dict[str, type[Scorer]]] = {
    scorer.name: scorer
    for scorer in (
        C4Scorer,
        CaptionScorer,
        ClipScorer,
        ContaminationScorer,
        DfnScorer,
        DocumentScorer,
        FacesScorer,
        FinewebScorer,
        FingerprintScorer,
        GopherQualityScorer,
        GopherRepetitionScorer,
        ImageScorer,
        ImagePerplexityScorer,
        ImageTextScorer,
        KenlmScorer,
        LanguageScorer,
        MllmScorer,
        ObelicsScorer,
        PerplexityScorer,
        ServedPerplexityScorer,
        UrlScorer,
        WrittenScorer,
    )
}
"""The scorers that ship, by the name that recipes use."""

ABOVE: Final = {"checkpoint_perplexity": "mmcorpus.training.caption_perplexity:CheckpointPerplexityScorer"}
"""Those that ship with a higher floor, as `package.module:ClassName`: imported when they are named, like one's own."""

RULES: Final = ("caption", "fingerprint", "image", "language", "url")
"""Those that need nothing but the samples: no model, no index. `mmcorpus score` runs these if none is named."""


def with_defaults(kind: type[Scorer]) -> Scorer | None:
    """A scorer with the defaults of all its parameters; None if it has one without (which model, say)."""
    needed = dataclasses.MISSING
    fields = [field for field in dataclasses.fields(kind) if field.default is needed]
    return None if any(field.default_factory is needed for field in fields) else kind()


def load_scorer_class(name: str) -> type[Scorer]:
    """The scorer class of a shipped name (`image`) or of `package.module:ClassName`.

    Raises:
        ValueError: there is no such scorer; the message says what there is, or what failed to import.
    """
    if name in SCORERS:
        return SCORERS[name]
    module_name, colon, class_name = ABOVE.get(name, name).partition(":")
    if not colon:
        raise ValueError(
            f"there is no scorer {name!r}; there are {', '.join([*SCORERS, *ABOVE])}, "
            "and your own as package.module:ClassName"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"scorer {name!r}: module {module_name!r} cannot be imported: {error}") from error
    except AttributeError as error:
        raise ValueError(f"scorer {name!r}: module {module_name!r} has no {class_name!r}") from error
    if not (isinstance(found, type) and issubclass(found, Scorer)):
        raise ValueError(f"scorer {name!r}: {class_name} is not a subclass of filters.Scorer")
    for attribute in ("name", "version", "inputs"):
        if not hasattr(found, attribute):
            raise ValueError(f"scorer {name!r}: {class_name} does not set the class variable {attribute!r}")
    return found
