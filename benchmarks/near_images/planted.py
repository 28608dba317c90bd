"""Corpora of pictures and planted copies, and what a pass made of them."""

import hashlib
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw

from benchmarks.lookalikes import lookalikes
from benchmarks.near_images.copies import COPIES, NOT_PROMISED, encoded
from mmcorpus.curation.dedup import Source
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.miniweb.captions import small_edit
from mmcorpus.filters import SCORERS, DecodedImage, decode_image, judge_batch

ORIGINAL: Final = "original"
SCORED: Final = ("image", "fingerprint")
PER_SHARD: Final = 500
SMALLEST: Final = 48
"""Pixels of a picture's shorter side; copies of smaller ones are icons."""
DRAWN: Final = 24


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One file, and which picture it shows."""

    picture: int
    kind: str
    """Of lookalikes; else empty."""
    group: str
    """Pictures of one group have one layout; those of a real corpus are in groups by chance."""
    made: str
    """ORIGINAL, or how the copy was made."""
    data: bytes
    caption: str


def plant(site: str, pictures: int, seed: int, copied: int) -> list[Planted]:
    """Pictures of a site by chance, equal ones once, each with so many of its copies."""
    rng = random.Random(seed)
    rows = storage.read_table(storage.join(site, "pairs.parquet")).to_pylist()
    rng.shuffle(rows)
    copies = COPIES | NOT_PROMISED
    found: list[Planted] = []
    seen: set[bytes] = set()
    for row in rows:
        host_path = row["url"].split("://")[1]
        data = storage.read_bytes(storage.join(site, "files", host_path))
        decoded = decode_image(data)
        if not isinstance(decoded, DecodedImage) or min(decoded.pixels.shape[:2]) < SMALLEST:
            continue
        pixels = decoded.pixels.tobytes()
        if pixels in seen or len(seen) == pictures:
            continue
        seen.add(pixels)
        picture, image, caption = len(seen) - 1, Image.fromarray(decoded.pixels), row["caption"] or "A picture."
        common = {"picture": picture, "kind": "", "group": str(picture // 4)}
        found.append(Planted(**common, made=ORIGINAL, data=data, caption=caption))
        found.append(Planted(**common, made="caption edited", data=data, caption=small_edit(rng, caption)))
        for made in rng.sample(list(copies), min(copied, len(copies))):
            found.append(Planted(**common, made=made, data=copies[made](image, rng), caption=caption))
    return found


def plant_lookalikes(kinds: Iterable[str], groups: int, members: int, seed: int, copied: int = 3) -> list[Planted]:
    """Pictures that differ in a part, as PNG or JPEG, each with some of the copies."""
    found: list[Planted] = []
    number = 0
    for kind in kinds:
        for group in range(seed * 1000, seed * 1000 + groups):
            rng = random.Random(f"{kind} {group}")
            for image in lookalikes(kind, group, members):
                options = {"kind": "PNG"} if rng.random() < 0.5 else {"quality": 90}
                common = {"picture": number, "kind": kind, "group": f"{kind} {group}", "caption": kind}
                found.append(Planted(**common, made=ORIGINAL, data=encoded(image, **options)))
                for made in rng.sample(list(COPIES), copied):
                    found.append(Planted(**common, made=made, data=COPIES[made](image, rng)))
                number += 1
    return found


def write_corpus(planted: Sequence[Planted], root: Path) -> tuple[Source, list[str]]:
    """Shards and scores of all files; returns the source and the files' uids."""
    source = Source(name="planted", shards=str(root / "shards"), scores=str(root / "scores"))
    scorers = {name: SCORERS[name]() for name in SCORED}
    judges = {name: scorer.load() for name, scorer in scorers.items()}
    uids = [pair_uid(f"http://planted/{number}", each.caption) for number, each in enumerate(planted)]
    for first in range(0, len(planted), PER_SHARD):
        shard = f"{first // PER_SHARD:05d}"
        own = range(first, min(first + PER_SHARD, len(planted)))
        with ShardWriter(Shard(root=source.shards, name=shard)) as writer:
            for number in own:
                image = EncodedImage(extension="jpg", data=planted[number].data)
                meta = {"sha256": hashlib.sha256(planted[number].data).hexdigest()}
                key, caption = f"{number:09d}", planted[number].caption
                writer.write(Sample(key=key, uid=uids[number], caption=caption, images=(image,), meta=meta))
        batch: dict[str, list[Any]] = {"image": [decode_image(planted[number].data) for number in own]}
        batch["meta"] = [{} for _ in own]
        for name, scorer in scorers.items():
            table = judge_batch(scorer, judges[name], batch)
            uid = [uids[number] for number in own]
            write_scores(source.scores, shard, table.add_column(0, "uid", [uid]), Origin.of(scorer))
    return source, uids


