"""Samples as cards in a notebook: picture, caption, a note; HTML that follows JupyterLab's light and dark themes."""

import math
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Union

from mmcorpus.pipelines.notebook.runs import Run

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

Notes = Union[Mapping[str, Any], "pd.Series[Any]", None]
"""By uid, what to write under its picture."""

STYLE: Final = f"<style>{resources.files(__package__).joinpath('gallery.css').read_text()}</style>"


def gallery(
    run: Run, uids: Iterable[str], *, note: Notes = None, title: str = "", most: int = 24, side: int = 128
) -> "HTML":
    """Show samples in the order given.

    Args:
        note: by uid, what to write under the picture: a score, say, as `scores["image.blur"]` gives it.
        most: how many are shown; the title says how many there are.
        side: pixels of a card's picture.
    """
    from IPython.display import HTML

    uids = list(uids)
    shown = run.pictures(uids[:most])
    count = f" · {len(shown):,} of {len(uids):,}" if len(uids) > most else ""
    head = f"<h4>{escape(title)}{count}</h4>" if title or count else ""
    body = "".join(_card(picture.uid, _image(picture.data), picture.caption, note) for picture in shown)
    body = body or '<div class="none">no samples</div>'
    return HTML(f'{STYLE}<div class="mmc" style="--side: {side}px">{head}<div class="cards">{body}</div></div>')


def _image(data: bytes) -> str:
    from mmcorpus.pipelines.report.gallery import thumbnail

    source = thumbnail(data) if data else ""
    return f'<img src="{source}" alt="">' if source else '<span class="none">no picture</span>'


def _card(uid: str, image: str, caption: str, note: Notes) -> str:
    remark = f'<div class="note">{escape(shown(note[uid]))}</div>' if note is not None and uid in note else ""
    return (
        f'<div class="card"><div class="picture">{image}</div><div class="text">{remark}'
        f'<div class="caption" title="{escape(caption)}">{escape(caption)}</div>'
        f'<div class="uid">{uid[:12]}</div></div></div>'
    )


def shown(value: Any) -> str:
    """A score as a person writes it: four significant digits, – for none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return re.sub(r"(\.\d{4})\d+", r"\1", str(value))  # numbers within a text
    return "–" if math.isnan(number) else f"{number:,.0f}" if number == int(number) else f"{number:.4g}"
