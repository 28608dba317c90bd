"""Image files that no encoder writes: many scans, chunks, layers, values, and damaged metadata."""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encode(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def photo(width: int = 96, height: int = 64) -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def chunk(kind: bytes, content: bytes, *, wrong: bool = False) -> bytes:
    """A PNG chunk, with a wrong checksum if asked for."""
    checksum = zlib.crc32(kind + content) ^ (1 if wrong else 0)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(*chunks: bytes, image: np.ndarray | None = None, where: str = "before") -> bytes:
    """A PNG of `image` with more chunks: `before` the pixels or `behind` them."""
    data = encode(photo() if image is None else image, "PNG")
    at = data.index(b"IDAT") - 4 if where == "before" else len(data) - 12
    return data[:at] + b"".join(chunks) + data[at:]


def jpeg_of_scans(scans: int, side: int, *, baseline: bool = False) -> bytes:
    """A JPEG that says it has `side`² pixels, its last scan repeated; `baseline`: sequential, a component a scan."""
    data = encode(photo(16, 16), "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    frame = data.find(b"\xff\xc2")
    if baseline:
        data = data[: frame + 1] + b"\xc0" + data[frame + 2 :]
        scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"\x12\x34"
        data = data[: data.find(b"\xff\xda")] + b"\xff\xd9"
    head = data[: frame + 5] + struct.pack(">HH", side, side) + data[frame + 9 : -2]
    return head + scan * scans + b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(*segments: bytes, **options: Any) -> bytes:
    """A JPEG with more segments behind its first two bytes."""
    data = encode(photo(), "JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def tiff_with(*entries: tuple[int, int, int, int], width: int = 8, height: int = 8) -> bytes:
    """A grey TIFF without compression; further entries (tag, type, count, value) replace those of the same tag."""
    pixels = bytes(range(width * height))
    tags = {
        256: (3, 1, width), 257: (3, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8),
        277: (3, 1, 1), 278: (3, 1, height), 279: (4, 1, len(pixels)),
    }  # fmt: skip
    tags.update({tag: (kind, count, value) for tag, kind, count, value in entries})
    rows = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    offset = 8 + len(pixels)
    return b"II*\0" + struct.pack("<I", offset) + pixels + struct.pack("<H", len(tags)) + rows + bytes(4)


HEIC = {
    name: zlib.decompress(base64.b85decode(text))
    for name, text in {
        "upright": (
            "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw3kxwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN=qY27-$~telydmj>p6"
            "L`8v|R3<1dqb%7F#N;c;EXjo{`IA{tQ~;#!WELdn1L;zrGG|6+kkACMBDoI?fBydX!N9=JoB-4z;lRkl`2Rmh0W(MiGYHA;Vsc0X"
            "N@_YWGNQ>WP-tYG_G;a%XAcw?9B5!*;AsE}w<G~ov$-%HEI!x?v_m*KKc^@!Ii~_B%FDn8RKg&VSzM3`^_T+`Yb56+f*d9Rb-MtF"
            "{{R2~4Is?~q%VMIka$66MJ7liGY1C;NPT8OE-Z|J!N%Ii#LU_PWZ%q9Nd$%QSq;YZY({d2QUYQfkCuHm{r`VO_=R7w>xEb^-Cwf8"
            "Kej&a@?Y+~+Fw6x3GOudx&86<*W7QJx?C&f9g<tV^Z(WM-CG&8qje3g<<<o!-wv;H&HEU6{(trF<sAQ_gHG<>X})X1-xX@VcD{eL"
            "W`gA2)cjo0%{KFO-Da)a@bgBPUM~OalYc@=cv5st-(5Lx>7%fCs?3V(+QxnspNfNCESd7~{;9S9;x_bF?5h6u&gtHQ1#OSgUe<R`"
            "f7BHjoW6%M_LFtiTUGnH@v=_}4xd!`*7*Yf`5(X2"
        ),
        "turned": (
            "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Uf$?~5YDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{gCCLIc57pcoJ^9e|6d"
            "0I@}8W?mYY2a**9a#F#{fNC<zk_{P<1Q|g}Tq`oc%J~X1OL7^YDjC@_3yKPW?5CLp$@xIK6sXskkr^a30jx;w1H+%cKYlPU@G~a>"
            "bx1fc@-Y7Y4^qGkQo#&Da=Vxu5`mJMPK=CbG7A(MS*N{PH|yC0#RUf%7#MgOK*B9aK-Fw6j0cMkb^`4XPR`FM%1h3v0E+T5umP1Y"
            "h-4NQq(Xh`0L2=~If)>L2|(P=AOWKP|Nnmh6b3;01~e=L3NkA)K^mDkI5>b5XJ%1;3D7wVl9>g$usC4^`n{2fnYE=2$dSq{N=<`G"
            "@Fk}dCxc@F6h4f(DT$!yx~Rdpp3O+^QHepU<58=pzyJRaO8@_pRsM2adwT7&sN27m$M4ww*KC*V2~np@_C2d7&Uoi<Wp-Hbe!s{2"
            "itnw-!LrhMw~x%<p=SS9@VCy_|LgYN$l0q`ex9#N`oCJNx!#|;9rnqIzt%A9+k11jWW%<u6l3X|&jm%_-15$x!60(*@t;rEX1%I-"
            "p|{C6e}=(|HR_icxDL*HQa@AO{7w0T@2f;Y`OYpswS7CgrLF61DV{#jxp(gFeQ)eD+a_JRGJ<76__He}Rr5`aPOX#N*SBtWWqAV7"
            "Q*4kl;p@ww1>|u6eJcctHc;F^!U6z(qsKr"
        ),
    }.items()
}
"""24x16 pixels, a quadrant each of red, green, blue and white: stored upright, and stored a quarter turned with both
`irot` and an EXIF orientation of 6, as phones write them (pillow-heif 1.8)."""
