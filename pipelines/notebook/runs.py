"""A run as a notebook sees it: its funnel, its scores and selections as data frames, its pictures by uid."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmcorpus.curation.selection import SelectConfig, evaluate
from mmcorpus.curation.selection.select import load_columns
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import list_tables, load_scores
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.pipelines.recipe.populations import first_of
from mmcorpus.pipelines.report import reselected
from mmcorpus.pipelines.report.gallery import Place, places
from mmcorpus.pipelines.report.scores import thresholds
from mmcorpus.pipelines.report.svg import Threshold

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A sample to be shown."""

    uid: str
    source: str
    caption: str
    data: bytes
    """The image file, as the shard holds it; empty if it cannot be had."""


class Run:
    """A run's folder (`mmcorpus run … --out FOLDER`), read lazily; what was read once is kept.

    Raises FileNotFoundError if there is no run at `folder`.
    """

    def __init__(self, folder: str) -> None:
        if not storage.exists(storage.join(folder, "run.json")):
            raise FileNotFoundError(
                f"{folder} holds no run (no run.json); make one with: mmcorpus run … --out {folder}"
            )
        self.folder = folder
        self._places: dict[str, tuple[str, Place]] | None = None

    def __repr__(self) -> str:
        return f"Run({self.folder!r})"

    def path(self, *parts: str) -> str:
        """A path inside the run: `run.path("scores", "pairs")`."""
        return storage.join(self.folder, *parts)

    @property
    def sources(self) -> list[str]:
        """Names that have shards: sources, and the nodes of documents (`pages.images`, `pages.paragraphs`)."""
        return storage.list_names(self.path("shards"))

    def funnel(self) -> "pd.DataFrame":
        """Per source and stage: samples entered, kept and dropped, and the rules that dropped most."""
        import pandas as pd

        rows = []
        for source in storage.list_names(self.path("ledger")):
            for count in ledger.funnel(self.path("ledger", source)):
                rows.append(
                    {
                        "source": source,
                        "stage": count.stage,
                        "entered": count.entered,
                        "kept": count.kept,
                        "dropped": sum(count.dropped.values()),
                        "mostly by": ", ".join(f"{rule} ({n:,})" for rule, n in list(count.dropped.items())[:3]),
                    }
                )
        return pd.DataFrame(rows).set_index(["source", "stage"])

    def scores(self, source: str | None = None, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Scores by uid: a column `scorer.column` each, and `source`. All sources and columns unless named.

        Unscored values are NaN (or None). Raises ValueError if there are no scores, or no such column.
        """
        import pandas as pd

        names = [source] if source else [name for name in self.sources if list_tables(self._scores(name))]
        if not names:
            raise ValueError(f"{self.folder} has no scores yet; its recipe needs a `score` section")
        frames = []
        for name in names:
            table = load_scores(self._scores(name), columns=columns)
            frames.append(table.to_pandas().set_index("uid").assign(source=name))
        return pd.concat(frames)

    def keep(self, expression: str, source: str) -> "pd.Index[Any]":
        """The uids of a source for which an expression, as a recipe's `keep` has it, is true; nulls are not.

        `top(x, 0.3)` and the like are taken over the whole source. Raises ExpressionError for what cannot be read.
        """
        import pandas as pd

        table = load_columns(SelectConfig(keep=expression), self._scores(source))
        passed = evaluate(expression, table).fill_null(False)
        return pd.Index(table.filter(passed)["uid"].to_pylist(), name="uid")

    def selected(self, source: str) -> "pd.Index[Any]":
        """The uids that the recipe's own selection kept, held-out ones left out."""
        import pandas as pd

        table = storage.read_table(self.path("selections", f"{source}.parquet"))
        return pd.Index(table["uid"].to_pylist(), name="uid")

    def thresholds(self, source: str) -> dict[str, list[Threshold]]:
        """By column, what the recipe's selection compares it with: `{"image.min_side": [(">=", 100.0)]}`."""
        return thresholds(self.folder, source)

    def captions(self, uids: Iterable[str]) -> list[str]:
        """The captions of samples, in order; empty where there is none."""
        located = self._located()
        return [located[uid][1].caption if uid in located else "" for uid in uids]

    def pictures(self, uids: Iterable[str]) -> list[Picture]:
        """Samples with their image files, in order, of a document its first; only these are read from the tars."""
        located = self._located()
        found = ((uid, *located[uid]) for uid in uids if uid in located)
        return [
            Picture(uid=uid, source=source, caption=place.caption, data=place.image()) for uid, source, place in found
        ]

    def _scores(self, source: str) -> str:
        """The folder of a source's scores, which one that selects from another once more shares with that."""
        return self.path("scores", first_of(source, reselected.sources(self.folder)) or source)

    def _located(self) -> dict[str, tuple[str, Place]]:
        """The source and the `Place` of each downloaded sample, and of each node of a document."""
        if self._places is None:
            self._places = {
                uid: (source, place)
                for source in self.sources
                for shard in list_shards(self.path("shards", source))
                for uid, place in places(shard).items()
            }
        return self._places
