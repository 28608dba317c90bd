"""The same picture again: byte for byte, compressed, resized, cropped, brighter, with the caption as another site
copied it."""

from PIL import Image, ImageEnhance

from mmcorpus.curation.synthetic.miniweb.captions import small_edit
from mmcorpus.curation.synthetic.miniweb.encode import encode
from mmcorpus.curation.synthetic.miniweb.page import Page


def exact_duplicate(page: Page) -> None:
    """The same bytes and the same caption at another address."""
    _copy(page, page.original())


def edited_duplicate(page: Page) -> None:
    """The same bytes at another address, the caption slightly edited."""
    _copy(page, page.original())
    page.caption = small_edit(page.rng, page.caption)


def reencoded_duplicate(page: Page) -> None:
    """The same picture, compressed harder into a JPEG."""
    original = page.original()
    _copy(page, original)
    page.serve(original.image, "jpg", encode(original.image, "jpg", quality=page.rng.randint(40, 60)))


def resized_duplicate(page: Page) -> None:
    """The same picture at 70-85 % of its size."""
    original = page.original()
    _copy(page, original)
    scale = page.rng.uniform(0.7, 0.85)
    width, height = (round(side * scale) for side in original.image.size)
    page.serve(original.image.resize((width, height), Image.Resampling.LANCZOS), "jpg")


def cropped_duplicate(page: Page) -> None:
    """The same picture with 5 % of its area cut away, evenly from its four edges, the caption often edited."""
    original = page.original()
    _copy(page, original)
    across, down = round(original.image.width * 0.0127), round(original.image.height * 0.0127)
    box = (across, down, original.image.width - across, original.image.height - down)
    page.serve(original.image.crop(box), "jpg")
    if page.rng.random() < 0.5:
        page.caption = small_edit(page.rng, page.caption)


def brightened_duplicate(page: Page) -> None:
    """The same picture, 10-20 % brighter or darker."""
    original = page.original()
    _copy(page, original)
    change = page.rng.uniform(0.1, 0.2) * page.rng.choice((-1, 1))
    page.serve(ImageEnhance.Brightness(original.image).enhance(1 + change), "jpg")


def listed_twice(page: Page) -> None:
    """Another row of the list once more: the same url and caption, so the same uid."""
    original = page.original()
    _copy(page, original)
    page.url = original.url
    page.listed_elsewhere = True


def _copy(page: Page, original: Page) -> None:
    """Make the page a copy of another at an address of its own."""
    page.rendered, page.caption = original.rendered, original.caption
    extension = original.url.rpartition(".")[2]
    page.url = f"{page.url.rpartition('/')[0]}/copy-{page.number}.{extension}"
    page.body, page.route, page.upright = original.body, original.route, original.upright
