"""Main content with its images: ours, trafilatura, resiliparse and readability on pages labelled by hand.

    python -m benchmarks.extraction                          # measure all pages (about 4 minutes)
    python -m benchmarks.extraction --split dev --pages      # one half, a row a page: where it goes wrong
    python -m benchmarks.extraction --only mmcorpus --seconds 0
    python -m benchmarks.extraction --show ID                # the gold text and images of a label
    python -m benchmarks.extraction --check                  # are the labels sound?

The peers are in the extra `bench`: pip install -c constraints.txt -e '.[bench]'. benchmarks/extraction/README.md says
how a page is labelled and what is measured.
"""

import argparse
import contextlib
import gc
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from benchmarks.common import show, write_result
from benchmarks.extraction.extractors import EXTRACTORS, NOTHING, Extraction, Extractor
from benchmarks.extraction.gold import absolute, base_of, gold_images, gold_text, parse, pictures, problems
from benchmarks.extraction.measures import Score, bag_score, image_score, order_score, words
from benchmarks.extraction.pages import Label, PageError, read_labels, read_page


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A labelled page, ready to be measured against."""

    label: Label
    data: bytes
    words: list[str]
    images: list[frozenset[str]]
    base: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One extractor on one page."""

    page: Page
    text: Score
    order: Score
    images: Score


def read_pages(labels: Sequence[Label]) -> Iterator[Page]:
    """The pages that can be had; of the others the reason is printed."""
    for label in labels:
        try:
            data = read_page(label)
        except PageError as error:
            print(f"left out: {error}")
            continue
        tree = parse(data)
        yield Page(
            label=label, data=data, words=words(gold_text(label, tree)), images=gold_images(label, tree),
            base=base_of(label.url, tree),
        )  # fmt: skip


def extract(extractor: Extractor, page: Page, name: str) -> Extraction:
    """An extractor's answer; one that fails gives nothing, and the reason is printed."""
    try:
        return extractor(page.data, page.label.url)
    except Exception as error:  # whatever a library raises on a page is its answer to that page
        print(f"{name} fails on {page.label.id}: {type(error).__name__}: {error}")
        return NOTHING


def judge(extraction: Extraction, page: Page) -> Result:
    """The measures of one answer."""
    found = words(extraction.text)
    images = [absolute(page.base, address) for address in extraction.images]
    return Result(
        page=page,
        text=bag_score(found, page.words),
        order=order_score(found, page.words),
        images=image_score(images, page.images),
    )


def row(results: Sequence[Result]) -> dict[str, float]:
    """Means over pages."""
    mean = statistics.fmean
    return {
        "pages": len(results),
        "text P": mean(one.text.precision for one in results),
        "text R": mean(one.text.recall for one in results),
        "text F1": mean(one.text.f1 for one in results),
        "ordered text F1": mean(one.order.f1 for one in results),
        "images P": mean(one.images.precision for one in results),
        "images R": mean(one.images.recall for one in results),
        "images F1": mean(one.images.f1 for one in results),
    }


def rates(extractors: Mapping[str, Extractor], pages: Sequence[Page], seconds: float) -> dict[str, float]:
    """Pages a second of processor time: the median of rounds over all pages, three or more and for at least `seconds`.

    The extractors take turns, so that what else the machine does falls on all of them.
    """
    rounds: dict[str, list[float]] = {name: [] for name in extractors}
    while waiting := [name for name, spent in rounds.items() if len(spent) < 3 or sum(spent) < seconds]:
        for name in waiting:
            gc.collect()
            start = time.process_time()
            for page in pages:
                with contextlib.suppress(Exception):  # `extract` has said it
                    extractors[name](page.data, page.label.url)
            rounds[name].append(time.process_time() - start)
    return {name: len(pages) / statistics.median(spent) for name, spent in rounds.items()}


def measure(labels: Sequence[Label], names: Sequence[str], seconds: float, *, by_page: bool) -> dict[str, Any]:
    """Tables on the screen; what they hold."""
    pages = list(read_pages(labels))
    rows: dict[str, list[dict[str, Any]]] = {"all": [], "dev": [], "test": []}
    extractors = dict(_made(names))
    speeds = rates(extractors, pages, seconds) if seconds else {}
    for name, extractor in extractors.items():
        results = [judge(extract(extractor, page, name), page) for page in pages]
        for split, found in rows.items():
            chosen = [one for one in results if split in ("all", one.page.label.split)]
            if chosen:
                speed = {"pages/s": speeds[name]} if split == "all" and seconds else {}
                found.append({"who": name, **row(chosen), **speed})
        if by_page:
            show(name, [_page_row(one) for one in sorted(results, key=lambda one: one.text.f1 + one.images.f1)])
    for split, found in rows.items():
        if found:
            show(f"Main content, {split} pages", found)
    return {"rows": rows, "peers": _versions(), "without_images": sum(not page.images for page in pages)}


def _made(names: Sequence[str]) -> Iterator[tuple[str, Extractor]]:
    for name in names:
        try:
            yield name, EXTRACTORS[name]()
        except ImportError as error:
            print(f"{name} is left out: {error}")


def _page_row(result: Result) -> dict[str, Any]:
    label = result.page.label
    return {
        "page": label.id, "kind": label.kind, "text P": result.text.precision, "text R": result.text.recall,
        "text F1": result.text.f1, "ordered text F1": result.order.f1, "images": len(result.page.images),
        "images P": result.images.precision, "images R": result.images.recall, "images F1": result.images.f1,
    }  # fmt: skip


def _versions() -> dict[str, str]:
    found = {}
    for name in ("trafilatura", "resiliparse", "readability-lxml"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def show_label(name: str) -> None:
    """Print what a label says of its page."""
    (label,) = read_labels([name])
    tree = parse(read_page(label))
    print(gold_text(label, tree))
    print("\n--- images of the label")
    for image in gold_images(label, tree):
        print("  ", " | ".join(sorted(image)))
    print("--- images under its selectors, as the markup names them")
    for tag, found in pictures(label, tree):
        print("  ", tag, "; ".join(f"{attribute}={value}" for attribute, value in found))


def check_labels(ids: list[str]) -> int:
    """Print what is wrong with labels; the number of those that are."""
    wrong = 0
    labels = read_labels(ids)
    for label in labels:
        try:
            found = problems(label, read_page(label))
        except PageError as error:
            found = [str(error)]
        wrong += bool(found)
        for problem in found:
            print(f"{label.id}: {problem}")
    print(f"{len(labels)} labels, {wrong} with something wrong")
    return wrong


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--split", choices=["dev", "test"], help="only this half; writes no result")
    parser.add_argument("--only", action="append", choices=list(EXTRACTORS), help="this extractor; writes no result")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each extractor's speed; 0 leaves it out")
    parser.add_argument("--pages", action="store_true", help="a row a page too")
    parser.add_argument("--show", metavar="ID", help="print a label's gold text and images")
    parser.add_argument("--check", nargs="*", metavar="ID", help="check all labels, or those named")
    options = parser.parse_args()
    if options.show:
        show_label(options.show)
    elif options.check is not None:
        sys.exit(bool(check_labels(options.check)))
    else:
        labels = [one for one in read_labels() if options.split in (None, one.split)]
        result = measure(labels, options.only or list(EXTRACTORS), options.seconds, by_page=options.pages)
        if options.split is None and options.only is None:
            print(f"written to {write_result('extraction', result)}")


if __name__ == "__main__":
    main()
