"""Tars of others: what a header claims is checked before it is believed."""

import gzip
import io
import json
import resource
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from mmcorpus.curation.documents import locate
from mmcorpus.curation.download.writer import tar_members
from mmcorpus.curation.store.compressed import decompressed
from mmcorpus.curation.store.shards import Shard, read_samples
from mmcorpus.curation.store.tars import is_readable, read_tar, sample_of
from mmcorpus.packing.inputs import open_tar
from mmcorpus.training.clip import pairs

UID = "0" * 32
END = b"\0" * 1024
IMAGE = b"an image"


def header(name: str, size: int | bytes, kind: bytes = tarfile.REGTYPE, patch: dict[int, bytes] | None = None) -> bytes:
    """A header with a right checksum; `size` as bytes is written as it is."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size if isinstance(size, int) else 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if isinstance(size, bytes):
        block[124:136] = size
    for place, data in (patch or {}).items():
        block[place : place + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 512)


def member(name: str, data: bytes) -> bytes:
    return header(name, len(data)) + padded(data)


def base256(number: int) -> bytes:
    return (b"\x80" if number >= 0 else b"\xff") + (number % (1 << 88)).to_bytes(11, "big")


def pax(*records: str, kind: bytes = tarfile.XHDTYPE) -> bytes:
    data = b""
    for record in records:
        length = len(record.encode()) + 3
        while len(f"{length} {record}\n".encode()) != length:
            length += 1
        data += f"{length} {record}\n".encode()
    return header("pax", len(data), kind) + padded(data)


def sample(key: str) -> bytes:
    return member(f"{key}.jpg", IMAGE) + member(f"{key}.json", json.dumps({"uid": UID, "key": key}).encode())


def gnu_sparse(size: int) -> bytes:
    """A member of 512 bytes that says it is `size` long, the rest zeros."""
    entry = b"%011o\0%011o\0" % (0, 512)
    return header("a.jpg", 512, tarfile.GNUTYPE_SPARSE, {386: entry, 483: b"%011o\0" % size}) + b"x" * 512


def pax_sparse(size: int) -> bytes:
    claims = ("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=a.jpg", f"GNU.sparse.realsize={size}")
    return pax(*claims) + member("a.jpg", padded(b"1\n0\n5\n") + b"pixel")


SPARSE = {
    "GNU's": gnu_sparse(6 << 30),
    "GNU's, extended": header("a.jpg", 512, tarfile.GNUTYPE_SPARSE, {482: b"\1", 483: b"%011o\0" % (6 << 30)})
    + b"\0" * 1024,
    "PAX 1.0": pax_sparse(6 << 30),
    "PAX 0.1": pax("GNU.sparse.map=0,5", f"GNU.sparse.size={6 << 30}") + member("a.jpg", b"pixel"),
}
"""Members of the sample `a` that are not what they say."""
HUGE = 5 << 30
LIES = {
    "a negative size": header("b.jpg", base256(-1024)),
    "minus 1": header("b.jpg", base256(-1)),
    "2^80 bytes": header("b.jpg", base256(1 << 80)),
    "2^60 bytes": header("b.jpg", base256(1 << 60)),
    "5 GiB": header("b.jpg", base256(HUGE)),
    "a long name of 2^33 bytes": header("b.jpg", base256(1 << 33), tarfile.GNUTYPE_LONGNAME),
}
"""Headers of members that do not lie in the tar."""
REFUSED = {
    "a negative size": header("b.jpg", base256(-1024)) + padded(b"x" * 700),
    "2^60 bytes": header("b.jpg", base256(1 << 60)) + padded(b"x" * 700),
    "a PAX record beyond its header": header("pax", 512, tarfile.XHDTYPE) + padded(b"99999 path=x\n") + END,
    "PAX records of 1 GiB": header("@", 1 << 30, tarfile.XHDTYPE) + padded(b"x"),
    "a long name and no member": header("@", 2, tarfile.GNUTYPE_LONGNAME) + padded(b"b\0") + END,
    "an extended sparse header at the end": header("b.jpg", 512, tarfile.GNUTYPE_SPARSE, {482: b"\1"}),
    "a header that is none": bytes([member("b.jpg", b"x")[0] ^ 1]) + member("b.jpg", b"x")[1:] + END,
    "half a header": member("b.jpg", b"x")[:200],
}  # fmt: skip
"""What no sane tar has, behind the sample `a`: nobody knows where the next member lies."""
LONG = b"b" * 200_000
PASSED_OVER = {
    "a negative size": pax("size=-2048"),
    "2^60 bytes": pax(f"size={1 << 60}"),
    "many digits": pax("size=" + "9" * 5000),
    "no number": pax("size=x"),
    "a PAX record of length 0": header("pax", 512, tarfile.XHDTYPE) + padded(b"0 path=x\n"),
    "a PAX record beyond its header": header("pax", 512, tarfile.XHDTYPE) + padded(b"99999 path=x\n"),
    "a long name": header("@", len(LONG), tarfile.GNUTYPE_LONGNAME) + padded(LONG),
    "a long link": header("@", len(LONG), tarfile.GNUTYPE_LONGLINK) + padded(LONG),
    "PAX records of 200 kB": pax("SCHILY.xattr.x=" + "x" * 200_000),
    "a chain of long names": (header("@", 6, tarfile.GNUTYPE_LONGNAME) + padded(b"b.jpg\0")) * 5000,
    "a chain of PAX headers": pax("path=b.jpg") * 5000,
    "digits for ever": (header("@", 60_000, tarfile.XHDTYPE) + padded(b"1" * 60_000)) * 20,
}
"""Extended headers that make no sense, or too many of them: the member behind them is lost, and it alone."""


@contextmanager
def bounded() -> Iterator[None]:
    """Fails for what takes gigabytes or long."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + (512 << 20), hard))
    start = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert time.process_time() - start < 5


