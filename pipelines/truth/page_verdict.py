"""Quality of extraction and of rules for documents, against the ground truth of a generated site's pages."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode, from_json
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows
from mmcorpus.curation.store.uid import node_uid
from mmcorpus.pipelines.truth.verdict import CLEAN, KEPT, CorruptionVerdict, Fate, dropped, settle_copies

IMAGES: Final = "images"
PARAGRAPHS: Final = "paragraphs"
_NO_DOCUMENT: Final = Fate(stage="extract", rule="no_document")
_NOT_EXTRACTED: Final = Fate(stage="extract", rule="not_extracted")
# Scripts that write no spaces count by the character.
_WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class PageScore:
    """Extraction quality of one page; all are 0-1."""

    url: str
    spoil: str
    text_precision: float
    """Of the extracted words, the share that is content."""
    text_recall: float
    images: float
    """F1 of the content images in order: twice the longest common subsequence over the sum of both lengths."""

    @property
    def text(self) -> float:
        """F1 of the words."""
        total = self.text_precision + self.text_recall
        return 2 * self.text_precision * self.text_recall / total if total else 0.0


@dataclass(kw_only=True)
class PagesVerdict:
    """Verdicts on a site's pages."""

    pages: list[PageScore] = field(default_factory=list)
    """Every page with content that should give a document."""
    verdicts: list[CorruptionVerdict] = field(default_factory=list)
    """Of documents by what is wrong with them (`page: …`), then of nodes of good pages (`image: …`, `text: …`)."""

    def means(self) -> dict[str, float]:
        """Means over the pages, for summary.json; empty without pages."""
        if not self.pages:
            return {}
        names = ("text", "text_precision", "text_recall", "images")
        return {name: round(sum(getattr(page, name) for page in self.pages) / len(self.pages), 4) for name in names}


def compare_pages_with_truth(run_dir: str, truth: str, source: str) -> PagesVerdict:
    """Compare what a run made of a site's pages with their truth.

    Args:
        truth: the site's `pages.truth.parquet`.
        source: of the run, that read the site's `pages/`.
    """
    rows = storage.read_table(truth).to_pylist()
    documents = _documents(storage.join(run_dir, "documents", source))
    fates = _document_fates(run_dir, source, rows, documents)
    result = PagesVerdict()
    found: dict[str, CorruptionVerdict] = {}
    lost = {part: dropped(storage.join(run_dir, "ledger", f"{source}.{part}")) for part in (IMAGES, PARAGRAPHS)}
    for row, fate in zip(rows, fates, strict=True):
        own = row["spoil"] == "other_language" or row["language"] == "en"
        name = f"page: {row['spoil']}" + ("" if own else ", not English")
        found.setdefault(name, CorruptionVerdict.of(name, row)).count(fate)
        document = documents.get((row["url"], row["date"]))
        nodes = document.nodes if document is not None else []
        if row["nodes"]:
            result.pages.append(score_page(row, nodes))
        if document is not None and row["expect"] == ledger.KEPT:
            for name, node, node_fate in _node_fates(row["nodes"], document, lost):
                expect = ledger.KEPT if node["spoil"] is None else ledger.DROPPED
                verdict = CorruptionVerdict.of(name, {**node, "expect": expect, "note": None})
                found.setdefault(name, verdict).count(node_fate)
    levels = ("page", "image", "text")
    result.verdicts = sorted(
        found.values(),
        key=lambda one: (levels.index(one.spoil.partition(":")[0]), one.expect == ledger.DROPPED, one.spoil),
    )
    return result


def score_page(row: dict[str, Any], nodes: Sequence[Node]) -> PageScore:
    """Score what was extracted of a page against its row of the truth; decorative images do not count."""
    wanted = words(node["text"] for node in row["nodes"] if node["text"] is not None)
    found = words(node.text for node in nodes if isinstance(node, TextNode))
    common = (wanted & found).total()
    decorative = {node.url for node in nodes if isinstance(node, ImageNode) and node.decorative is not None}
    # What is planted as an icon may well be called one.
    images = [node for node in row["nodes"] if node["url"] and not (node["spoil"] and node["url"] in decorative)]
    seen = [node.url for node in nodes if isinstance(node, ImageNode) and node.decorative is None]
    pairs = _common(images, seen)
    return PageScore(
        url=row["url"],
        spoil=row["spoil"],
        text_precision=common / found.total() if found else float(not wanted),
        text_recall=common / wanted.total() if wanted else 1.0,
        images=2 * len(pairs) / (len(images) + len(seen)) if images or seen else 1.0,
    )


