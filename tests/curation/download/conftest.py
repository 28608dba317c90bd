"""A loopback server whose every answer a test writes, and the images it serves."""

import http.server
import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]
HOST = "img.test"


class Web:
    """Routes by path; `connect_to` leads `img.test` (and any other name added) to it."""

    def __init__(self) -> None:
        self.routes: dict[str, Answer] = {}
        self.requests: Counter[str] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.stopping = threading.Event()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.requests[self.path] += 1
                web.headers[self.path] = dict(self.headers.items())
                self.close_connection = True
                answer = web.routes.get(self.path)
                try:
                    if answer is None:
                        respond(self, b"", status=404)
                    else:
                        answer(self)
                except OSError:
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]
        self.connect_to = {HOST: f"127.0.0.1:{self.port}"}
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://{HOST}{path}"

    def add(
        self, path: str, data: bytes = b"", content_type: str = "image/jpeg", status: int = 200, **headers: str
    ) -> str:
        """Serve bytes; returns the URL. `X_Robots_Tag="noai"` adds a header."""
        self.routes[path] = lambda handler: respond(handler, data, content_type, status, **headers)
        return self.url(path)

    def answer(self, path: str, answer: Answer) -> str:
        self.routes[path] = answer
        return self.url(path)

    def drip(self, path: str, prefix: bytes, seconds: float = 0.05) -> str:
        """Send bytes for ever, one at a time, after `prefix`."""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.wfile.write(prefix)
            while not self.stopping.wait(seconds):
                handler.wfile.write(b"x")
                handler.wfile.flush()

        return self.answer(path, answer)

    def close(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()


def respond(
    handler: http.server.BaseHTTPRequestHandler,
    data: bytes,
    content_type: str = "image/jpeg",
    status: int = 200,
    **headers: str,
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


@pytest.fixture
def web() -> Iterator[Web]:
    running = Web()
    yield running
    running.close()


def picture(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    """Top left red, top right green, bottom left blue, bottom right white: any turn or flip shows."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2, width // 2] = (seed % 251, seed % 241, seed // 251 % 256)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def stored_as(image: Image.Image, orientation: int) -> Image.Image:
    """The pixels that a camera would store with an EXIF orientation so that viewers show `image`."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(undo[orientation]) if orientation in undo else image


def rotated(orientation: int, image_format: str = "JPEG", **options: Any) -> bytes:
    """An encoded `picture()` with an EXIF orientation, that viewers show as `picture()`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored_as(picture(), orientation), image_format, exif=exif, **options)


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """The colours near the four corners, rounded to black or full: top left, top right, bottom left, bottom right."""
    height, width = pixels.shape[:2]
    places = [(y, x) for y in (height // 8, -height // 8) for x in (width // 8, -width // 8)]
    return [tuple(int(value > 127) * 255 for value in pixels[y, x]) for y, x in places]


UPRIGHT = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
