"""Finding the files that a source is made of."""

import gzip
import zipfile
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


def labels(inputs: list[str], **options: object) -> list[str]:
    return [file.label for file in find_inputs(PagesConfig(**options), inputs)]  # type: ignore[arg-type]


def test_pages_of_several_archives_and_folders_are_told_apart(tmp_path: Path) -> None:
    names = ["a/site.zip", "b/site.zip", "b/one.tar.gz", "fold/alpha/i.html", "fold/beta/i.html", "t.jsonl"]
    root = make(tmp_path, *names)
    assert labels([f"{root}/a/site.zip"]) == [""]
    assert labels([f"{root}/a/site.zip", f"{root}/t.jsonl"]) == ["", ""]
    assert labels([f"{root}/a/site.zip", f"{root}/b/one.tar.gz"]) == ["site.zip", "one.tar.gz"]
    assert labels([f"{root}/a/site.zip", f"{root}/b/site.zip"]) == ["a/site.zip", "b/site.zip"]
    assert labels([f"{root}/fold/alpha", f"{root}/fold/beta/"]) == ["alpha", "beta"]
    assert labels([f"{root}/fold/alpha/i.html", f"{root}/fold/beta/i.html"]) == ["alpha", "beta"]
    assert labels([f"{root}/fold"]) == [""]
    assert labels([f"{root}/fold", f"{root}/fold"]) == ["", ""]
    assert labels([f"{root}/b/*"]) == ["one.tar.gz", "site.zip"]
    # Where the user says where they are from, equal paths are one page.
    assert labels([f"{root}/a/site.zip", f"{root}/b/site.zip"], url_prefix="https://a.test/") == ["", ""]
    assert labels(["https://h.test/x.zip?sig=1", "https://h.test/y.zip?sig=2"]) == ["x.zip", "y.zip"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.warc.wat.gz", "a WAT file"),
        ("A.WARC.WAT.GZ", "a WAT file"),
        ("a.wat", "a WAT file"),
        ("a.cdx.gz", "an index of a WARC file"),
        ("a.warc.os.cdx.gz", "an index of a WARC file"),
    ],
)
def test_files_of_crawls_without_pages_are_named(tmp_path: Path, name: str, words: str) -> None:
    root = make(tmp_path, name)
    (tmp_path / "warc.paths").write_text(name)
    for path in (f"{root}/{name}", f"{root}/warc.paths"):
        with pytest.raises(InputError, match=words):
            found(path)
    with pytest.raises(InputError, match="nothing to read"):
        found(root)


def test_files_whose_names_say_nothing_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    record = b"WARC/1.0\r\nWARC-Type: request\r\nContent-Length: 0\r\n\r\n\r\n\r\n"
    kinds = {"crawl": record, "crawl.gz": gzip.compress(record), "old": record.replace(b"1.0", b"0.18")}
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.html", "<p>x")
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
    for name in kinds:
        assert found(str(tmp_path / name)) == [(str(tmp_path / name), "warc", 0)]
    assert found(str(archive)) == [(str(archive), "zip", 0)]
    assert found(str(archive), format="mmc4") == [(str(archive), "zip", 0)], "its files may be tables"
    (tmp_path / "table").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="is a parquet file, and format is html"):
        found(str(tmp_path / "table"), format="html")
    (tmp_path / "ancient").write_bytes(gzip.compress(b"filedesc://a.arc 0.0.0.0 2004 text/plain 76\n"))
    assert found(str(tmp_path / "ancient")) == [(str(tmp_path / "ancient"), "arc", 0)]


def test_lists_are_read_with_bounds(tmp_path: Path) -> None:
    path = tmp_path / "warc.paths.gz"
    path.write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(InputError, match="a line of more than 16,384 bytes"):
        found(str(path))
    path.write_bytes(gzip.compress(b"a.warc\n" * 100_001))
    with pytest.raises(InputError, match="more than 100,000 files"):
        found(str(path))
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfa.warc\n# b.warc\r\n c.warc \n"))
    assert [Path(name).name for name, *_ in found(str(path))] == ["a.warc", "c.warc"]
    path.write_bytes(gzip.compress(b"a.warc\n" * 100)[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        found(str(path))
