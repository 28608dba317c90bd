"""DataComp's image-based filter (Gadre et al. 2023, arXiv:2304.14108, §3.4 and appendix): keep the clusters of the pool
that a target set hits.

The pool's image embeddings are clustered by k-means, each target embedding (ImageNet's training images, there) goes to
its nearest centre, and a sample is kept if a target went to its cluster. What comes out is a score table, so that
`image_based.targets > 0` selects; with `top(clip.similarity, 0.3)` and their filter of captions it is DataComp-1B's
(docs/judging-clip.md). Embeddings have unit length and so have the centres, so that training and assigning measure the
same; DataComp's code trained by distance and assigned by inner product, and clustered only samples whose captions had
passed.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.embeddings import (
    Vectors,
    faiss,
    read_embeddings,
    spherical_k_means,
    to_matrix,
    unit_vectors,
)
from mmcorpus.curation.store.scores import Origin, is_made_by, read_origin, shards_of, table_path, write_scores
from mmcorpus.curation.store.uid import uid_fraction

NAME: Final = "image_based"
VERSION: Final = "1"
SCHEMA: Final = pa.schema({"cluster": pa.int32(), "targets": pa.int32(), "similarity": pa.float32()})
"""cluster: the nearest centre's number. targets: how many of the target set are nearest to it. similarity: the cosine
to that centre. Null where there is no embedding."""
_BLOCK: Final = 4096


@dataclass(frozen=True, kw_only=True)
class ImageBasedConfig:
    """Settings of DataComp's image-based filter: how the pool is clustered."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    scorer: str = "clip"
    """Whose image embeddings: a scorer that ran with `save_embeddings: true`. DataComp's is OpenAI's ViT-L-14."""
    clusters: int = 100_000
    """Centres; DataComp's number for every scale. A pool of fewer samples has as many centres as samples."""
    samples_per_cluster: int = 64
    """Samples that k-means sees for each centre, drawn by uid; at 768 dimensions 100,000 x 64 are 20 GB."""
    iterations: int = 20
    """Of k-means; DataComp's number."""
    seed: int = 0
    """Of the draw and of k-means."""

    def __post_init__(self) -> None:
        for name in ("clusters", "samples_per_cluster", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageBasedReport:
    """The filter's counts."""

    shards: int
    samples: int
    """Of the pool, with an embedding."""
    targets: int
    clusters: int
    clusters_hit: int
    kept: int
    """Samples in clusters that a target hit."""


def image_based_filter(
    config: ImageBasedConfig,
    embeddings_root: str,
    scores_root: str,
    target: str,
    *,
    name: str = NAME,
    workers: int | None = None,
) -> ImageBasedReport:
    """Cluster a source's pool, find which clusters a target set hits, and write a score table per shard.

    Resumes: the centres and the tables that are there and were made of the same embeddings, target and config are kept.
    Runs on the Ray that is initialised.

    Args:
        embeddings_root: of the pool, `embeddings/<source>`.
        scores_root: where the tables go, `scores/<source>`.
        target: embeddings of the target set by the same model: a `.npy` of [targets, dimensions], or the
            `embeddings/<source>` of a source that was scored by a scorer of the same name.
        name: of the score table.

    Raises:
        ValueError: there are no embeddings, or the target's have other dimensions.
        RuntimeError: faiss is missing, Ray is not running, or shards failed.
    """
    shards = shards_of(embeddings_root, config.scorer)
    if not shards:
        raise ValueError(
            f"there are no embeddings of {config.scorer!r} under {embeddings_root}; "
            "give that scorer `save_embeddings: true` and score again"
        )
    targets = _read_target(target, config.scorer)
    origin = _origin(config, embeddings_root, shards, targets, name)
    todo = [shard for shard in shards if not is_made_by(origin, scores_root, shard)]
    folder, centres = storage.join(scores_root, name), f"centres-{origin.fingerprint}.npz"
    for left in storage.list_names(folder):
        if left.startswith("centres-") and (left != centres or not todo):
            storage.remove(storage.join(folder, left))
    if todo:
        centres_path = storage.join(folder, centres)
        if not storage.exists(centres_path):
            _write_centres(centres_path, config, embeddings_root, shards, targets)
        make_work = functools.partial(_make_work, config.scorer, embeddings_root, scores_root, centres_path, origin)
        run_pending(make_work, todo, title=name, workers=workers).or_raise()
        storage.remove(centres_path)
    return _report(scores_root, name, shards, targets)


def _origin(config: ImageBasedConfig, root: str, shards: list[str], targets: Vectors, name: str) -> Origin:
    """What the tables are made of: each shard's embeddings by their maker and uids, the target by its content."""
    state = hashlib.blake2b(digest_size=8)
    model = ""
    for shard in shards:
        table = storage.read_table(table_path(root, config.scorer, shard), ["uid"])
        made = read_origin(table.schema)
        model = str(made.get("model", ""))
        state.update(f"{shard}\0{made.get('fingerprint')}\0{''.join(table['uid'].to_pylist())}\0".encode())
    state.update(np.ascontiguousarray(targets).tobytes())
    state.update(json.dumps([VERSION, asdict(config)], sort_keys=True).encode())
    fingerprint = state.hexdigest()
    return Origin(scorer=name, version=VERSION, model=model, parameters=asdict(config), fingerprint=fingerprint)


def _read_target(target: str, scorer: str) -> Vectors:
    if target.endswith(".npy"):
        fs, inner = storage.filesystem(target)
        with fs.open(inner, "rb") as file:
            vectors = np.load(file, allow_pickle=False)
        if vectors.ndim != 2 or not len(vectors):
            raise ValueError(f"target: {target} holds an array of shape {vectors.shape}; give [targets, dimensions]")
        return unit_vectors(vectors)
    parts = [vectors for _, vectors, _ in _pool(target, scorer, shards_of(target, scorer))]
    if not parts or not sum(map(len, parts)):
        raise ValueError(f"target: there are no embeddings of {scorer!r} under {target}; give such a folder, or a .npy")
    return np.concatenate(parts)


def _pool(root: str, scorer: str, shards: list[str]) -> Iterator[tuple[list[str], Vectors, npt.NDArray[np.bool_]]]:
    """Of each shard: the uids, the vectors of those that have one, and which those are."""
    for shard in shards:
        table = read_embeddings(root, scorer, shard, ["image"])
        matrix, known = to_matrix(table["image"])
        yield table["uid"].to_pylist(), unit_vectors(matrix[known]), known


def _write_centres(path: str, config: ImageBasedConfig, root: str, shards: list[str], targets: Vectors) -> None:
    """Cluster a sample of the pool and count the targets of each cluster."""
    total = sum(int(known.sum()) for _, _, known in _pool(root, config.scorer, shards))
    if total == 0:
        raise ValueError(f"no sample under {root} has an embedding by {config.scorer!r}")
    clusters = min(config.clusters, total)
    share = clusters * config.samples_per_cluster / total
    drawn = [_draw(uids, vectors, known, share, config.seed) for uids, vectors, known in
             _pool(root, config.scorer, shards)]  # fmt: skip
    sample = np.concatenate(drawn)
    if sample.shape[1] != targets.shape[1]:
        raise ValueError(
            f"target: its embeddings have {targets.shape[1]} numbers, the pool's {sample.shape[1]}; embed it with the "
            f"model of {config.scorer!r}"
        )
    clusters = min(clusters, len(sample))
    faiss().omp_set_num_threads(1)  # sums in the same order, whatever the machine
    k_means = {"iterations": config.iterations, "seed": config.seed + 1, "per_cluster": config.samples_per_cluster}
    centres = unit_vectors(spherical_k_means(sample, clusters, **k_means))
    nearest, _ = _nearest(centres, targets)
    with storage.atomic_write(path) as file:
        np.savez(file, centres=centres, targets=np.bincount(nearest, minlength=clusters).astype(np.int32))


def _draw(uids: list[str], vectors: Vectors, known: npt.NDArray[np.bool_], share: float, seed: int) -> Vectors:
    if share >= 1:
        return vectors
    chosen = [uid_fraction(uid, f"image_based {seed}") < share for uid, has in zip(uids, known, strict=True) if has]
    return vectors[np.asarray(chosen, bool)]


def _nearest(centres: Vectors, vectors: Vectors) -> tuple[npt.NDArray[np.int64], Vectors]:
    """The nearest centre of each vector, and the cosine."""
    faiss().omp_set_num_threads(1)
    index = faiss().IndexFlatIP(centres.shape[1])
    index.add(centres)
    found = [index.search(vectors[at : at + _BLOCK], 1) for at in range(0, len(vectors), _BLOCK)]
    similarities = [np.empty((0, 1), np.float32), *(part for part, _ in found)]
    nearest = [np.empty((0, 1), np.int64), *(part for _, part in found)]
    return np.concatenate(nearest)[:, 0], np.concatenate(similarities)[:, 0]


def _make_work(
    scorer: str, embeddings_root: str, scores_root: str, centres_path: str, origin: Origin
) -> Callable[[str], dict[str, Any]]:
    fs, inner = storage.filesystem(centres_path)
    with fs.open(inner, "rb") as file, np.load(file, allow_pickle=False) as kept:
        centres, targets = kept["centres"], kept["targets"]

    def work(shard: str) -> dict[str, Any]:
        (uids, vectors, known), *_ = _pool(embeddings_root, scorer, [shard])
        nearest, similarity = _nearest(centres, vectors)
        columns: dict[str, Any] = {"cluster": nearest, "targets": targets[nearest], "similarity": similarity}
        rows = np.cumsum(known) - 1
        table = pa.table({"uid": uids})
        for field in SCHEMA:
            values = pa.array(columns[field.name]).cast(field.type)
            table = table.append_column(field, values.take(pa.array(rows, mask=~known)))
        reasons = pa.array(["no_embedding"] * len(uids), mask=known)
        info = write_scores(scores_root, shard, table.append_column("reason", reasons), origin)
        return {"samples": info.rows, "kept": int((columns["targets"] > 0).sum())}

    return work


def _report(scores_root: str, name: str, shards: list[str], targets: Vectors) -> ImageBasedReport:
    tables = [storage.read_table(table_path(scores_root, name, shard), ["cluster", "targets"]) for shard in shards]
    table = pa.concat_tables(tables).drop_null()
    clusters, counts = table["cluster"].to_numpy(), table["targets"].to_numpy()
    return ImageBasedReport(
        shards=len(shards),
        samples=table.num_rows,
        targets=len(targets),
        clusters=len(np.unique(clusters)),
        clusters_hit=len(np.unique(clusters[counts > 0])),
        kept=int((counts > 0).sum()),
    )