def shard(folder: Path, tar: bytes) -> Shard:
    (folder / "00000.tar").write_bytes(tar)
    return Shard(root=str(folder), name="00000")


def read_all(tar: bytes, mode: Literal["r:", "r|"]) -> list[tuple[str, bool]]:
    with read_tar(io.BytesIO(tar), mode) as opened:
        return [(each.name, is_readable(each)) for each in opened]


@pytest.mark.parametrize("mode", ["r:", "r|"])
@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_member_is_not_readable_and_those_behind_it_are(name: str, mode: Literal["r:", "r|"]) -> None:
    with bounded():
        assert read_all(SPARSE[name] + sample("b") + END, mode) == [("a.jpg", False), ("b.jpg", True), ("b.json", True)]


@pytest.mark.parametrize("mode", ["r:", "r|"])
@pytest.mark.parametrize("name", REFUSED)
def test_impossible_headers_are_a_damaged_tar(name: str, mode: Literal["r:", "r|"]) -> None:
    with bounded(), pytest.raises(tarfile.ReadError):
        read_all(sample("a") + REFUSED[name], mode)


@pytest.mark.parametrize("mode", ["r:", "r|"])
@pytest.mark.parametrize("name", LIES)
def test_a_size_that_cannot_be_costs_its_own_member(name: str, mode: Literal["r:", "r|"]) -> None:
    before, behind = [("a.jpg", True), ("a.json", True)], [("c.jpg", True), ("c.json", True)]
    data = padded(b"ustar and " + b"x" * 400 + b"ustar" * 300)
    with bounded():
        found = read_all(sample("a") + LIES[name] + data + LIES[name] + sample("c") + END, mode)
        assert found == [*before, ("b.jpg", False), ("b.jpg", False), *behind]
        assert read_all(sample("a") + LIES[name] + data + END, mode) == [*before, ("b.jpg", False)], "the last"
        with pytest.raises(tarfile.ReadError):
            read_all(sample("a") + LIES[name] * 200 + sample("c") + END, mode)


@pytest.mark.parametrize("name", ["a negative size", "minus 1", "2^80 bytes", "2^60 bytes"])
def test_a_compressed_tar_is_searched_as_well(name: str) -> None:
    file = io.BytesIO(gzip.compress(sample("a") + LIES[name] + padded(b"x" * 700) + sample("c") + END))
    stream, _ = decompressed("a.tar.gz", file, 0)
    with bounded(), read_tar(stream, "r:") as opened:
        assert [(each.name, is_readable(each)) for each in opened] == [
            ("a.jpg", True), ("a.json", True), ("b.jpg", False), ("c.jpg", True), ("c.json", True)
        ]  # fmt: skip


@pytest.mark.parametrize("mode", ["r:", "r|"])
def test_a_tar_that_was_cut_is_damaged_whatever_its_last_member_holds(mode: Literal["r:", "r|"]) -> None:
    inner = (sample("x") + END) * 20
    with pytest.raises(tarfile.ReadError):
        read_all(sample("a") + header("inner.tar", 2 * len(inner)) + inner, mode)