def words(texts: Iterable[str]) -> Counter[str]:
    """The words of some texts, lower case; of Chinese and Japanese each character."""
    return Counter(word for text in texts for word in _WORD.findall(text.lower()))


def _common(wanted: Sequence[dict[str, Any]], seen: Sequence[str]) -> list[tuple[int, int]]:
    """A longest common subsequence of wanted images and seen addresses, as their positions."""
    choices = [set(node["choices"]) for node in wanted]
    lengths = [[0] * (len(seen) + 1) for _ in range(len(wanted) + 1)]
    for i in reversed(range(len(wanted))):
        for j in reversed(range(len(seen))):
            same = seen[j] in choices[i]
            lengths[i][j] = 1 + lengths[i + 1][j + 1] if same else max(lengths[i + 1][j], lengths[i][j + 1])
    pairs, i, j = [], 0, 0
    while i < len(wanted) and j < len(seen):
        if seen[j] in choices[i]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class _Document:
    uid: str
    nodes: list[Node]


def _documents(root: str) -> dict[tuple[str, str], _Document]:
    """The extracted documents by address and date."""
    found = {}
    for shard in list_shards(root):
        for row in read_rows(shard, ["uid", "status", "url", "date", "nodes"]).to_pylist():
            nodes = from_json(row["nodes"]) if row["status"] == SUCCESS else []
            found[row["url"], row["date"]] = _Document(uid=row["uid"], nodes=nodes)
    return found


def _document_fates(
    run_dir: str, source: str, rows: Sequence[dict[str, Any]], documents: dict[tuple[str, str], _Document]
) -> list[Fate]:
    """The fate of each page; of copies and originals, one kept and one dropped for it count as meant."""
    lost = dropped(storage.join(run_dir, "ledger", source))
    trimmed = list_shards(storage.join(run_dir, "shards", f"{source}.trimmed"))
    images = {r["uid"]: r["images"] for shard in trimmed for r in read_rows(shard, ["uid", "images"]).to_pylist()}
    fates = []
    for row in rows:
        document = documents.get((row["url"], row["date"]))
        fate = _NO_DOCUMENT if document is None else lost.get(document.uid, KEPT)
        if document is not None and fate.kept and row["expect"] == "no_images" and not images.get(document.uid):
            fate = Fate(stage="trim", rule="no_images_left")
        fates.append(fate)
    settle_copies(rows, fates, "url")
    return fates


def _node_fates(
    truth: Sequence[dict[str, Any]], document: _Document, lost: Mapping[str, Mapping[Hashable, Fate]]
) -> Iterator[tuple[str, dict[str, Any], Fate]]:
    """Name, row of the truth and fate of each content node of a good page."""

    def fate(part: str, place: int | None) -> Fate:
        return _NOT_EXTRACTED if place is None else lost[part].get(node_uid(document.uid, place), KEPT)

    images = [node for node in truth if node["url"] is not None]
    seen = [(place, node.url) for place, node in enumerate(document.nodes) if isinstance(node, ImageNode)]
    found = dict(_common(images, [url for _, url in seen]))
    for number, node in enumerate(images):
        place = seen[found[number]][0] if number in found else None
        yield f"image: {node['spoil'] or CLEAN}", node, fate(IMAGES, place)
    texts = {
        frozenset(words([node.text]).items()): place
        for place, node in reversed(list(enumerate(document.nodes)))
        if isinstance(node, TextNode)
    }
    for node in truth:
        if node["text"] is not None:
            place = texts.get(frozenset(words([node["text"]]).items()))
            yield f"text: {node['spoil'] or CLEAN}", node, fate(PARAGRAPHS, place)
