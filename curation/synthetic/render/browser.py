"""A headless browser, spoken to over two pipes in the Chrome DevTools Protocol; nothing outside is contacted.

One browser a process, started by the first page. It ends when its pipes close, with the process.
"""

import atexit
import base64
import fcntl
import functools
import json
import os
import select
import shutil
import subprocess
import tempfile
from typing import Any, Final

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
    "--disable-lcd-text",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_MOST_SECONDS: Final = 60
"""A browser that says nothing for so long is taken for hung."""
_MARKS: Final = """JSON.stringify({
  size: [document.documentElement.scrollWidth, Math.ceil(document.body.getBoundingClientRect().bottom)],
  marks: [...document.querySelectorAll('[data-mark]')].map(e => {
    const r = document.createRange(); r.selectNodeContents(e); const b = r.getBoundingClientRect();
    return [e.dataset.mark, b.left, b.top, b.right, b.bottom]})})"""


def program() -> str | None:
    """The path of the browser: MMCORPUS_BROWSER's, else the first known one on the PATH."""
    if named := os.environ.get("MMCORPUS_BROWSER"):
        return shutil.which(named)
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


@functools.cache
def version() -> str:
    """`Chromium 150.0.7871.100`; empty where there is none."""
    if (path := program()) is None:
        return ""
    said = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
    ).stdout
    return " ".join(said.split()[:2])


class Browser:
    """A running browser with one blank page."""

    def __init__(self, path: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mmcorpus-browser-", ignore_cleanup_errors=True)
        theirs_in, ours_out = _pipe()
        ours_in, theirs_out = _pipe()
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # Chromium's sandbox does not run as root
        # The protocol's pipes are 3 and 4, whatever numbers ours have, which dash can read by their paths alone.
        self._process = subprocess.Popen(
            ["sh", "-c", f'exec "$0" "$@" 3</dev/fd/{theirs_in} 4>/dev/fd/{theirs_out}', path, *_FLAGS, *root,
             f"--user-data-dir={self._folder.name}", "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._out = os.fdopen(ours_out, "wb")
        self._in = ours_in
        self._heard = b""
        self._number = 0
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._frame = self._call("Page.getFrameTree")["frameTree"]["frame"]["id"]

    def picture(self, html: str, width: int) -> tuple[bytes, list[list[Any]]]:
        """A page `width` pixels wide as a PNG of all of its height, and the elements with `data-mark`.

        A mark is [name, left, top, right, bottom] in pixels.
        """
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=200, deviceScaleFactor=1, mobile=False)
        self._call("Page.setDocumentContent", frameId=self._frame, html=html)
        said = json.loads(self._call("Runtime.evaluate", expression=_MARKS)["result"]["value"])
        clip = {"x": 0, "y": 0, "width": width, "height": max(1, said["size"][1]), "scale": 1}
        shot = self._call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"]), said["marks"]

    def close(self) -> None:
        """End it."""
        self._out.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        self._folder.cleanup()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            answer = json.loads(self._next())
            if answer.get("id") != self._number:
                continue  # an event
            if "error" in answer:
                raise RuntimeError(f"the browser refused {method}: {answer['error'].get('message')}")
            return answer["result"]

    def _next(self) -> bytes:
        """The next message: what stands before a zero byte."""
        while b"\0" not in self._heard:
            ready, _, _ = select.select([self._in], [], [], _MOST_SECONDS)
            more = os.read(self._in, 1 << 20) if ready else b""
            if not more:
                state = "has ended" if ready else f"says nothing for {_MOST_SECONDS} s"
                raise RuntimeError(
                    f"the headless browser {state}; does it run by hand? {program()} --headless --version"
                )
            self._heard += more
        message, _, self._heard = self._heard.partition(b"\0")
        return message


def _pipe() -> tuple[int, int]:
    """A pipe's ends, to read from and to write to, neither of which is 3 or 4."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


@functools.cache
def running() -> Browser:
    """This process's browser. Raises RuntimeError where there is none."""
    if (path := program()) is None:
        raise RuntimeError("there is no headless browser on the PATH")
    browser = Browser(path)
    atexit.register(browser.close)
    return browser
