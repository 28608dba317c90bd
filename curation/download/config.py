"""The options of a download, by img2dataset's names where it has them."""

import ipaddress
from dataclasses import dataclass, field
from typing import Final, Literal

from mmcorpus.curation.download.published import Published
from mmcorpus.curation.download.robots import DEFAULT_DIRECTIVES

VOLATILE: Final = frozenset(
    {
        "thread_count", "processes_count", "max_per_host", "max_host_failures", "max_shard_retry", "backoff",
        "connect_to",
    }
)  # fmt: skip
"""Options that change how fast or over which road bytes arrive, never which bytes: a fingerprint ignores them."""

LATER: Final = ("verify_hash", "published", "where")
"""Options that came after others had downloaded: at their defaults no fingerprint names them."""
CONVERSATIONS: Final = "conversations"

RESERVED_COLUMNS: Final = frozenset(
    {
        "uid", "url", "caption", "key", "status", "error_message", "width", "height", "original_width",
        "original_height", "exif", "md5", "sha256", "sha512", "original_format", "original_mode", "original_bytes",
        "frames", "has_alpha", "orientation", "final_url",
    }
)  # fmt: skip
"""Names that the shards' parquet gives a meaning of its own."""

PILLOW_PIXEL_LIMIT: Final = 178_956_970
"""Pillow refuses to open anything larger; a larger `max_pixels` would be a promise that cannot be kept."""