def judge(planted: Sequence[Planted], clusters: Sequence[str]) -> tuple[dict[str, Any], dict[tuple[int, int], int]]:
    """Recall by kind of copy and precision; and each two pictures that share a cluster, with how many pairs they give.

    Args:
        clusters: of each file, the survivor's uid.
    """
    originals = {
        each.picture: cluster for each, cluster in zip(planted, clusters, strict=True) if each.made == ORIGINAL
    }
    right, listed = Counter[str](), Counter[str]()
    members: dict[str, Counter[int]] = defaultdict(Counter)
    for each, cluster in zip(planted, clusters, strict=True):
        members[cluster][each.picture] += 1
        if each.made != ORIGINAL:
            for name in (each.made, each.kind):
                listed[name] += 1
                right[name] += cluster == originals[each.picture]
    mixed: Counter[tuple[int, int]] = Counter()
    kinds = {each.picture: each.kind for each in planted}
    true_pairs, false_pairs = Counter[str](), Counter[str]()
    for pictures in members.values():
        for picture, count in pictures.items():
            true_pairs[kinds[picture]] += count * (count - 1) // 2
        for (one, first), (other, second) in itertools.combinations(sorted(pictures.items()), 2):
            mixed[one, other] += first * second
            for kind in {kinds[one], kinds[other]}:
                false_pairs[kind] += first * second
    promised = [made for made in listed if made in COPIES or made == "caption edited"]
    result = {
        "precision": true_pairs.total() / max(1, true_pairs.total() + mixed.total()),
        "recall": sum(right[made] for made in promised) / max(1, sum(listed[made] for made in promised)),
        "false pairs": mixed.total(),
        "pictures confused": len({picture for pair in mixed for picture in pair}),
        "recall by copy": {made: right[made] / listed[made] for made in (*promised, *NOT_PROMISED) if listed[made]},
        "by kind": {
            kind: {
                "precision": true_pairs[kind] / max(1, true_pairs[kind] + false_pairs[kind]),
                "recall": right[kind] / max(1, listed[kind]),
            }
            for kind in dict.fromkeys(kinds.values())
        },
    }
    return result, dict(mixed)


def draw_pairs(planted: Sequence[Planted], mixed: Mapping[tuple[int, int], int], path: Path) -> None:
    """The originals of the pictures that were confused, two by two, most pairs first."""
    shown = sorted(mixed, key=lambda pair: (-mixed[pair], pair))[:DRAWN]
    originals = {each.picture: each for each in planted if each.made == ORIGINAL}
    side, columns = 150, 4
    sheet = Image.new("RGB", (columns * (2 * side + 30), -(-len(shown) // columns) * (side + 34) + 10), "white")
    pen = ImageDraw.Draw(sheet)
    for place, pair in enumerate(shown):
        left, top = (place % columns) * (2 * side + 30) + 8, (place // columns) * (side + 34) + 8
        for number, picture in enumerate(pair):
            decoded = decode_image(originals[picture].data)
            assert isinstance(decoded, DecodedImage)
            image = Image.fromarray(decoded.pixels)
            image.thumbnail((side, side))
            sheet.paste(image, (left + number * (side + 4), top))
            pen.text((left + number * (side + 4), top + side + 4), originals[picture].caption[:24], fill="black")
    sheet.save(path)
