"""Content codings undone, within bounds, in linear time."""

import gzip
import time
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from mmcorpus.curation.store import encodings
from mmcorpus.curation.store.encodings import BreaksOff, TooLarge, Undecodable, decode
from tests.linear import assert_linear

DATA = bytes(range(256)) * 400 + b"end"


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress), "x-gzip": (" X-GZIP", gzip.compress), "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw), "brotli": ("br", brotli.compress), "zstd": ("zstd", zstd),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKERS)
def test_each_coding(kind: str) -> None:
    name, pack = PACKERS[kind]
    assert decode(pack(DATA), [name], len(DATA)) == DATA
    with pytest.raises(TooLarge):
        decode(pack(DATA), [name], len(DATA) - 1)
    with pytest.raises(BreaksOff):
        decode(pack(DATA)[:-20], [name], len(DATA))
    with pytest.raises(Undecodable):
        decode(pack(DATA)[:12] + b"\xff" * 50, [name], len(DATA))


@pytest.mark.parametrize("kind", PACKERS)
def test_bombs_cost_their_limit(kind: str) -> None:
    name, pack = PACKERS[kind]
    bomb = pack(bytes(50_000_000))
    start = time.process_time()
    with pytest.raises(TooLarge):
        decode(bomb, [name], 10_000)
    assert time.process_time() - start < 0.5


def test_several_members_and_what_follows_them() -> None:
    assert decode(gzip.compress(DATA) + gzip.compress(b"more"), ["gzip"], 10**6) == DATA + b"more"
    assert decode(gzip.compress(DATA) + b"\0\0padding", ["gzip"], 10**6) == DATA
    assert decode(zstd(DATA) + zstd(b"more"), ["zstd"], 10**6) == DATA + b"more"
    many = gzip.compress(b"x") * encodings.MAX_MEMBERS
    assert decode(many, ["gzip"], 10**6) == b"x" * encodings.MAX_MEMBERS
    with pytest.raises(Undecodable, match="members"):
        decode(many + gzip.compress(b"x"), ["gzip"], 10**6)


def test_codings_are_undone_from_the_last_to_the_first() -> None:
    assert decode(brotli.compress(gzip.compress(DATA)), ["gzip", "br", "identity"], 10**6) == DATA


def test_what_was_undone_already_and_what_is_unknown() -> None:
    assert decode(b"\xff\xd8 a picture", ["gzip", "zstd"], 100) == b"\xff\xd8 a picture"
    with pytest.raises(Undecodable, match="unknown coding 'compress'"):
        decode(DATA, ["compress"], 10**6)


@pytest.mark.parametrize("kind", ["gzip", "raw", "zstd", "brotli"])
def test_time_is_linear(kind: str) -> None:
    name, pack = PACKERS[kind]

    assert_linear(lambda data: decode(data, [name], 10**9), lambda size: pack(bytes(size)), most=20_000_000)
