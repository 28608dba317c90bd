"""Near-duplicate images: how many planted copies are found, and what is taken for a copy and is none.

    python -m benchmarks.near_images --corpus data/tuxpaint --pictures 800

Every picture of a real corpus (a site's folder, e.g. that of `corpora.tuxpaint`), of a mini-web and of `lookalikes`
(pictures that differ in a part: clocks, forms, cards) gets copies as the web makes them: encoded anew, resized,
cropped, of other tones, under an edited caption, all at once. One pass of deduplication runs over originals and copies.
Recall: the share of copies that are in the cluster of their original. Precision: of all pairs in one cluster, the share
that are copies of one picture. Each two pictures of which copies are in one cluster are drawn into
results/near_images_<corpus>.png, beside each other, for eyes to judge: a real corpus holds near duplicates of its own.

Beside ours: files' and pixels' hashes, and the 64-bit hash alone, equal (as Data-Juicer's image_deduplicator compares
it) or within 10 bits (as imagededup does by default).

    python -m benchmarks.near_images --scale 100000 1000000

Instead: the time, memory and disk that one process takes to find the near duplicates among so many made-up hashes, a
fifth of them copies.
"""

import argparse
import hashlib
import io
import itertools
import multiprocessing
import random
import resource
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from benchmarks.common import RESULTS, show, timed, write_result
from benchmarks.lookalikes import HELD_OUT, TUNED, lookalikes
from mmcorpus.curation.dedup import METHODS, Method, Source, deduplicate
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.dedup.same_picture import Picture, same_picture
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, load_scores, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site
from mmcorpus.curation.synthetic.miniweb.captions import small_edit
from mmcorpus.filters import SCORERS, DecodedImage, decode_image, judge_batch

SHIPPED: Final = ("image, fingerprints", "image")
ORIGINAL: Final = "original"
SCORED: Final = ("image", "fingerprint")
PER_SHARD: Final = 500
SMALLEST: Final = 48
"""Pixels of a picture's shorter side; copies of smaller ones are icons."""
DRAWN: Final = 24
COMPARED: Final[dict[str, Method]] = {
    "bytes": METHODS["bytes"](),
    "pixels": METHODS["pixels"](),
    "phash equal": NearImages(verify=False, max_distance=0, aspect_tolerance=9.0),
    "phash within 4": NearImages(verify=False, max_distance=4),
    "phash within 10": NearImages(verify=False, max_distance=10, aspect_tolerance=9.0),
    "image, fingerprints": NearImages(pictures=False),
    "image": NearImages(),
}
"""`image` is what ships, with its defaults; `image, fingerprints` what it does where there are score tables only."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One file, and which picture it shows."""

    picture: int
    kind: str
    """Of lookalikes; else empty."""
    made: str
    """ORIGINAL, or how the copy was made."""
    data: bytes
    caption: str


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scaled(image: Image.Image, share: float) -> Image.Image:
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, Image.Resampling.LANCZOS)


def crop(image: Image.Image, left: float, up: float, right: float, down: float) -> Image.Image:
    """Without these shares of the sides' lengths."""
    width, height = image.size
    return image.crop(
        (round(width * left), round(height * up), width - round(width * right), height - round(height * down))
    )


def gamma(image: Image.Image, power: float) -> Image.Image:
    return image.point([round(255 * (level / 255) ** power) for level in range(256)] * 3)


def either(rng: random.Random, low: float, high: float) -> float:
    """A factor between low and high, or the inverse of one."""
    factor = rng.uniform(low, high)
    return factor if rng.random() < 0.5 else 1 / factor


def one_side(image: Image.Image, rng: random.Random, share: float) -> Image.Image:
    sides = [share, 0.0, 0.0, 0.0]
    rng.shuffle(sides)
    return crop(image, *sides)


def toned(image: Image.Image, rng: random.Random, most: float) -> Image.Image:
    """Brightness, contrast and saturation changed at once."""
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(either(rng, 1, most))
    return image


def bordered(image: Image.Image, share: float) -> Image.Image:
    return ImageOps.expand(image, max(1, round(share * min(image.size))), "white")


