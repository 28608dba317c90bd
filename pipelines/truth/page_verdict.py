"""Quality of extraction and of rules for documents, against the ground truth of a generated site's pages."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode, from_json
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows
from mmcorpus.curation.store.uid import node_uid
from mmcorpus.pipelines.truth.verdict import CLEAN, Fate, SpoilerVerdict, count_fate, matches

IMAGES: Final = "images"
PARAGRAPHS: Final = "paragraphs"
_NO_DOCUMENT: Final = Fate(stage="extract", rule="no_document")
_NOT_EXTRACTED: Final = Fate(stage="extract", rule="not_extracted")
_KEPT: Final = Fate(stage=None, rule=None)
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
    verdicts: list[SpoilerVerdict] = field(default_factory=list)
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
    found: dict[str, SpoilerVerdict] = {}
    node_fates = {part: _dropped(storage.join(run_dir, "ledger", f"{source}.{part}")) for part in (IMAGES, PARAGRAPHS)}
    for row, fate in zip(rows, fates, strict=True):
        own = row["spoil"] == "other_language" or row["language"] == "en"
        name = f"page: {row['spoil']}" + ("" if own else ", not English")
        count_fate(found.setdefault(name, _verdict(name, row)), fate)
        document = documents.get((row["url"], row["date"]))
        nodes = document.nodes if document is not None else []
        if row["nodes"]:
            result.pages.append(score_page(row, nodes))
        if document is not None and row["expect"] == ledger.KEPT:
            for name, expected, node_fate in _node_fates(row["nodes"], document, node_fates):
                count_fate(found.setdefault(name, _verdict(name, expected)), node_fate)
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


def words(texts: Iterator[str] | Sequence[str]) -> Counter[str]:
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
    dropped = _dropped(storage.join(run_dir, "ledger", source))
    left = _images_left(storage.join(run_dir, "shards", f"{source}.trimmed"))
    fates = []
    for row in rows:
        document = documents.get((row["url"], row["date"]))
        fate = _NO_DOCUMENT if document is None else dropped.get(document.uid, _KEPT)
        if document is not None and fate.kept and row["expect"] == "no_images" and not left.get(document.uid):
            fate = Fate(stage="trim", rule="no_images_left")
        fates.append(fate)
    originals = {row["url"]: place for place, row in enumerate(rows) if row["spoil"] == CLEAN}
    for place, row in enumerate(rows):
        first = originals.get(row["duplicate_of"])
        if first is None or not fates[place].kept or fates[first].kept:
            continue
        if matches(fates[first], row["expect_stage"], row["expect_rule"]):
            fates[place], fates[first] = fates[first], fates[place]
    return fates


def _dropped(root: str) -> dict[str, Fate]:
    """The stage and rule that dropped each uid of a ledger; not fitting a pack does not count."""
    found: dict[str, Fate] = {}
    for stage, table in ledger.read_stages(root).items():
        if stage == "pack":
            continue
        for entry in table.select(["uid", "verdict", "rule"]).to_pylist():
            if entry["verdict"] == ledger.DROPPED:
                found.setdefault(entry["uid"], Fate(stage=stage, rule=entry["rule"]))
    return found


def _images_left(root: str) -> dict[str, int]:
    found = {}
    for shard in list_shards(root):
        for row in read_rows(shard, ["uid", "images"]).to_pylist():
            found[row["uid"]] = row["images"] or 0
    return found


def _node_fates(
    truth: Sequence[dict[str, Any]], document: _Document, dropped: dict[str, dict[str, Fate]]
) -> Iterator[tuple[str, dict[str, Any], Fate]]:
    """Name, expectation and fate of each content node of a good page."""
    images = [node for node in truth if node["url"] is not None]
    places = [place for place, node in enumerate(document.nodes) if isinstance(node, ImageNode)]
    seen = [node.url for node in document.nodes if isinstance(node, ImageNode)]
    found = dict(_common(images, seen))
    for number, node in enumerate(images):
        fate = _NOT_EXTRACTED
        if number in found:
            fate = dropped[IMAGES].get(node_uid(document.uid, places[found[number]]), _KEPT)
        yield f"image: {node['spoil'] or CLEAN}", _expected(node), fate
    texts = {
        frozenset(words([node.text]).items()): place
        for place, node in reversed(list(enumerate(document.nodes)))
        if isinstance(node, TextNode)
    }
    for node in truth:
        if node["text"] is None:
            continue
        text_place = texts.get(frozenset(words([node["text"]]).items()))
        fate = _NOT_EXTRACTED
        if text_place is not None:
            fate = dropped[PARAGRAPHS].get(node_uid(document.uid, text_place), _KEPT)
        yield f"text: {node['spoil'] or CLEAN}", _expected(node), fate


def _expected(node: dict[str, Any]) -> dict[str, Any]:
    return {**node, "expect": ledger.KEPT if node["spoil"] is None else ledger.DROPPED, "note": None}


def _verdict(name: str, row: dict[str, Any]) -> SpoilerVerdict:
    return SpoilerVerdict(
        spoil=name,
        expect=ledger.KEPT if row["expect"] == ledger.KEPT else ledger.DROPPED,
        expect_stage=row["expect_stage"],
        expect_rule=row["expect_rule"],
        note=row["note"],
    )
