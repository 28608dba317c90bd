"""Main content with its images: ours, trafilatura, resiliparse and readability on pages labelled by hand.

    python -m benchmarks.extraction                 # measure all pages
    python -m benchmarks.extraction --show ID       # the gold text and images of a label
    python -m benchmarks.extraction --check         # are the labels sound?

benchmarks/extraction/README.md says how a page is labelled and what is measured.
"""

import argparse
import sys

from benchmarks.extraction.gold import gold_images, gold_text, parse, pictures, problems
from benchmarks.extraction.pages import PageError, read_labels, read_page


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
    parser.add_argument("--show", metavar="ID", help="print a label's gold text and images")
    parser.add_argument("--check", nargs="*", metavar="ID", help="check all labels, or those named")
    options = parser.parse_args()
    if options.show:
        show_label(options.show)
    elif options.check is not None:
        sys.exit(bool(check_labels(options.check)))


if __name__ == "__main__":
    main()
