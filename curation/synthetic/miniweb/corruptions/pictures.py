"""Corrupted pictures: useless ones, broken ones, and odd ones that are fine."""

from PIL import Image, ImageFilter

from mmcorpus.curation.synthetic.common import saved
from mmcorpus.curation.synthetic.miniweb.encode import (
    animation,
    bomb_png,
    palette_image,
    png_16_bit,
    rgba_png,
    rotated_jpeg,
)
from mmcorpus.curation.synthetic.miniweb.page import Page

_ICON_NAMES = ("logo.png", "logo.jpg", "icons/button.gif", "icons/cart.png", "plugins/like.png", "widgets/share.gif")


def icon(page: Page) -> None:
    """A picture of 16-64 pixels at an address of page chrome."""
    side = page.rng.choice((16, 24, 32, 48, 64))
    name = page.rng.choice(_ICON_NAMES)
    folder, _, file = name.rpartition("/")
    host = page.url.split("/")[2]
    page.url = f"http://{host}/{folder + '/' if folder else ''}{page.number}/{file}"
    page.serve(page.image.resize((side, side), Image.Resampling.BOX), file.rpartition(".")[2])


def extreme_aspect(page: Page) -> None:
    """A banner or a skyscraper: four to seven times as long as wide, its short side left as it was."""
    short = min(page.image.size)
    long = round(short * page.rng.uniform(4, 7))
    size = (long, short) if page.rng.random() < 0.6 else (short, long)
    page.serve(page.image.resize(size, Image.Resampling.BILINEAR), "jpg")


def blank(page: Page) -> None:
    """One colour and nothing else."""
    color = page.rng.choice(((255, 255, 255), (0, 0, 0), (128, 128, 128), (238, 238, 230), (12, 40, 90)))
    page.serve(Image.new("RGB", page.image.size, color), page.rng.choice(("jpg", "png")))


def blurred(page: Page) -> None:
    """Out of focus beyond recognition."""
    radius = min(page.image.size) * page.rng.uniform(0.06, 0.1)
    page.serve(page.image.filter(ImageFilter.GaussianBlur(radius)), "jpg")


def exif_rotated(page: Page) -> None:
    """Stored turned or mirrored, with the EXIF orientation that says so."""
    page.serve(page.image, "jpg", rotated_jpeg(page.image, page.rng.choice((2, 3, 4, 5, 6, 6, 6, 7, 8, 8))))


def cmyk(page: Page) -> None:
    """A JPEG in four inks, as print shops upload them."""
    page.serve(page.image, "jpg", saved(page.image.convert("CMYK"), "JPEG", quality=92))


def sixteen_bit(page: Page) -> None:
    """A PNG of 16 bits a channel."""
    page.serve(page.image, "png", png_16_bit(page.image, color=page.rng.random() < 0.5))


def palette_transparent(page: Page) -> None:
    """A palette PNG or GIF whose background is transparent."""
    extension = page.rng.choice(("png", "gif"))
    page.serve(page.image, extension, palette_image(page.image, extension))


def rgba(page: Page) -> None:
    """A PNG with an alpha channel."""
    page.serve(page.image, "png", rgba_png(page.image))


def progressive(page: Page) -> None:
    """A progressive JPEG, whose scans refine the whole picture."""
    page.serve(page.image, "jpg", saved(page.image, "JPEG", quality=88, progressive=True))


def animated(page: Page) -> None:
    """An animated GIF or WebP."""
    extension = page.rng.choice(("gif", "webp"))
    page.serve(page.image, extension, animation(page.image, extension))


def truncated(page: Page) -> None:
    """The upload broke off: 30-70 % of a JPEG or PNG (of half a WebP, decoders cannot tell what is wrong)."""
    page.serve(page.image, page.rng.choice(("jpg", "png")))
    page.body = page.body[: int(len(page.body) * page.rng.uniform(0.3, 0.7))]
    page.upright = None


def bomb(page: Page) -> None:
    """A small PNG of 400 million pixels or more."""
    page.serve(page.image, "png", bomb_png(page.rng.choice((20_000, 24_000))))
    page.upright = None
