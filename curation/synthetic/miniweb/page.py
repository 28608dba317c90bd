"""One listed row while it is made: its entry in the list and the server's answer."""

import random
from dataclasses import dataclass, field, replace
from typing import Final

from PIL import Image

from mmcorpus.curation.synthetic.miniweb.encode import CONTENT_TYPES, encode
from mmcorpus.curation.synthetic.miniweb.site import Route, address, body_file
from mmcorpus.curation.synthetic.render import Rendered

HOSTS: Final = ("images.miniweb.test", "cdn.miniweb.test", "media.miniweb.test", "photos.miniweb.test")
_FOLDERS: Final = ("photos", "uploads/2023/04", "uploads/2024/11", "gallery", "media/large", "blog/pictures")
_FORMATS: Final = ("jpg", "jpg", "jpg", "jpg", "jpg", "png", "png", "webp")


@dataclass(kw_only=True, slots=True)
class Page:
    """A row in the making; corruptions change it."""

    number: str
    """Makes its addresses differ from all others."""
    rng: random.Random
    """Its own stream of choices."""
    rendered: Rendered
    """The picture, and all that is true of it."""
    url: str
    caption: str
    body: bytes
    route: Route
    others: dict[str, tuple[Route, bytes]] = field(default_factory=dict)
    """Further answers, by url: a redirect's target."""
    upright: tuple[int, int] | None
    """Width and height of the right picture as published; None if it cannot be had."""
    listed_elsewhere: bool = False
    """The address is another row's; this one adds nothing to the site."""
    partner: "Page | None" = None
    """The clean page that it copies or swaps captions with."""

    @property
    def image(self) -> Image.Image:
        """As rendered: RGB, upright."""
        return self.rendered.image

    def original(self) -> "Page":
        """The partner, for a corruption that needs one."""
        assert self.partner is not None, "the plan gives a partner to every corruption that needs one"
        return self.partner

    def serve(self, image: Image.Image, extension: str, body: bytes | None = None) -> None:
        """Publish another picture or encoding at this page's address, with the extension that belongs to it."""
        self.body = encode(image, extension) if body is None else body
        self.url = f"{self.url.rpartition('.')[0]}.{extension}"
        self.route = replace(self.route, content_type=CONTENT_TYPES[extension])
        self.upright = image.size

    def answer(self, status: int, body: bytes = b"", content_type: str = "text/html") -> None:
        """Answer without a picture."""
        self.body, self.upright = body, None
        self.route = replace(self.route, status=status, content_type=content_type)

    def redirect(self, status: int, location: str) -> None:
        """Answer with a redirect."""
        self.answer(status)
        self.route = replace(self.route, headers={"Location": location})

    def routes(self) -> dict[str, tuple[Route, bytes]]:
        """All that the site serves for this page: (route, body) by address."""
        if self.listed_elsewhere:
            return {}
        answers = {self.url: (self.route, self.body), **self.others}
        return {
            address(url): (replace(route, file=body_file(url) if body else None), body)
            for url, (route, body) in answers.items()
        }


def clean_page(rendered: Rendered, number: str, rng: random.Random) -> Page:
    """An honest page: a picture in a common format at a photo-like address, with a true caption."""
    extension = rng.choice(_FORMATS)
    url = f"http://{rng.choice(HOSTS)}/{rng.choice(_FOLDERS)}/{rendered.kind}-{number}.{extension}"
    return Page(
        number=number,
        rng=rng,
        rendered=rendered,
        url=url,
        caption=rendered.caption,
        body=encode(rendered.image, extension, quality=rng.randint(82, 95)),
        route=Route(content_type=CONTENT_TYPES[extension]),
        upright=rendered.image.size,
    )
