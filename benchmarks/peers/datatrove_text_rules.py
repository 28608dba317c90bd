"""datatrove's text filters over a JSON list of texts: decisions and processor seconds, as JSON.

python datatrove_text_rules.py TEXTS.json DECISIONS.json
"""

import json
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)


def main() -> None:
    """Ask each filter about each text; what it divides by zero at, it drops."""
    texts = json.loads(Path(sys.argv[1]).read_text())
    filters = {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "c4": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(),
    }
    results = {}
    for name, one in filters.items():
        one.filter(Document(text="Warm the tokenizer up.", id="0"))
        kept = []
        start = time.process_time()
        for text in texts:
            try:
                kept.append(one.filter(Document(text=text, id="0")) is True)
            except ZeroDivisionError:
                kept.append(False)
        results[name] = {"kept": kept, "seconds": time.process_time() - start}
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
