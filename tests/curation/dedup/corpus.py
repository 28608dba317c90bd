"""Small corpora for the tests of methods: pictures as shards with real scores, rows with columns of one's own."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance

from mmcorpus.curation.dedup import Source
from mmcorpus.curation.store.scores import Origin, load_scores, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.filters import SCORERS, decode_image, judge_batch

SCORED = ("image", "caption", "fingerprint")


def encode(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def copies_of(image: Image.Image) -> list[bytes]:
    """The original, and what the web makes of it."""
    width, height = image.size
    cut = (round(width * 0.015), round(height * 0.015), width - round(width * 0.015), height - round(height * 0.015))
    return [
        encode(image),
        encode(image, 45),
        encode(image.resize((round(width * 0.75), round(height * 0.75)), Image.Resampling.LANCZOS)),
        encode(image.crop(cut)),
        encode(ImageEnhance.Brightness(image).enhance(0.8)),
    ]


def source_at(root: Path, name: str = "web") -> Source:
    """A source of a folder laid out as a run is."""
    return Source(
        name=name,
        shards=str(root / "shards" / name),
        scores=str(root / "scores" / name),
        embeddings=str(root / "embeddings" / name),
    )


def make_rows(
    source: Source, rows: Sequence[Mapping[str, Any]], pictures: Sequence[bytes] = (), per_shard: int = 8
) -> list[str]:
    """Shards of rows (`caption` and any other columns), with pictures and their real scores if there are any; returns
    their uids."""
    uids = []
    for first in range(0, len(rows), per_shard):
        name = f"{first // per_shard:05d}"
        batch: dict[str, list[Any]] = {"uid": [], "image": [], "caption": [], "meta": [], "url": []}
        with ShardWriter(Shard(root=source.shards, name=name)) as writer:
            for number, row in enumerate(rows[first : first + per_shard], start=first):
                uids.append(pair_uid(f"{source.name} {number}", ""))
                meta = {key: value for key, value in row.items() if key != "caption"}
                caption = row.get("caption")
                images = (EncodedImage(extension="jpg", data=pictures[number]),) if pictures else ()
                writer.write(Sample(key=f"{number:09d}", uid=uids[-1], caption=caption, images=images, meta=meta))
                image = decode_image(pictures[number]) if pictures else None
                for key, value in (("uid", uids[-1]), ("image", image), ("caption", caption), ("meta", meta)):
                    batch[key].append(value)
                batch["url"].append(row.get("url"))
        for scorer_name in SCORED if pictures else ("caption",):
            scorer = SCORERS[scorer_name]()
            table = judge_batch(scorer, scorer.load(), batch)
            write_scores(source.scores, name, table.add_column(0, "uid", [batch["uid"]]), Origin.of(scorer))
    return uids


def found(name: str, *sources: Source) -> dict[str, tuple[Any, Any, Any]]:
    """(copies, rank, cluster) of every uid."""
    columns = [f"{name}.{column}" for column in ("copies", "rank", "cluster")]
    rows = [row for source in sources for row in load_scores(source.scores, columns=columns).to_pylist()]
    return {row["uid"]: tuple(row[column] for column in columns) for row in rows}
