"""Readers fed with inputs that are damaged by the thousand, each within bounds of time and memory.

    python -m tests.mutated READER FIRST COUNT FOLDER

Writes a line of JSON: how many were read, how many refused, and those that did worse, by their numbers. A reader may
give what it finds or refuse, in words that name the file; it may not crash, take long, or take much memory.
"""

import base64
import contextlib
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SECONDS: Final = 20
"""CPU time that one input may take, which is some hundred times what a sound one takes."""
BYTES: Final = 3 << 30
"""Of address space, beyond what the process has when it begins."""

Read = Callable[[Path], Any]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader of the house, with sound inputs to damage."""

    sound: Callable[[Path], list[tuple[str, bytes]]]
    """Files with their names, made once in a folder of their own."""
    read: Read
    """Reads one such file; raises ValueError or OSError with the file's name where it refuses."""


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Bytes with a few things broken, as files of any format break: bits, cuts, runs, numbers, foreign blocks."""
    broken = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        size = len(broken)
        place = chance.randrange(size + 1)
        end = min(size, place + chance.choice((1, 4, 16, 200, 4000)))
        match chance.randrange(9):
            case 0 if size:
                for _ in range(chance.choice((1, 1, 20))):
                    broken[chance.randrange(size)] ^= 1 << chance.randrange(8)
            case 1:
                del broken[place:end]
            case 2:
                broken[place:place] = bytes(broken[place:end]) * chance.choice((1, 3, 100))
            case 3 if other:
                start = chance.randrange(len(other))
                broken[place:end] = other[start : start + chance.choice((4, 40, 4000))]
            case 4:
                del broken[place:]
            case 5:
                broken[place:end] = bytes(end - place)
            case 6:
                number = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1))
                width = chance.choice((2, 4, 8))
                order = chance.choice(("little", "big"))
                broken[place : place + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, order)
            case 7:
                broken[place:place] = chance.randbytes(chance.choice((1, 8, 300)))
            case 8:
                token = chance.choice((b"\n", b'"', b",", b"\t", b"\0", b"{", b"[", b"}", b"-", b"9", b"\xff", b": "))
                broken[place:place] = token * chance.choice((1, 2, 50))
    return bytes(broken)


# Images


def _images(_: Path) -> list[tuple[str, bytes]]:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    picture = Image.fromarray(np.kron(pixels[:12, :16], np.ones((5, 5, 1), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = []
    for name, options in (
        ("a.jpg", {"exif": exif}), ("b.jpg", {"progressive": True}), ("c.png", {"exif": exif}),
        ("d.webp", {"exif": exif}), ("e.gif", {}), ("f.bmp", {}), ("g.tiff", {"compression": "tiff_lzw"}),
        ("h.avif", {}),
    ):  # fmt: skip
        file = io.BytesIO()
        picture.save(file, {"jpg": "JPEG"}.get(name[2:], name[2:].upper()), **options)
        found.append((name, file.getvalue()))
    file = io.BytesIO()
    frames = [picture.rotate(angle) for angle in (30, 60)]
    picture.save(file, "GIF", save_all=True, append_images=frames)
    return [*found, ("i.gif", file.getvalue())]


def _decode(path: Path) -> None:
    from mmcorpus.filters.decode import DecodedImage, decode_image

    found = decode_image(path.read_bytes())
    if not isinstance(found, DecodedImage) and not found.reason:
        raise AssertionError("an image that cannot be decoded has no reason")


def _resize(path: Path) -> None:
    from mmcorpus.curation.download.config import DownloadConfig
    from mmcorpus.curation.download.images import BadImage, inspect
    from mmcorpus.curation.download.resize import UprightResizer

    data, config = path.read_bytes(), DownloadConfig(image_size=64)
    try:
        inspect(data, config.max_pixels)
    except BadImage:
        return
    UprightResizer(config)(data, "", {})


# Lists and tables


def _lists(folder: Path) -> list[tuple[str, bytes]]:
    rows = [{"url": f"http://a.test/{n}.jpg", "caption": f"A “caption”, number {n}", "width": n} for n in range(40)]
    csv = "url,caption,width\n" + "".join(f'{row["url"]},"{row["caption"]}",{row["width"]}\n' for row in rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), folder / "list.parquet")
    return [
        ("a.csv", csv.encode()), ("b.tsv", csv.replace(",", "\t").encode()), ("c.jsonl", lines.encode()),
        ("d.parquet", (folder / "list.parquet").read_bytes()), ("e.csv.gz", gzip.compress(csv.encode())),
        ("f.jsonl.gz", gzip.compress(lines.encode())), ("g.csv", csv.encode("utf-16")),
    ]  # fmt: skip


def _list(path: Path) -> None:
    from mmcorpus.curation.download.config import DownloadConfig
    from mmcorpus.curation.download.lists import normalise

    normalise(DownloadConfig(), str(path), str(path.parent / "lists"), str(path.parent / "ledger"))


def _page_tables(folder: Path) -> list[tuple[str, bytes]]:
    rows = [
        {"url": f"http://a.test/{n}", "html": f"<p>Text number {n}, long enough.<img src=a{n}.jpg>"} for n in range(30)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), folder / "pages.parquet")
    obelics = {
        "images": ["http://a.test/a.jpg", None], "texts": [None, "A text."], "metadata": "[null, null]",
        "general_metadata": json.dumps({"url": "http://a.test/p"}),
    }  # fmt: skip
    mmc4 = {
        "url": "http://a.test/q", "text_list": ["One.", "Two."],
        "image_info": [{"image_name": "a.png", "raw_url": "http://a.test/a.png", "matched_text_index": 1}],
    }  # fmt: skip
    return [
        ("a.jsonl", lines.encode()), ("b.parquet", (folder / "pages.parquet").read_bytes()),
        ("c.jsonl", (json.dumps(obelics) + "\n").encode() * 9), ("d.jsonl", (json.dumps(mmc4) + "\n").encode() * 9),
        ("e.jsonl.gz", gzip.compress(lines.encode())),
    ]  # fmt: skip


def _warcs(folder: Path) -> list[tuple[str, bytes]]:
    from mmcorpus.curation.synthetic.write_warc import Capture, write_warc
    from tests.curation.html.pages import write_page

    pages = [Capture(url=f"http://a.test/{n}", body=write_page(n).encode()) for n in range(12)]
    found = []
    for name in ("a.warc.gz", "b.warc", "c.warc.zst"):
        write_warc(str(folder / name), pages)
        found.append((name, (folder / name).read_bytes()))
    return found


def _extract(path: Path) -> None:
    from mmcorpus.curation.crawl.config import PagesConfig
    from mmcorpus.curation.crawl.inputs import find_inputs
    from mmcorpus.curation.documents.extract import FileExtractor
    from mmcorpus.curation.engine.tasks import attempt

    out = path.parent / "documents"
    for file in find_inputs(PagesConfig(), str(path)):
        outcome = attempt(partial(FileExtractor(PagesConfig(), str(out), images=True), file), file.name)
        if outcome.error is not None:
            raise ValueError(outcome.error)
    shutil.rmtree(out, ignore_errors=True)


def _pages(_: Path) -> list[tuple[str, bytes]]:
    from tests.curation.html.pages import write_page

    return [(f"{n}.html", write_page(n).encode()) for n in range(20)]


def _html(path: Path) -> None:
    from mmcorpus.curation.html import ExtractError, extract

    with contextlib.suppress(ExtractError):
        extract(path.read_bytes(), "https://a.test/p")


# What a run leaves, and what one is told


def _of_a_run(pattern: str, most: int = 6) -> Callable[[Path], list[tuple[str, bytes]]]:
    """Files of the finished run, with their whole folders beside them where a reader wants to have those."""

    def sound(folder: Path) -> list[tuple[str, bytes]]:
        root = folder.parent / "run"
        files = sorted(path for path in root.glob(pattern) if path.is_file())[:most]
        assert files, f"the run has no {pattern}"
        return [(str(path.relative_to(root)), path.read_bytes()) for path in files]

    return sound


def _recipe(path: Path) -> None:
    from mmcorpus.pipelines.recipe.load import load_recipe

    load_recipe(str(path), [])


def _run_state(path: Path) -> None:
    from mmcorpus.pipelines.run.state import RunState

    RunState.load(str(path.parent))


def _shard(path: Path) -> None:
    from mmcorpus.curation.store.shards import list_shards, read_rows, read_samples

    for shard in list_shards(str(path.parent)):
        read_rows(shard)
        for _ in read_samples(shard):
            pass


def _selection(path: Path) -> None:
    from mmcorpus.curation.selection.tables import read_selection

    read_selection(str(path))


def _selections(folder: Path) -> list[tuple[str, bytes]]:
    from mmcorpus.curation.selection.tables import read_selection, write_selection

    selection = read_selection(str(folder.parent / "run" / "selections" / "pairs.parquet"))
    found = []
    for name in ("a.npy", "b.txt", "c.parquet"):
        write_selection(str(folder / name), selection)
        found.append((name, (folder / name).read_bytes()))
    return found


def _scores(path: Path) -> None:
    from mmcorpus.curation.store.scores import load_scores

    load_scores(str(path.parent.parent))


def _pack(path: Path) -> None:
    from mmcorpus.packing.packs import PackReader

    for _ in PackReader(str(path.parent)):
        pass


def _pickle(path: Path) -> None:
    from mmcorpus.packing.pickles import read_pickle

    read_pickle(str(path))


def _sources(folder: Path) -> list[tuple[str, bytes]]:
    """What people have: tars, tables and JSON with the same images."""
    from tests.curation.sources.conftest import as_tar, pairs, write_tar

    own = pairs(4)
    tar = write_tar(folder / "made" / "own.tar", as_tar(own)).read_bytes()
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A boat."}]
    rows = [{"image": {"bytes": pair["image"], "path": None}, "conversations": turns} for pair in own]
    table, parquet = pa.Table.from_pylist(rows), io.BytesIO()
    pq.write_table(table, parquet, row_group_size=2)
    listed = [{"image": base64.b64encode(pair["image"]).decode(), "conversations": turns} for pair in own]
    lines = "\n".join(map(json.dumps, listed))
    found = [
        ("own.tar", tar), ("own.tar.gz", gzip.compress(tar)), ("own.parquet", parquet.getvalue()),
        ("own.json", json.dumps(listed).encode()), ("own.jsonl", lines.encode()),
    ]  # fmt: skip
    for name, make in (("own.arrow", pa.ipc.new_file), ("own.stream", pa.ipc.new_stream)):
        sink = io.BytesIO()
        with make(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        found.append((name, sink.getvalue()))
    return found


def _source(path: Path) -> None:
    from mmcorpus.curation.sources import IndexConfig, index
    from mmcorpus.curation.store.shards import list_shards, read_samples

    out = path.with_suffix(".out")
    shutil.rmtree(out, ignore_errors=True)
    kind = "pair" if ".tar" in path.name else "conversation"
    config = IndexConfig(kind=kind)  # type: ignore[arg-type]
    report = index(config, [str(path)], f"{out}/shards", f"{out}/ledger", workers=0, shown=False)
    assert report.rows == report.samples + sum(report.dropped.values())
    for shard in list_shards(f"{out}/shards"):
        for _ in read_samples(shard):
            pass
    for error in report.failed.values():
        raise ValueError(f"{path}: {error}")


READERS: Final[Mapping[str, Reader]] = {
    "images, decoded": Reader(sound=_images, read=_decode),
    "images, resized": Reader(sound=_images, read=_resize),
    "lists": Reader(sound=_lists, read=_list),
    "tables of pages": Reader(sound=_page_tables, read=_extract),
    "WARC": Reader(sound=_warcs, read=_extract),
    "HTML": Reader(sound=_pages, read=_html),
    "recipes": Reader(sound=_of_a_run("recipe.yaml"), read=_recipe),
    "run.json": Reader(sound=_of_a_run("run.json"), read=_run_state),
    "shards": Reader(sound=_of_a_run("shards/pairs/0*"), read=_shard),
    "documents": Reader(sound=_of_a_run("shards/pages/*"), read=_shard),
    "scores": Reader(sound=_of_a_run("scores/pairs/caption/*.parquet"), read=_scores),
    "selections": Reader(sound=_selections, read=_selection),
    "packs": Reader(sound=_of_a_run("packs/pretrain/*"), read=_pack),
    "sources": Reader(sound=_sources, read=_source),
    "pickles": Reader(sound=_of_a_run("packs/pretrain.pickles/*/*.pkl"), read=_pickle),
}


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def feed(name: str, numbers: range, folder: Path) -> dict[str, Any]:
    """Give a reader its damaged inputs by number; what became of them."""
    reader, work = READERS[name], folder / "work"
    work.mkdir(exist_ok=True)
    sound = reader.sound(work)
    run = folder / "run"
    if (run / sound[0][0]).exists():  # its readers want the folder
        shutil.rmtree(work)
        shutil.copytree(run, work)
    for path, data in sound:
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(data)
        reader.read(work / path)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, resource.RLIM_INFINITY))
    read, refused, worse = 0, 0, list[str]()
    for number in numbers:
        chance = random.Random(f"{name} {number}")
        (path, data), (_, other) = sound[number % len(sound)], chance.choice(sound)
        (work / path).write_bytes(mutate(data, other, chance))
        print(f"{name} {number} ({path})", file=sys.stderr, flush=True)  # the last line names one that ends the process
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            reader.read(work / path)
            read += 1
        except (ValueError, OSError, tarfile.TarError) as error:
            refused += 1
            told = [Path(path).name, Path(path).parent.name, str(work)]
            if not any(word and word in str(error) for word in told):
                worse.append(f"{number} ({path}): names no file: {type(error).__name__}: {error}")
        except Exception as error:
            worse.append(f"{number} ({path}): {type(error).__name__}: {error}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        (work / path).write_bytes(data)
    return {"read": read, "refused": refused, "worse": worse}


if __name__ == "__main__":
    first, count = int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(feed(sys.argv[1], range(first, first + count), Path(sys.argv[4]))), flush=True)
    os._exit(0)  # Arrow's threads that a damaged file left waiting would abort the interpreter's end
