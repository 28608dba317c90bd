"""The pictures of evaluation sets as CLIP sees them: what a sample's embedding is compared with.

Perceptual hashes find copies; embeddings also find the same thing cropped, framed or photographed again.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.filters.contamination import ITEMS, read_index_table, read_manifest

EMBEDDINGS: Final = "embeddings.parquet"
"""In the index: item, image (fixed-size list of float16, of unit length), in the order of pictures.parquet."""
CLIP: Final = "clip"
"""In the manifest: which model made them, as `NAME@REVISION`; null where the index has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationEmbeddings:
    """The embeddings of all evaluation pictures."""

    vectors: npt.NDArray[np.float32]
    """Unit length, shape (pictures, dimensions)."""
    names: pa.ChunkedArray
    """Of each picture its item, `set/id`."""


def check_embeddings(index: str, revision: str) -> None:
    """Raise ValueError if the index has no embeddings of this model; the message says what to do."""
    made_by = read_manifest(index).get(CLIP)
    if made_by is None:
        raise ValueError(
            f"evaluations: index {index} holds no embeddings; make it again with the model that scores: "
            "mmcorpus evaluations … --set clip.model_name=…"
        )
    if not any(each["pictures"] for each in read_manifest(index)["sets"].values()):
        raise ValueError(f"evaluations: index {index} holds no pictures to be compared with; leave it out")
    if made_by != revision:
        raise ValueError(f"evaluations: index {index} holds embeddings of {made_by}, and this model is {revision}")


def read_embeddings(index: str) -> EvaluationEmbeddings:
    """The embeddings in an index, local or remote."""
    table = read_index_table(index, EMBEDDINGS)
    column: Any = table["image"].combine_chunks()
    vectors = column.flatten().to_numpy().astype(np.float32).reshape(len(column), column.type.list_size)
    return EvaluationEmbeddings(vectors=vectors, names=read_index_table(index, ITEMS)["name"].take(table["item"]))