Interpolation = Literal["nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4"]


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """The download stage. Sizes are pixels, times seconds.

    Resizing defaults to what DataComp was made with: longest side at most 512, never enlarged.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    url_col: str = "url"
    """The list's column of image URLs (a `.txt` list is a URL a line)."""
    caption_col: str | None = "caption"
    """The list's column of captions; null for lists without (instruction data). Ignored for `.txt` lists."""
    uid_col: str | None = None
    """The list's column of 32-hex-digit uids (DataComp's `uid`); null makes them from url and caption."""
    save_additional_columns: tuple[str, ...] = ()
    """More columns of the list to carry into the shards; nested values are kept as JSON text."""

    where: dict[str, str] = field(default_factory=dict)
    """Only the list's rows whose columns have these values: `{collection_method: counting}`."""
    published: Published | None = None
    """A published layout (`curation/download/published.py`) whose columns say things of an image: those of all its rows
    become one sample, annotations in the column `conversations`."""
    verify_hash: tuple[str, Literal["md5", "sha256", "sha512"]] | None = None
    """img2dataset's: the list's column with the hash that a response body must have, and its kind:
    `[image_sha256, sha256]`. Another body costs the row (`hash_mismatch`); rows without a hash are not checked."""

    image_size: int = 512
    """The side to resize to."""
    resize_mode: Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"] = "keep_ratio_largest"
    """img2dataset's: which side becomes `image_size` (`keep_ratio` the shorter, `keep_ratio_largest` the longer)."""
    resize_only_if_bigger: bool = True
    """Never enlarge."""
    upscale_interpolation: Interpolation = "lanczos"
    """Of enlarging."""
    downscale_interpolation: Interpolation = "area"
    """Of shrinking."""
    encode_format: Literal["jpg", "png", "webp"] = "jpg"
    """The format that images are stored in."""
    encode_quality: int = 95
    """1-100 for jpg and webp; 0-9 (compression) for png."""
    skip_reencode: bool = False
    """Keep the bytes of an image that is in `encode_format` already, upright, and needs no resizing."""
    disable_all_reencoding: bool = False
    """Keep every image's bytes as they arrived, but for those stored rotated, which are made upright."""
    min_image_size: int = 0
    """Drop images whose shorter side is less."""
    max_image_area: float = float("inf")
    """Drop images with more pixels than this."""
    max_aspect_ratio: float = float("inf")
    """Drop images whose longer side is more than this many times the shorter."""
    max_pixels: int = 100_000_000
    """Do not decode images with more pixels than this (decompression bombs)."""

    timeout: float = 10.0
    """Give up when a server sends nothing for so long."""
    total_timeout: float = 60.0
    """Give up when the whole response, redirects included, has taken so long (drip-feeding servers)."""
    max_bytes: int = 64 * 2**20
    """Give up on a response body that is longer."""
    max_redirects: int = 5
    """Follow no more than this many."""
    retries: int = 2
    """Try again so often after failures that can pass: timeouts, resets, 429, 5xx, a busy name server."""
    backoff: float = 0.5
    """Wait so long before the first retry, twice as long before each next; a server's Retry-After wins."""
    allow_private: bool = False
    """Fetch from private, loopback and link-local addresses too (an intranet's own archive)."""
    connect_to: dict[str, str] = field(default_factory=dict)
    """Host name to `ip:port`, like curl's --connect-to; a mapped host is allowed wherever it leads."""
    user_agent_token: str | None = None
    """The crawler's own address, e.g. `https://example.org/crawler`: sent as `mmcorpus/0.1 (+TOKEN)`."""
    disallowed_header_directives: tuple[str, ...] = DEFAULT_DIRECTIVES
    """X-Robots-Tag directives that opt an image out; empty ignores the header."""
    max_per_host: int = 16
    """At most so many requests at once to one host, per process."""
    max_host_failures: int = 10
    """Give up on a host's other URLs of a shard after so many requests in a row without an answer; 0 never does."""

    thread_count: int = 256
    """Requests at once, per process."""
    processes_count: int | None = None
    """Shards at once; null is one per CPU of the Ray cluster."""
    number_sample_per_shard: int = 10_000
    """Rows of the list per shard."""
    max_shard_retry: int = 1
    """Download a shard that failed, by an error or by its worker's death, again so often."""
    compute_hash: Literal["md5", "sha256", "sha512"] | None = "sha256"
    """A hash of the response body, as a column."""
    extract_exif: bool = False
    """Keep the EXIF fields as JSON text. They may hold where a photo was taken."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "image_size", "max_pixels", "max_bytes", "max_per_host", "thread_count")
        _at_least(self, 1, "number_sample_per_shard")
        _at_least(self, 0, "min_image_size", "max_redirects", "retries", "backoff", "max_shard_retry")
        _at_least(self, 0, "max_host_failures")
        for name in ("timeout", "total_timeout", "max_image_area"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        if self.max_aspect_ratio < 1:
            raise ValueError(
                f"max_aspect_ratio is {self.max_aspect_ratio}; it is long side / short side, so at least 1"
            )
        if self.max_pixels > PILLOW_PIXEL_LIMIT:
            raise ValueError(f"max_pixels is {self.max_pixels}; at most {PILLOW_PIXEL_LIMIT} can be decoded")
        if self.processes_count is not None and self.processes_count < 1:
            raise ValueError(f"processes_count is {self.processes_count}; give 1 or more, or null for one per CPU")
        low, high = (0, 9) if self.encode_format == "png" else (1, 100)
        if not low <= self.encode_quality <= high:
            raise ValueError(f"encode_quality is {self.encode_quality}; for {self.encode_format} give {low} to {high}")
        if self.user_agent_token is not None and not self.user_agent_token.isprintable():
            raise ValueError("user_agent_token holds control characters; give one line of text")
        if self.user_agent_token is not None and not self.user_agent_token.isascii():
            raise ValueError(f"user_agent_token is {self.user_agent_token!r}; headers carry ASCII only")
        columns = self.save_additional_columns
        reserved = sorted(RESERVED_COLUMNS.intersection(columns))
        if reserved:
            raise ValueError(
                f"save_additional_columns holds {reserved}, which shards use themselves; rename them in the list"
            )
        if len(set(columns)) != len(columns):
            raise ValueError(f"save_additional_columns names a column twice: {list(columns)}")
        if self.published is not None and self.uid_col is not None:
            raise ValueError("published makes a sample of several rows, which have no uid_col; leave that out")
        _ = self.routes  # raises for an entry that is no address

    @property
    def kept_columns(self) -> tuple[str, ...]:
        """The list's columns, url and caption aside, that shards have."""
        more = [CONVERSATIONS] if self.published is not None else []
        more += [self.verify_hash[0]] if self.verify_hash is not None else []
        return tuple(dict.fromkeys([*self.save_additional_columns, *more]))

    @property
    def unsaid(self) -> frozenset[str]:
        """The options that fingerprints leave out."""
        return VOLATILE | {name for name in LATER if not getattr(self, name)}

    @property
    def routes(self) -> dict[str, tuple[str, int]]:
        """`connect_to` as host (lower case) to address and port."""
        return {host.lower(): connect_address(host, place) for host, place in self.connect_to.items()}


def connect_address(host: str, place: str) -> tuple[str, int]:
    """The ip and port of one `connect_to` entry; raises ValueError that names the entry."""
    ip, colon, port = place.rpartition(":")
    try:
        ipaddress.ip_address(ip.strip("[]"))
        if not colon or not 0 < int(port) < 65536:
            raise ValueError
    except ValueError:
        raise ValueError(f"connect_to[{host!r}] is {place!r}; give an address and a port: 127.0.0.1:8080") from None
    return ip.strip("[]"), int(port)


def _at_least(config: DownloadConfig, least: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} is {getattr(config, name)}; give {least} or more")