@pytest.mark.parametrize("mode", ["r:", "r|"])
@pytest.mark.parametrize("name", PASSED_OVER)
def test_extended_headers_cost_their_own_member(name: str, mode: Literal["r:", "r|"]) -> None:
    tar = sample("a") + PASSED_OVER[name] + member("b.jpg", b"x" * 700) + sample("c") + END
    with bounded():
        assert read_all(tar, mode) == [
            ("a.jpg", True), ("a.json", True), ("b.jpg", False), ("c.jpg", True), ("c.json", True)
        ]  # fmt: skip


READERS: dict[str, Callable[[Shard], Any]] = {
    "read_samples": lambda shard: list(read_samples(shard)),
    "tar_members": lambda shard: list(tar_members(shard)),
    "clip": pairs._images,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", REFUSED)
def test_every_reader_of_shards_refuses_them(reader: str, name: str, tmp_path: Path) -> None:
    with bounded(), pytest.raises(tarfile.ReadError):
        READERS[reader](shard(tmp_path, sample("a") + REFUSED[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_indexed_before_such_a_header_is_kept(name: str, tmp_path: Path) -> None:
    own = shard(tmp_path, sample("a") + REFUSED[name])
    with bounded():
        members, damage = locate._members(own)
        packed = open_tar(own.tar)
    assert list(members) == ["a"]
    assert damage != "no such member"
    assert [image.data for image in packed.images("a")] == [IMAGE]
    assert packed.damage


@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_image_costs_its_sample(name: str, tmp_path: Path) -> None:
    told = member("a.json", json.dumps({"uid": UID}).encode())
    own = shard(tmp_path, SPARSE[name] + told + sample("b") + END)
    with bounded():
        assert [[image.data for image in each.images] for each in read_samples(own)] == [[b""], [IMAGE]]
        assert list(locate._members(own)[0]) == ["b"]
        assert list(pairs._images(own)) == ["b"]
        packed = open_tar(own.tar)
        with pytest.raises(LookupError):
            packed.images("a")
        assert [image.data for image in packed.images("b")] == [IMAGE]
        with pytest.raises(tarfile.ReadError, match=r"00000\.tar.*a\.jpg"):
            list(tar_members(own))


def test_a_member_over_the_limit_is_not_read(tmp_path: Path) -> None:
    own = shard(tmp_path, b"")
    with open(own.tar, "wb") as file:  # of holes: it takes no room
        file.write(header("a.jpg", base256(HUGE)))
        file.seek(HUGE, io.SEEK_CUR)
        file.write(member("a.json", json.dumps({"uid": UID}).encode()) + sample("b") + END)
    with bounded():
        assert list(locate._members(own)[0]) == ["b"]
        assert [image.data for image in open_tar(own.tar).images("b")] == [IMAGE]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_sane_tars_are_read_as_tarfile_reads_them(format: int) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        names = ["a.jpg", "folder/" + "n" * 90 + ".jpg", "ä/b.json"]
        names += [] if format == tarfile.USTAR_FORMAT else ["d/" * 200 + "e.png", "ü" * 300]
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = number * 700, 1.5 if format == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(b"x" * info.size))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        tar.addfile(link)
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        expected = [(each.name, each.offset, each.offset_data, each.size) for each in tar]
    for mode in ("r:", "r|"):
        file.seek(0)
        with read_tar(file, mode) as tar:
            assert [(each.name, each.offset, each.offset_data, each.size) for each in tar] == expected
        assert [name for name, *_ in expected][: len(names)] == names


@pytest.mark.parametrize(
    "place", ["{}", "./{}", "train/{}", "train.v1/{}", "../../{}", "/a.b/c/{}"], ids=lambda place: place.format("x")
)
def test_members_are_known_by_their_names_in_whatever_folder(tmp_path: Path, place: str) -> None:
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w") as tar:
        about = json.dumps({"uid": UID}).encode()
        for name, data in (("7.jpg", IMAGE), ("._7.jpg", b"of macOS"), ("7.json", about), ("._7.json", b"!")):
            info = tarfile.TarInfo(place.format(name))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (sample,) = read_samples(Shard(root=str(tmp_path), name="00000"))
    assert (sample.key, sample.uid, [image.data for image in sample.images]) == ("7", UID, [IMAGE])
    assert list(open_tar(str(path)).members) == ["7"]


def test_names_are_parted_as_webdataset_does() -> None:
    assert sample_of("a.b/c.0.JPG") == ("c", "0.JPG")
    assert sample_of("./plain") == ("plain", "")
    assert sample_of("a/._c.jpg") == ("", "")


def test_a_json_that_is_no_object_is_no_sample(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        info = tarfile.TarInfo("7.json")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"[1]"))
    assert list(read_samples(Shard(root=str(tmp_path), name="00000"))) == []
