"""Finding the files that a source is made of."""

import gzip
from pathlib import Path

import pytest

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.inputs import InputError, find_inputs


def found(inputs: str | list[str], **options: object) -> list[tuple[str, str, int]]:
    config = PagesConfig(**options)  # type: ignore[arg-type]
    return [(file.path, file.reader, len(file.names)) for file in find_inputs(config, inputs)]


def make(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return str(folder)


def test_a_folder_is_its_files_by_name_and_its_pages_in_blocks(tmp_path: Path) -> None:
    root = make(tmp_path, "b.warc.gz", "a.warc", "site.zip", "site.tar.gz", "t.parquet", "x/c.jsonl.gz", "notes.md",
                ".hidden.warc", *(f"pages/{number}.html" for number in range(5)))  # fmt: skip
    assert found(root, records_per_shard=2) == [
        (f"{root}/a.warc", "warc", 0),
        (f"{root}/b.warc.gz", "warc", 0),
        (f"{root}/site.tar.gz", "tar", 0),
        (f"{root}/site.zip", "zip", 0),
        (f"{root}/t.parquet", "table", 0),
        (f"{root}/x/c.jsonl.gz", "table", 0),
        (root, "folder", 2),
        (root, "folder", 2),
        (root, "folder", 1),
    ]
    assert found(root, format="html", records_per_shard=100) == [
        (f"{root}/site.tar.gz", "tar", 0),
        (f"{root}/site.zip", "zip", 0),
        (root, "folder", 5),
    ]
    assert found(f"{root}/*.warc*") == [(f"{root}/a.warc", "warc", 0), (f"{root}/b.warc.gz", "warc", 0)]
    assert found([f"{root}/t.parquet", f"{root}/pages/3.html"]) == [
        (f"{root}/t.parquet", "table", 0),
        (f"{root}/pages", "folder", 1),
    ]


def test_lists_of_paths_as_common_crawl_publishes_them(tmp_path: Path) -> None:
    listed = [
        "crawl-data/CC-MAIN-2024-10/segments/1/warc/a.warc.gz",
        "crawl-data/CC-MAIN-2024-10/segments/1/warc/b.warc.gz",
    ]
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress("\n".join(listed).encode()))
    (tmp_path / "warc.paths").write_text("\n".join(listed) + "\n\n")
    for name in ("warc.paths.gz", "warc.paths"):
        path = str(tmp_path / name)
        for prefix in ("https://data.commoncrawl.org/", "s3://commoncrawl/"):
            assert found(path, prefix=prefix) == [(prefix + line, "warc", 0) for line in listed]
        assert found(path) == [(f"{tmp_path}/{line}", "warc", 0) for line in listed]


def test_what_cannot_be_read_is_refused_before_any_work(tmp_path: Path) -> None:
    root = make(tmp_path, "notes.md", "empty.paths", "odd.paths", "data.bin")
    (tmp_path / "empty.paths").write_text("\n")
    (tmp_path / "odd.paths").write_text("a.bin\n")
    (tmp_path / "bare").mkdir()
    for inputs, words in [
        ([], "no input"),
        (f"{root}/missing.warc", "no file or folder"),
        (f"{root}/*.warc", "nothing matches"),
        (f"{root}/notes.md", "neither its name nor its first bytes"),
        (f"{root}/bare", "nothing to read"),
        (f"{root}/empty.paths", "the list is empty"),
        (f"{root}/odd.paths", "names 'a.bin'"),
    ]:
        with pytest.raises(InputError, match=words):
            found(inputs)
    assert found(f"{root}/data.bin", format="warc") == [(f"{root}/data.bin", "warc", 0)]
