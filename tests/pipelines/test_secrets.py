"""A run that is given a secret wherever one can be given: none of its files, logs or messages holds any of them."""

import csv
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.curation.download.conftest import encoded, picture

FIRST = {
    "user": "aliceuser", "password": "TOPSECRETPW/1", "signature": "SIGSECRET1", "date": "20260101T000000Z",
    "page_token": "PAGETOKEN1", "env": "ENVSECRET1", "short": "s3cr3t", "key": "OPTIONKEY1", "row": "ROWSECRET1",
    "hf": "hf_" + "a1B2" * 8,
}  # fmt: skip
ROTATED = {name: value if name == "row" else value.swapcase() + "2" for name, value in FIRST.items()}
SERVER = """
import http.server, json, os, sys
print("started with", dict(os.environ), sys.argv, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        self.answer({})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        print("asked with", self.headers["Authorization"], flush=True)
        tokens = [{"token": c, "top_logprobs": [{"token": c, "logprob": 0.0}]} for c in "86"]
        message = {"role": "assistant", "content": "86"}
        self.answer({"choices": [{"message": message, "finish_reason": "stop", "logprobs": {"content": tokens}}]})
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


class Web:
    """A list that wants its credentials, images, a page in a WARC file."""

    def __init__(self) -> None:
        self.there = False
        self.authorized: list[str] = []
        image = encoded(picture(80, 80))
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                status, data = 200, image
                if path == "/list.csv":
                    web.authorized.append(self.headers.get("Authorization", ""))
                    status, data = (200, web.rows()) if web.there else (403, b"no")
                elif path == "/pages.warc":
                    data = web.warc()
                self.send_response(status)
                self.send_header("Content-Type", "image/png")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def rows(self) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["url", "caption"])
        writer.writerows([f"http://{self.place}/{number}.jpg", f"picture {number}"] for number in range(6))
        writer.writerow([f"http://u:{FIRST['row']}@{self.place}/x.jpg", "its URL has credentials"])
        writer.writerow([f"http://u:{FIRST['row']}@{self.place}/x.jpg", "no", "row"])
        return text.getvalue().encode()

    def warc(self) -> bytes:
        words = b"A page about lighthouses and the sea, long enough to be kept. " * 9
        html = b"<html><body><p>" + words + b"</p></body></html>"
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(html) + html
        head = (
            b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://a.example/\r\n"
            b"WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-000000000001>\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
            b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n" % len(block)
        )
        return head + block + b"\r\n\r\n"


@pytest.fixture
def web() -> Iterator[Web]:
    running = Web()
    yield running
    running.server.shutdown()
    running.server.server_close()


def recipe(folder: Path, web: Web, secrets: dict[str, str]) -> tuple[Path, str]:
    """The recipe's file, and the URL that is given on the command line."""
    model, server = folder / "model", folder / "server.py"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    server.write_text(SERVER)
    password = secrets["password"].replace("/", "%2F")
    url = f"http://{secrets['user']}:{password}@{web.place}/list.csv?X-Amz-Date={secrets['date']}&X-Amz-Signature="
    content = {
        "name": "secrets",
        "sources": {
            "pairs": {"urls": "given on the command line"},
            "texts": {"pages": f"http://{web.place}/pages.warc?sig={secrets['page_token']}&se=2026", "kind": "text"},
        },
        "download": {"allow_private": True, "number_sample_per_shard": 5, "retries": 0},
        "score": {
            "scorers": {
                "image": {},
                "mllm": {
                    "model_name": str(model),
                    "server": {
                        "command": [
                            sys.executable, str(server), "{host}", "{port}", "{model}", "--api-key", secrets["key"]
                        ],
                        "env": {"UPSTREAM_TOKEN": secrets["env"], "PIN": secrets["short"]}, "start_timeout": 60.0,
                    },
                },
            },
        },
        "select": {"pairs": {"keep": ["image.min_side >= 10"]}},
    }  # fmt: skip
    path = folder / "secrets.yaml"
    path.write_text(yaml.safe_dump(content))
    return path, url + secrets["signature"]


def call(folder: Path, web: Web, secrets: dict[str, str], *more: str) -> "subprocess.CompletedProcess[str]":
    path, url = recipe(folder, web, secrets)
    ray = folder / "ray"
    ray.mkdir(exist_ok=True)
    short = Path("/tmp") / f"s{os.getpid()}"  # paths of sockets end at 107 bytes
    if not short.exists():
        short.symlink_to(ray)
    environment = {
        **os.environ, "HF_TOKEN": secrets["hf"], "MMCORPUS_ALLOW_PRIVATE": "127.0.0.1", "RAY_TMPDIR": str(short),
    }  # fmt: skip
    command = [sys.executable, "-m", "mmcorpus.pipelines.cli", *more, "run", str(path), "--out", str(folder / "run"),
               "--set", f"sources.pairs.urls={url}", "--num-cpus", "2"]  # fmt: skip
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    finally:
        short.unlink()


def texts(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder as text; tables with all they hold."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes().decode("utf-8", "replace")
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                yield path, f"{table.to_pylist()} {table.schema.metadata}"


def leaks(root: Path, secrets: dict[str, str]) -> list[str]:
    forms = {value for secret in secrets.values() for value in (secret, secret.replace("/", "%2F"))}
    return [f"{path}: {form}" for path, text in texts(root) for form in forms if form in text]


@pytest.mark.soak
def test_no_file_log_or_message_of_a_run_holds_a_secret(tmp_path: Path, web: Web) -> None:
    refused = call(tmp_path, web, FIRST)
    assert refused.returncode != 0, "the list's server says 403"
    assert "***@127.0.0.1" in refused.stdout + refused.stderr
    web.there = True
    done = call(tmp_path, web, FIRST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(value.startswith("Basic ") for value in web.authorized), "the real credentials were sent"
    run, ray = tmp_path / "run", tmp_path / "ray"
    log = "".join(path.read_text() for path in (run / "logs").rglob("*.log"))
    assert "started with" in log, "what it prints is kept"
    assert "asked with Bearer ***" in log
    assert "***@127.0.0.1" in (run / "recipe.yaml").read_text()
    assert "X-Amz-Signature=***" in (run / "report.html").read_text()
    said = [part for one in (refused, done) for part in (one.stdout, one.stderr)]
    assert list(ray.rglob("*.out")), "Ray's files are looked at"
    for secrets in (FIRST,):
        assert not leaks(run, secrets)
        assert not leaks(ray, secrets)
        assert not [secret for secret in secrets.values() if any(secret in text for text in said)]
    rotated = call(tmp_path, web, ROTATED)
    assert rotated.returncode == 0, rotated.stdout + rotated.stderr
    assert not leaks(run, ROTATED)
    for stage in ("pairs/download", "pairs/score", "texts/extract", "pairs/select"):
        assert f"{stage}: up to date" in rotated.stdout, "secrets that were rotated make nothing stale"
