"""Gopher's, C4's and FineWeb's rules: texts a second on one core and decisions, ours beside datatrove's.

    python -m benchmarks.text_rules --datatrove PYTHON            # PYTHON: of an environment with datatrove and spacy
    python -m benchmarks.text_rules --texts 200                   # ours alone, small

The texts are the English pages of the Debian Administrator's Handbook (fetched by apt), windows of 1 to 40 paragraphs
of them, and as many made to fail: repeated lines, lists, symbols, pieces without marks. Time is processor time of one
thread after a warm-up, from a text to the decision's columns; datatrove stops at a text's first failing rule, ours
measures all. Decisions are the profiles' clauses over our columns.
"""

import argparse
import json
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from benchmarks.common import show, write_result
from benchmarks.handbook import read_pages
from mmcorpus.curation.selection.evaluate import evaluate
from mmcorpus.filters import PROFILES, SCORERS

RULES: Final = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
PEER: Final = Path(__file__).parent / "peers" / "datatrove_text_rules.py"


def make_texts(count: int, deb: str | None) -> list[str]:
    """Half of them as they are, half made to fail some rule."""
    draw = random.Random(0)
    paragraphs = [text for page in read_pages(deb) if page.language == "en-US" for text in page.paragraphs]
    texts = []
    while len(texts) < count:
        start, size = draw.randrange(len(paragraphs)), draw.randint(1, 40)
        window = paragraphs[start : start + size]
        texts += ["\n\n".join(window), spoil(window, draw)]
    return texts[:count]


def spoil(window: list[str], draw: random.Random) -> str:
    """A text that is near the edge of some rule, or far beyond it."""
    first = window[0]
    match draw.randrange(8):
        case 0:
            return "\n\n".join([*window, *draw.choices(window, k=draw.randint(1, len(window)))])
        case 1:
            return "\n".join(draw.choices(("- an item here", "• a point", "a line.", "and so on..."), k=len(window)))
        case 2:
            return "# " * draw.randint(1, 30) + first
        case 3:
            return first + " ..." * draw.randint(1, 30)
        case 4:
            return " ".join(draw.choices(first.split(), k=draw.randint(1, 300)))
        case 5:
            phrases = ("Enable javascript here.", "We use cookies here.", "Lorem ipsum dolor sit.", "It {a b c} is.")
            return "\n".join([*window, *draw.choices(phrases, k=2)])
        case 6:
            return "\n".join(part for text in window for part in text.split(", "))
        case _:
            return " ".join(first.split()[: draw.randint(1, 12)] * draw.randint(1, 20))


def ours(name: str, texts: list[str]) -> tuple[list[bool], float]:
    """The profile's decisions, and the seconds that the scorer took."""
    scorer = SCORERS[name]()
    judge = scorer.load()
    judge({"caption": ["Warm the tables up."]})
    start = time.process_time()
    columns = judge({"caption": texts})
    seconds = time.process_time() - start
    arrays = {field.name: pa.array(columns[field.name], field.type) for field in scorer.schema()}
    table = pa.table({f"{name}.{column}": array for column, array in arrays.items()})
    verdicts = [decide(clause, table) for clause in PROFILES[name].clauses]
    return [all(one) for one in zip(*verdicts, strict=True)], seconds


def decide(clause: str, table: pa.Table) -> list[bool]:
    """Which rows meet a clause; null is no."""
    return [bool(value) for value in evaluate(clause, table).to_pylist()]


def main() -> None:
    """Run both sides, print the table, write benchmarks/results/text_rules.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=4_000)
    parser.add_argument("--deb", help="a downloaded debian-handbook package; else apt fetches it")
    parser.add_argument("--datatrove", help="the Python of an environment with datatrove and spacy")
    arguments = parser.parse_args()
    texts = make_texts(arguments.texts, arguments.deb)
    theirs: dict[str, Any] = {}
    if arguments.datatrove:
        with tempfile.TemporaryDirectory(prefix="text-rules-") as folder:
            given, taken = Path(folder, "texts.json"), Path(folder, "decisions.json")
            given.write_text(json.dumps(texts))
            subprocess.run([arguments.datatrove, str(PEER), str(given), str(taken)], check=True)
            theirs = json.loads(taken.read_text())
    rows = []
    for name in RULES:
        kept, seconds = ours(name, texts)
        row: dict[str, Any] = {"rules": name, "texts": len(texts), "kept": sum(kept), "texts_s": len(texts) / seconds}
        if theirs:
            peer = theirs[name]
            row["datatrove_kept"] = sum(peer["kept"])
            row["datatrove_texts_s"] = len(texts) / peer["seconds"]
            row["times"] = row["texts_s"] / row["datatrove_texts_s"]
            row["differ"] = sum(a != b for a, b in zip(kept, peer["kept"], strict=True))
        rows.append(row)
    show(f"Rules for texts, {len(texts):,} texts, one thread", rows)
    print(write_result("text_rules", {"rows": rows}))


if __name__ == "__main__":
    main()
