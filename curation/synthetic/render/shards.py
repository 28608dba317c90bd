"""Rendering into shards on Ray: resumable, and the same bytes for any number of workers."""

import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from PIL import Image

from mmcorpus.curation.engine import tasks as engine
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter, list_shards
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.render.config import RENDER_VERSION, RenderConfig, render
from mmcorpus.curation.synthetic.render.conversations import conversations
from mmcorpus.curation.synthetic.render.rendered import Rendered

SIDECAR: Final = "render.json"
"""Beside the shards: the configuration that they were rendered with, and its fingerprint."""
_FORMATS: Final = {"jpg": "jpeg", "png": "png", "webp": "webp"}


def encode(image: Image.Image, image_format: str, quality: int) -> bytes:
    """The picture as the bytes of a `jpg`, `png` or `webp` file."""
    buffer = io.BytesIO()
    options = {} if image_format == "png" else {"quality": quality}
    image.save(buffer, _FORMATS[image_format].upper(), **options)
    return buffer.getvalue()


def to_sample(rendered: Rendered, config: RenderConfig, key: str) -> Sample:
    """A picture as a shard's sample: encoded image, caption, and all that is true of it as JSON text columns."""
    data = encode(rendered.image, config.image_format, config.quality)
    width, height = rendered.image.size
    # The address names the picture's content: kind and seed, and the size where the seed did not choose it.
    url = f"render:{rendered.kind}/{rendered.facts['seed']}" + (f"?size={width}x{height}" if config.size else "")
    meta = {
        "url": url,
        "width": width, "height": height, "original_width": width, "original_height": height,
        "original_format": _FORMATS[config.image_format], "original_mode": "RGB", "original_bytes": len(data),
        "frames": 1, "has_alpha": False, "orientation": 1, "sha256": hashlib.sha256(data).hexdigest(),
        "kind": rendered.kind,
        "captions": _text(rendered.captions),
        "conversations": _text(conversations(rendered)),
        "points": _text([point._asdict() for point in rendered.points]),
        "facts": _text(rendered.facts),
    }  # fmt: skip
    return Sample(
        key=key,
        uid=pair_uid(url, rendered.caption),
        caption=rendered.caption,
        images=(EncodedImage(extension=config.image_format, data=data),),
        meta=meta,
    )


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def render_shards(config: RenderConfig, out: str, *, workers: int | None = None) -> dict[str, int]:
    """Render a set of pictures into img2dataset-layout shards under `out`, on the Ray that is initialised.

    What an earlier or interrupted run committed with the same configuration is kept; shards of another configuration
    are rendered anew, those beyond `count` are removed.

    Args:
        out: a folder or fsspec URL.
        workers: worker processes; None for as many as there are CPUs.

    Returns:
        `samples` and `shards` in the folder, `shards_rendered` and `shards_kept` by this run, and the number of
        pictures of each kind.

    Raises:
        ValueError: `out` holds shards that were not rendered by this function.
        RuntimeError: Ray is not initialised, or a shard could not be written; the others are kept.
    """
    committed = _prepare(config, out)
    missing = [number for number in range(config.shard_count) if number not in committed]
    if missing:
        outcomes = engine.run_shards(
            functools.partial(_make_work, config, out), missing, name=shard_name, title="render", workers=workers
        )
        failures = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failures:
            raise RuntimeError(f"{len(failures)} of {len(outcomes)} shards failed, first: {failures[0]}")
    kinds = Counter(config.sample(index)[0] for index in range(config.count))
    return {
        "samples": config.count,
        "shards": config.shard_count,
        "shards_rendered": len(missing),
        "shards_kept": len(committed),
        **{kind: kinds[kind] for kind in sorted(kinds)},
    }


def shard_name(number: int) -> str:
    """`00012`."""
    return f"{number:05d}"


def _make_work(config: RenderConfig, out: str) -> Callable[[int], dict[str, int]]:
    return functools.partial(render_shard, config, out)


def render_shard(config: RenderConfig, out: str, number: int) -> dict[str, int]:
    """Render and commit one shard; returns the number of pictures of each kind."""
    first = number * config.samples_per_shard
    last = min(first + config.samples_per_shard, config.count)
    digits = max(4, len(str(config.samples_per_shard - 1)))
    kinds: Counter[str] = Counter()
    with ShardWriter(Shard(root=out, name=shard_name(number))) as writer:
        for index in range(first, last):
            kind, seed = config.sample(index)
            key = f"{shard_name(number)}{index - first:0{digits}d}"
            writer.write(to_sample(render(kind, seed, size=config.size), config, key))
            kinds[kind] += 1
    return dict(kinds)


def _prepare(config: RenderConfig, out: str) -> set[int]:
    """The numbers of the shards that are done; what is stale is uncommitted before anything is written over it."""
    sidecar = storage.join(out, SIDECAR)
    present = {int(shard.name): shard for shard in list_shards(out)}
    known = storage.read_json(sidecar) if storage.exists(sidecar) else None
    if present and known is None:
        raise ValueError(f"{out}: holds shards but no {SIDECAR}, so they were not rendered; choose another folder")
    same = known is not None and known["fingerprint"] == config.fingerprint
    committed = set()
    for number, shard in present.items():
        expected = min(config.samples_per_shard, config.count - number * config.samples_per_shard)
        if same and storage.read_json(shard.stats)["count"] == expected:
            committed.add(number)
            continue
        storage.remove(shard.stats)  # first: with it goes the commit
        if expected <= 0:
            storage.remove(shard.tar)
            storage.remove(shard.parquet)
    # Only now may the sidecar change: an interrupted clean-up leaves no shard under another configuration's name.
    storage.write_json(sidecar, {**asdict(config), "fingerprint": config.fingerprint, "version": RENDER_VERSION})
    return committed
