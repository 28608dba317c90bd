"""LLaVA's instruction data: a JSON array of conversations beside a folder of images.

`OUT/llava.json` (its parts: `OUT/00000.json`, an array each) holds `{"id", "image", "conversations"}`, the image a path
below OUT, or a list of paths; conversations without an image have none (`llava/train/train.py`: `--data_path
OUT/llava.json --image_folder OUT`). A caption is the answer to its image, as in LLaVA's pretraining data. What else was
known of a sample stands beside: LLaVA passes over other keys.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmcorpus.curation.store import storage
from mmcorpus.packing.export.items import Item, Kind, plain_json
from mmcorpus.packing.export.run import ItemExporter

LIST: Final = "llava.json"
_SAID: Final = frozenset({"id", "image", "images", "widths", "heights", "uid"})
"""Of what is known of a sample, what is said otherwise here, or would be read for its images."""


@dataclass(frozen=True, kw_only=True)
class LlavaExporter(ItemExporter):
    """Writes them."""

    kind: ClassVar[str] = "llava"
    holds: ClassVar[frozenset[Kind]] = frozenset({"pair", "conversation"})
    version: ClassVar[str] = "2"  # no count under `images`; images without a mark open the first question

    def write(self, out: str, name: str, items: Iterator[Item]) -> None:
        lines = []
        for item in items:
            paths = []
            for file, image in item.named_images():
                paths.append(f"images/{name}/{file}")
                storage.write_bytes(storage.join(out, paths[-1]), image.data)
            lines.append(plain_json(_row(item, paths)))
        storage.write_bytes(storage.join(out, f"{name}.json"), _array(lines))

    def finish(self, out: str, names: Sequence[str]) -> None:
        first = True
        with storage.atomic_write(storage.join(out, LIST)) as file:
            file.write(b"[")
            for name in names:
                rows = storage.read_bytes(storage.join(out, f"{name}.json")).strip()[1:-1].strip()
                if rows:
                    file.write((b"\n" if first else b",\n") + rows)
                    first = False
            file.write(b"\n]\n")


def _row(item: Item, paths: list[str]) -> dict[str, Any]:
    image = {"image": paths if len(paths) > 1 else paths[0]} if paths else {}
    more = {name: value for name, value in item.row.items() if name not in _SAID and value is not None}
    return {"id": item.key, **image, "conversations": item.llava(), "uid": item.uid, **more}


def _array(lines: list[str]) -> bytes:
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()
