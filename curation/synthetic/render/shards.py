"""Rendering into shards on Ray: resumable, and the same bytes for any number of workers."""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter, list_shards
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.common import saved
from mmcorpus.curation.synthetic.render.config import RENDER_VERSION, RenderConfig, render
from mmcorpus.curation.synthetic.render.conversations import annotations, conversations
from mmcorpus.curation.synthetic.render.engines import versions
from mmcorpus.curation.synthetic.render.rendered import Rendered

_FORMATS: Final = {"jpg": "jpeg", "png": "png", "webp": "webp"}


def to_sample(rendered: Rendered, config: RenderConfig, key: str) -> Sample:
    """A picture as a shard's sample: encoded image, caption, and all that is true of it as JSON text columns."""
    options = {} if config.image_format == "png" else {"quality": config.quality}
    data = saved(rendered.image, _FORMATS[config.image_format].upper(), **options)
    width, height = rendered.image.size
    caption = _caption(rendered, config.caption)
    # The address names the picture's content: kind and seed, and what the seed did not choose.
    asked = [f"size={width}x{height}"] if config.size else []
    asked += ["photo"] if rendered.facts.get("photo") else []
    url = f"render:{rendered.kind}/{rendered.facts['seed']}" + (f"?{'&'.join(asked)}" if asked else "")
    meta = {
        "url": url,
        "width": width, "height": height, "original_width": width, "original_height": height,
        "original_format": _FORMATS[config.image_format], "original_mode": "RGB", "original_bytes": len(data),
        "frames": 1, "has_alpha": False, "orientation": 1, "sha256": hashlib.sha256(data).hexdigest(),
        "kind": rendered.kind,
        "captions": _text(rendered.captions),
        "conversations": _text(conversations(rendered) if config.conversations == "turns" else annotations(rendered)),
        "transcripts": _text(rendered.transcripts),
        "points": _text([point._asdict() for point in rendered.points]),
        "facts": _text(rendered.facts),
    }  # fmt: skip
    return Sample(
        key=key,
        uid=pair_uid(url, caption),
        caption=caption,
        images=(EncodedImage(extension=config.image_format, data=data),),
        meta=meta,
    )


def _caption(rendered: Rendered, which: str) -> str:
    """The caption that a configuration asks for."""
    if which == "drawn":
        return rendered.caption
    if which == "shortest":
        return rendered.captions[0]
    return (rendered.text if which == "text" else "") or rendered.captions[-1]


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
    ran = run_pending(
        functools.partial(_make_work, config, out), range(config.shard_count),
        committed=_prepare(config, out), name=shard_name, title="render", workers=workers,
    ).or_raise()  # fmt: skip
    kinds = Counter(config.sample(index)[0] for index in range(config.count))
    return {
        "samples": config.count,
        "shards": config.shard_count,
        "shards_rendered": len(ran.outcomes),
        "shards_kept": ran.resumed,
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
            writer.write(to_sample(render(kind, seed, size=config.size, photo=config.is_photo(index)), config, key))
            kinds[kind] += 1
    return dict(kinds)


def _prepare(config: RenderConfig, out: str) -> set[str]:
    """The names of the shards that are done; those beyond `count`, and the last one of another count, are removed."""
    settings = {name: value for name, value in asdict(config).items() if name != "count"}
    if engines := versions(config.engines()):
        settings["engines"] = engines
    Output(
        folder=out, holds="rendered shards", made_from=MadeFrom(config=settings, version=str(RENDER_VERSION)),
        stale="replace", earlier=("render.json",),
    ).claim()  # fmt: skip
    committed = set()
    for shard in list_shards(out):
        expected = min(config.samples_per_shard, config.count - int(shard.name) * config.samples_per_shard)
        if storage.read_json(shard.stats)["count"] == expected:
            committed.add(shard.name)
            continue
        for path in (shard.stats, shard.tar, shard.parquet):  # the stats first: with them goes the commit
            storage.remove(path)
    return committed
