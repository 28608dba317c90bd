"""Does memory stay flat over many pages? Extracts pages of every template, broken ones among them, and samples the RSS.

    python -m benchmarks.extraction_memory                 # 100,000 pages, about 10 minutes
    python -m benchmarks.extraction_memory --pages 2000

Pages are written here, each different; every third is mutated. The result is a table, a JSON and a plot in
benchmarks/results/.
"""

import argparse
import gc
import os
import time
from collections import Counter
from pathlib import Path
from typing import Final

from benchmarks.common import RESULTS, show, write_result
from mmcorpus.curation.html import ExtractError, extract
from tests.curation.html.pages import mutate, write_page

SAMPLES: Final = 100
"""How often memory is looked at."""


def resident_megabytes() -> float:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def page_of(number: int) -> bytes:
    """A page; the numbers give pages of 1 kB to 50 kB, each third one broken."""
    page = b"".join(write_page(number * 31 + part).encode() for part in range(1 + number % 10))
    return mutate(page, write_page(number + 1).encode(), number) if number % 3 == 0 else page


def run(pages: int) -> tuple[list[dict[str, float]], Counter[str]]:
    """Memory and rate at each sample; how many pages ended how."""
    samples: list[dict[str, float]] = []
    ends: Counter[str] = Counter()
    every = max(1, pages // SAMPLES)
    spent = 0.0
    for number in range(pages):
        page = page_of(number)
        start = time.process_time()
        try:
            extract(page, f"https://example.com/{number}.html")
            ends["read"] += 1
        except ExtractError as error:
            ends[error.code] += 1
        spent += time.process_time() - start
        if (number + 1) % every == 0:
            gc.collect()
            samples.append(
                {"pages": number + 1, "rss_mb": resident_megabytes(), "pages_per_second": (number + 1) / spent}
            )
    return samples, ends


def plot(samples: list[dict[str, float]], file: Path) -> None:
    """Memory over pages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3))
    axes.plot([one["pages"] for one in samples], [one["rss_mb"] for one in samples])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("pages extracted")
    axes.set_ylabel("resident memory, MB")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=100_000)
    pages = parser.parse_args().pages
    samples, ends = run(pages)
    tenth = max(1, len(samples) // 10)
    show(f"Memory over {pages:,} pages", [samples[i] for i in range(tenth - 1, len(samples), tenth)])
    second_half = [one["rss_mb"] for one in samples[len(samples) // 2 :]]
    result = {"samples": samples, "ends": dict(ends), "growth_mb_second_half": second_half[-1] - second_half[0]}
    print(f"ends: {dict(ends)}; growth over the second half: {result['growth_mb_second_half']:.1f} MB")
    file = write_result("extraction_memory", result)
    plot(samples, RESULTS / "extraction_memory.png")
    print(f"written to {file} and {RESULTS / 'extraction_memory.png'}")


if __name__ == "__main__":
    main()
