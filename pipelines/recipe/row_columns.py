"""The columns that a population's shards will have: what a pass of deduplication can read beside scores."""

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from mmcorpus.pipelines.recipe.populations import Population

if TYPE_CHECKING:
    from mmcorpus.curation.download.config import DownloadConfig
    from mmcorpus.pipelines.recipe.schema import Recipe

HASHES: Final = frozenset({"md5", "sha256", "sha512"})
_NUMBERS: Final = ("width", "height", "original_width", "original_height", "original_bytes", "frames", "orientation")


def columns_of_rows(population: Population, recipe: "Recipe") -> dict[str, pa.DataType | None]:
    """The columns of a population's shards, by type; None where that is not known before."""
    from mmcorpus.curation.documents.shards import SCHEMA
    from mmcorpus.curation.documents.views import PARAGRAPHS, images_schema

    if population.level == "sample":
        return row_columns(recipe.downloads[population.source])
    if population.level == "document":
        return {column.name: column.type for column in SCHEMA} | {"caption": pa.string(), "image_set": pa.string()}
    view = PARAGRAPHS if population.level == "paragraph" else images_schema(recipe.downloads[population.source])
    return {column.name: column.type for column in view}


def row_columns(download: "DownloadConfig") -> dict[str, pa.DataType | None]:
    """The columns of the shards that a download writes; None for the type of those that its list decides."""
    from mmcorpus.curation.download.config import RESERVED_COLUMNS

    absent = HASHES - {download.compute_hash} | (set() if download.extract_exif else {"exif"})
    kinds: dict[str, pa.DataType | None] = {name: pa.string() for name in RESERVED_COLUMNS - absent}
    kinds |= dict.fromkeys(_NUMBERS, pa.int64()) | {"has_alpha": pa.bool_()}
    return kinds | dict.fromkeys(download.save_additional_columns)