def watermarked(image: Image.Image) -> Image.Image:
    result = image.copy()
    size = max(10, image.height // 14)
    place = (image.width - 8, image.height - 6)
    ImageDraw.Draw(result).text(place, "example.org", "white", ImageFont.load_default(size), anchor="rd")
    return result


COPIES: Final[dict[str, Callable[[Image.Image, random.Random], bytes]]] = {
    "JPEG, quality 30-60": lambda image, rng: encoded(image, quality=rng.randint(30, 60)),
    "JPEG, quality 60-95": lambda image, rng: encoded(image, quality=rng.randint(60, 95)),
    "WebP, quality 40-90": lambda image, rng: encoded(image, "WEBP", quality=rng.randint(40, 90)),
    "AVIF, quality 40-90": lambda image, rng: encoded(image, "AVIF", quality=rng.randint(40, 90), speed=9),
    "PNG": lambda image, rng: encoded(image, "PNG", compress_level=1),
    "resized to 25 %": lambda image, rng: encoded(scaled(image, 0.25), quality=85),
    "resized to 50-90 %": lambda image, rng: encoded(scaled(image, rng.uniform(0.5, 0.9)), quality=85),
    "resized to 200 %": lambda image, rng: encoded(scaled(image, 2), quality=85),
    "10-20 % brighter or darker": lambda image, rng: encoded(
        ImageEnhance.Brightness(image).enhance(either(rng, 1.1, 1.2)), quality=85
    ),
    "contrast by 10-25 %": lambda image, rng: encoded(
        ImageEnhance.Contrast(image).enhance(either(rng, 1.1, 1.25)), quality=85
    ),
    "gamma by 10-35 %": lambda image, rng: encoded(gamma(image, either(rng, 1.1, 1.35)), quality=85),
    "saturation by 10-50 %": lambda image, rng: encoded(
        ImageEnhance.Color(image).enhance(either(rng, 1.1, 1.5)), quality=85
    ),
    "resized, toned, quality 40-80": lambda image, rng: encoded(
        toned(scaled(image, rng.uniform(0.5, 0.9)), rng, 1.15), quality=rng.randint(40, 80)
    ),
    "cropped, 5 % of the area, all sides": lambda image, rng: encoded(crop(image, *(0.0127,) * 4), quality=85),
    "cropped, 5 % of one length": lambda image, rng: encoded(one_side(image, rng, 0.05), quality=85),
    "cropped, 5 % of both lengths": lambda image, rng: encoded(crop(image, *(0.025,) * 4), quality=85),
    "cropped by 0-2 % a side, resized": lambda image, rng: encoded(
        scaled(crop(image, *(rng.uniform(0, 0.02) for _ in range(4))), rng.uniform(0.5, 0.95)), quality=80
    ),
}
"""What the web makes of a picture."""
NOT_PROMISED: Final[dict[str, Callable[[Image.Image, random.Random], bytes]]] = {
    "border of 2 %": lambda image, rng: encoded(bordered(image, 0.02), quality=85),
    "watermark": lambda image, rng: encoded(watermarked(image), quality=85),
}
"""Pictures that differ in a part: left apart, and counted in no recall."""


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
        common = {"picture": picture, "kind": ""}
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
                common = {"picture": number, "kind": kind, "caption": kind}
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


def measure(name: str, planted: Sequence[Planted]) -> dict[str, Any]:
    """Find the copies by each method, judge; draws what the shipped method confuses."""
    results: dict[str, Any] = {"files": len(planted), "pictures": len({each.picture for each in planted})}
    with tempfile.TemporaryDirectory() as folder:
        (source, uids), seconds = timed(lambda: write_corpus(planted, Path(folder)))
        results["seconds to score"] = round(seconds, 1)
        for title, method in COMPARED.items():
            table = f"by_{title.replace(' ', '_').replace(',', '')}"
            survivor = "image.min_side"
            work = str(Path(folder) / "dedup" / table)
            report, seconds = timed(
                lambda: deduplicate(table, method, [source], work, survivor=survivor, workers=0)  # noqa: B023
            )
            found = load_scores(source.scores, columns=[f"{table}.cluster"])
            by_uid = dict(zip(found["uid"].to_pylist(), found[f"{table}.cluster"].to_pylist(), strict=True))
            results[title], mixed = judge(planted, [by_uid[uid] or uid for uid in uids])
            results[title] |= {"seconds": round(seconds, 2), "candidates": report.candidates}
            if title == "image" and mixed:
                RESULTS.mkdir(exist_ok=True)
                draw_pairs(planted, mixed, RESULTS / f"near_images_{name}.png")
    return results


def measure_verification(planted: Sequence[Planted], pairs: int = 500) -> dict[str, float]:
    """How fast pictures are decoded and pairs compared, copies and neighbours, in one process."""
    images = [decode_image(each.data) for each in planted[:pairs]]
    pictures, seconds = timed(lambda: [Picture.of(image.pixels) for image in images if isinstance(image, DecodedImage)])
    same = [
        (one, other)
        for one, other in zip(range(len(pictures)), range(1, len(pictures)), strict=False)
        if planted[one].picture == planted[other].picture
    ]
    _, copies = timed(lambda: [same_picture(pictures[one], pictures[other]) for one, other in same])
    return {
        "pictures prepared a second": round(len(pictures) / seconds),
        "copies compared a second": round(len(same) / copies),
    }


def make_hashes(rows: int, root: Path, per_shard: int = 10_000) -> Source:
    """Score tables of made-up pictures: of every five the last is the first but for some bits."""
    source = Source(name="hashes", shards=str(root / "shards"), scores=str(root / "scores"))
    for first in range(0, rows, per_shard):
        rng, count = np.random.default_rng(first), min(per_shard, rows - first)
        phash, dct = (rng.integers(0, 256, (count, size), np.uint8) for size in (8, 32))
        color = rng.integers(0, 256, (count, 48), np.uint8)
        for values, flips in ((phash, 5), (dct, 25)):
            copies, place = values[0 : count - 4 : 5].copy(), np.arange(0, count - 4, 5)
            for _ in range(flips):
                at = rng.integers(0, 8 * values.shape[1], len(copies))
                copies[np.arange(len(copies)), at // 8] ^= (1 << (at % 8)).astype(np.uint8)
            values[place + 4] = copies
        color[place + 4] = color[place]
        uids = [f"{number:032x}" for number in range(first, first + count)]
        shard = Shard(root=source.shards, name=f"{first // per_shard:05d}")
        keys = [f"{number:09d}" for number in range(count)]
        storage.write_table(shard.parquet, pa.table({"key": keys, "uid": uids, "status": ["success"] * count}))
        storage.write_json(shard.stats, {"count": count, "successes": count})
        sides = {
            name: pa.array(np.full(count, 256, np.int32)) for name in ("stored_width", "stored_height", "min_side")
        }
        image = {"uid": uids, "phash": [value.hex() for value in map(bytes, phash)], **sides, "pixel_hash": uids}
        fine = {
            name: [value.hex() for value in map(bytes, values)] for name, values in (("dct", dct), ("color", color))
        }
        for scorer, table in (("image", image), ("fingerprint", {"uid": uids, **fine})):
            write_scores(
                source.scores, shard.name, pa.table(table), Origin(scorer=scorer, version="0", fingerprint="0")
            )
    return source


def scale(rows: int, results: Any) -> None:
    """Find the near duplicates among so many hashes in this process; puts a line."""
    with tempfile.TemporaryDirectory() as folder:
        source = make_hashes(rows, Path(folder))
        work = Path(folder) / "dedup"
        method = NearImages()
        report, seconds = timed(lambda: deduplicate("same", method, [source], str(work), workers=0))
        disk = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    results.put(
        {
            "images": rows,
            "seconds": round(seconds, 1),
            "images a second": round(rows / seconds),
            "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
            "disk MB": round(disk / 2**20),
            "candidates": report.candidates,
            "recall": report.duplicates / (rows // 5),
        }
    )


def measure_scale(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """`scale`, each in a process of its own."""
    context, lines = multiprocessing.get_context("spawn"), []
    for rows in sizes:
        results: Any = context.Queue()
        process = context.Process(target=scale, args=(rows, results))
        process.start()
        lines.append(results.get())
        process.join()
        show("Near duplicates among made-up hashes, one process", lines)
    return lines


def tell(name: str, results: Mapping[str, Any]) -> None:
    """The tables of one corpus."""
    title = f"{name}: {results['pictures']:,} pictures, {results['files']:,} files"
    kinds = ("precision", "recall", "false pairs", "pictures confused", "candidates", "seconds")
    show(title, [{"method": method, **{kind: results[method][kind] for kind in kinds}} for method in COMPARED])
    made = list(results["image"]["recall by copy"])
    rows = [{"copy": kind, **{method: results[method]["recall by copy"][kind] for method in COMPARED}} for kind in made]
    show(f"{name}: recall by kind of copy", rows)
    if len(results["image"]["by kind"]) > 1:
        rows = [
            {
                "kind": kind,
                **{
                    f"{method} {what}": results[method]["by kind"][kind][what]
                    for method in SHIPPED
                    for what in ("precision", "recall")
                },
            }
            for kind in results["image"]["by kind"]
        ]
        show(f"{name}: by kind of picture", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", help="a site's folder; without, the mini-web and the lookalikes alone")
    parser.add_argument("--pictures", type=int, default=800, help="of each corpus, at most")
    parser.add_argument("--groups", type=int, default=6, help="of lookalikes of each kind")
    parser.add_argument("--members", type=int, default=12, help="of each group")
    parser.add_argument("--copies", type=int, default=99, help="of each picture of a corpus, by chance, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, nargs="+", metavar="IMAGES", help="time, memory and disk for so many")
    options = parser.parse_args()
    if options.scale:
        print(write_result("near_images_scale", {"scale": measure_scale(options.scale)}))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        generate_site(MiniWebConfig(pairs=options.pictures, instructions=0, spoil=0.0, seed=options.seed), folder)
        sites = {"miniweb": folder} | ({Path(options.corpus).name: options.corpus} if options.corpus else {})
        corpora = {
            "lookalikes": partial(plant_lookalikes, TUNED, options.groups, options.members, options.seed),
            "lookalikes held out": partial(plant_lookalikes, HELD_OUT, options.groups, options.members, options.seed),
            **{
                name: partial(plant, site, options.pictures, options.seed, options.copies)
                for name, site in sites.items()
            },
        }
        for name, make in corpora.items():
            planted = make()
            found[name] = measure(name.replace(" ", "_"), planted) | {"verification": measure_verification(planted)}
            tell(name, found[name])
            show(f"{name}: verification, one process", [found[name]["verification"]])
    print(write_result("near_images", {"corpora": found, "seed": options.seed}))


if __name__ == "__main__":
    main()
