"""Listings of S3 that have no end are given up; those that have one are read whole."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from mmcorpus.curation.store import storage
from mmcorpus.filters import listings
from mmcorpus.filters.listings import EndlessListing

PAGE = 100


def entry(number: int) -> str:
    about = "<Size>1</Size><ETag>x</ETag><LastModified>2026-01-01T00:00:00Z</LastModified>"
    return f"<Contents><Key>k/{number:09d}</Key>{about}</Contents>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        bucket = split.path.strip("/").split("/")[0]
        page = int(dict(parse_qsl(split.query)).get("continuation-token", "0"))
        numbers = {"whole": range(PAGE), "endless": range(PAGE), "circle": range(PAGE), "one": range(1)}.get(
            bucket, range(0)
        )
        at = 0 if bucket == "same" else page
        keys = "".join(entry(at * PAGE + number) for number in (range(PAGE) if bucket == "same" else numbers))
        following = (page + 1) % 3 if bucket == "circle" else page + 1
        more = "false" if bucket == "whole" and page == 2 else "true"
        body = (
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{more}</IsTruncated>{keys}'
            f"<NextContinuationToken>{following}</NextContinuationToken></ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import s3fs

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(listings, "MOST_NAMES", 4 * PAGE)
    monkeypatch.setattr(listings, "FREE_PAGES", 4)
    s3fs.S3FileSystem.clear_instance_cache()
    storage.filesystem("s3://whole")[0].clear_instance_cache()
    yield
    storage.filesystem("s3://whole")[0].clear_instance_cache()
    server.shutdown()
    server.server_close()


def test_listings_end(store: None) -> None:
    assert len(storage.list_files("s3://whole/k")) == len(storage.list_names("s3://whole/k")) == 3 * PAGE
    for bucket, why in {
        "endless": "no end in sight",
        "circle": "circle",
        "same": "circle",
        "empty": "does not get on",
        "one": "does not get on",
    }.items():
        for read in (storage.list_files, storage.list_names):
            with pytest.raises(EndlessListing, match=rf"s3://{bucket}/k.*{why}"):
                read(f"s3://{bucket}/k")
