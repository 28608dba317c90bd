"""A model server of the standard library, quick to start: `fake_server.py HOST PORT FOLDER [how]`.

It leaves the ids of its processes in FOLDER (its own, and a child's as a model server has children), answers every chat
with 86 after a moment, and dies or hangs as a file of FOLDER, `die` or `hang`, tells it.
"""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST, PORT, FOLDER = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
ANSWER = {
    "choices": [
        {
            "message": {"role": "assistant", "content": "86"},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": c, "top_logprobs": [{"token": c, "logprob": 0.0}]} for c in ("8", "6")]},
        }
    ]
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        while (FOLDER / "hang").exists():
            time.sleep(0.1)
        self._say(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {os.environ.get('VLLM_API_KEY')}":
            self._say(401, {"error": "wrong key"})
            return
        with open(FOLDER / "asked", "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.02)
        self._say(200, ANSWER)

    def _say(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def die_when_told() -> None:
    while not (FOLDER / "die").exists():
        time.sleep(0.05)
    print("CUDA out of memory, say", flush=True)
    os._exit(7)


if __name__ == "__main__":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (FOLDER / f"pid.{os.getpid()}").touch()
    (FOLDER / f"pid.{child.pid}").touch()
    print(f"serving on {HOST}:{PORT}", flush=True)
    threading.Thread(target=die_when_told, daemon=True).start()
    ThreadingHTTPServer((HOST, PORT), Handler).serve_forever()
