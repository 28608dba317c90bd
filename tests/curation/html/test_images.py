"""Images: where the address stands, what the words say, and which are page chrome."""

import base64

import pytest

from mmcorpus.curation.html import ExtractConfig, extract
from mmcorpus.curation.html.images import parse_srcset
from mmcorpus.curation.html.nodes import ImageNode

PROSE = "<p>" + "A sentence that is long enough to be read as prose, with a comma in it. " * 4 + "</p>"
PIXEL = "data:image/gif;base64," + base64.b64encode(b"GIF89a" + bytes(30)).decode()
REAL = "data:image/png;base64," + base64.b64encode(bytes(2_000)).decode()


def images(html: str, config: ExtractConfig | None = None, head: str = "") -> list[ImageNode]:
    page = f"<html><head>{head}</head><body><article>{PROSE}{html}{PROSE}</article></body></html>"
    nodes = extract(page, "https://example.com/a/page.html", config or ExtractConfig()).nodes
    return [node for node in nodes if isinstance(node, ImageNode)]


def urls(html: str, **more: str) -> list[str]:
    return [image.url for image in images(html, **more)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("markup", "url"),
    [
        ('<img src="b.jpg">', "https://example.com/a/b.jpg"),
        ('<img src="/b.jpg">', "https://example.com/b.jpg"),
        ('<img src="//cdn.example.com/b.jpg">', "https://cdn.example.com/b.jpg"),
        ('<img src="../c/b.jpg?x=1&amp;y=2#part">', "https://example.com/c/b.jpg?x=1&y=2"),
        ('<img src=" b c.jpg ">', "https://example.com/a/b%20c.jpg"),
        ('<img src="bü.jpg">', "https://example.com/a/b%C3%BC.jpg"),
        ('<img src="b\n.jpg">', "https://example.com/a/b.jpg"),
        (r'<img src="\pics\b.jpg">', "https://example.com/pics/b.jpg"),
        ('<img src="https://bücher.example/b.jpg">', "https://xn--bcher-kva.example/b.jpg"),
    ],
)
def test_addresses(markup: str, url: str) -> None:
    assert urls(markup) == [url]


@pytest.mark.parametrize(
    "src", ["javascript:alert(1)", "file:///etc/passwd", "about:blank", "blob:https://x/1", "http://", "http://[::1",
            "", "#x",
            "ftp://example.com/b.jpg", "http://x:99999/b.jpg", "data:text/html,<b>", "cid:1"],
)  # fmt: skip
def test_what_is_no_address_is_no_image(src: str) -> None:
    assert urls(f'<img src="{src}">') == []


def test_base_moves_relative_addresses() -> None:
    assert urls('<img src="b.jpg">', head='<base href="/x/y/">') == ["https://example.com/x/y/b.jpg"]
    assert urls('<img src="b.jpg">', head='<base href="javascript:1">') == ["https://example.com/a/b.jpg"]


@pytest.mark.parametrize(
    "attribute",
    [
        "data-src",
        "data-original",
        "data-lazy-src",
        "data-lazy",
        "data-actualsrc",
        "data-echo",
        "data-hi-res-src",
        "data-x-y-z",
    ],
)
@pytest.mark.parametrize("src", ["", f'src="{PIXEL}"', 'src="/img/blank.gif"', 'src="/assets/lazy-placeholder.png"'])
def test_lazy_images(attribute: str, src: str) -> None:
    assert urls(f'<img {src} {attribute}="real.jpg">') == ["https://example.com/a/real.jpg"]


def test_srcset_gives_the_widest_that_is_not_too_wide() -> None:
    markup = '<img src="s.jpg" srcset="a.jpg 320w, b.jpg 2000w, c.jpg 9000w">'
    assert urls(markup) == ["https://example.com/a/b.jpg"]
    assert [image.url[-5:] for image in images(markup, ExtractConfig(max_image_width=500))] == ["a.jpg"]
    assert [image.url[-5:] for image in images(markup, ExtractConfig(max_image_width=100))] == ["a.jpg"]
    assert urls('<img src="s.jpg" srcset="s.jpg, m.jpg 1.5x, l.jpg 2x">') == ["https://example.com/a/l.jpg"]
    assert urls(f'<img src="{PIXEL}" data-srcset="a.jpg 320w,b.jpg 640w">') == ["https://example.com/a/b.jpg"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a,b.jpg 320w, c.jpg 2x", [("a,b.jpg", 320.0), ("c.jpg", 2.0)]),
        ("a.jpg, b.jpg", [("a.jpg", 1.0), ("b.jpg", 1.0)]),
        (" , a.jpg 10w 5h ,,", [("a.jpg", 10.0)]),
        ("a.jpg nonsense, b.jpg 1e9x", [("a.jpg", 1.0), ("b.jpg", 1.0)]),
        ("", []),
    ],
)
def test_srcset_is_read_as_browsers_do(value: str, found: list[tuple[str, float]]) -> None:
    assert list(parse_srcset(value)) == found


def test_picture() -> None:
    markup = (
        '<picture><source srcset="w.webp 1200w, n.webp 400w" type="image/webp"><source data-srcset="j.jpg 800w">'
        '<img src="f.jpg" alt="a view"></picture>'
    )
    (image,) = images(markup)
    assert (image.url, image.alt) == ("https://example.com/a/w.webp", "a view")
    assert urls("<picture><source srcset='w.webp'></picture><img src='other.jpg'>") == [
        "https://example.com/a/other.jpg"
    ]


@pytest.mark.parametrize(
    "markup",
    [
        '<img class="lazy" data-src="b.jpg"><noscript><img src="b.jpg"></noscript>',
        f'<img src="{PIXEL}"><noscript><img src="b.jpg"></noscript>',
        '<img src="/blank.gif"><noscript><img src="b.jpg"></noscript>',
        '<noscript><img src="b.jpg"></noscript><img data-src="b.jpg">',
        '<noscript><img src="b.jpg"></noscript>',
        '<img class="lazy" data-src="b.jpg"><noscript><p>Turn on scripts.</p><img src="b-large.jpg"></noscript>',
    ],
)
def test_noscript_images_come_once_and_without_its_text(markup: str) -> None:
    page = f"<article>{PROSE}{markup}{PROSE}</article>"
    nodes = extract(page, "https://example.com/a/page.html").nodes
    assert [node.url for node in nodes if isinstance(node, ImageNode)] == ["https://example.com/a/b.jpg"]
    assert "scripts" not in str(nodes)


def test_data_uris() -> None:
    assert urls(f'<img src="{PIXEL}">') == []
    assert urls(f'<img src="{REAL}">') == [REAL]
    assert images(f'<img src="{REAL}">', ExtractConfig(max_data_uri=1_500)) == []


def test_words_and_sizes() -> None:
    (image,) = images('<img src="b.jpg" alt=" two\n dogs " title="Dogs" width="640" style="height: 480px">')
    assert (image.alt, image.title, image.width, image.height) == ("two dogs", "Dogs", 640, 480)
    (image,) = images('<img src="b.jpg" alt="" width="100%" height="auto">')
    assert (image.alt, image.width, image.height) == (None, None, None)


@pytest.mark.parametrize(
    ("markup", "reason"),
    [
        ('<img src="b.gif" width="1" height="1">', "tracking"),
        ('<img src="https://www.facebook.com/tr?id=1">', "tracking"),
        ('<img src="/img/divider.gif">', "spacer"),
        ('<img src="line.gif" width="500" height="3">', "spacer"),
        ('<img src="b.png" width="16" height="16">', "icon"),
        ('<img src="/icons/arrow.png">', "icon"),
        ('<img src="b.png" class="site-logo">', "logo"),
        ('<img src="https://secure.gravatar.com/avatar/1?s=80">', "avatar"),
        ('<img src="https://img.shields.io/badge/a-b-green.png">', "badge"),
        ('<img class="emoji" src="1f600.png">', "emoji"),
        ('<img src="b.jpg" role="presentation">', "presentation"),
        ('<img src="/img/loading.gif">', "placeholder"),
        ('<img src="b.jpg" alt="a mountain">', None),
        ('<img src="catalogos/iconic.jpg">', None),
        ('<img src="logo-of-1920.jpg" width="800" height="600">', None),
    ],
)
def test_page_chrome_is_marked_and_stays(markup: str, reason: str | None) -> None:
    assert [image.decorative for image in images(markup)] == [reason]


def test_an_image_that_comes_three_times_is_marked() -> None:
    marks = [image.decorative for image in images("".join(f'<p>Text {i}</p><img src="up.gif">' for i in range(3)))]
    assert marks == ["repeated"] * 3


def test_page_chrome_does_not_split_its_paragraph() -> None:
    page = f'{PROSE}<p>One <img class="emoji" src="e.png"> two.</p><p>Three <img src="b.jpg"> four.</p>{PROSE}'
    nodes = extract(f"<article>{page}</article>", "https://example.com/").nodes
    kinds = [node.text if not isinstance(node, ImageNode) else node.url[-5:] for node in nodes[1:-1]]
    assert kinds == ["One two.", "e.png", "Three", "b.jpg", "four."]


def test_figure() -> None:
    markup = '<figure><img src="a.jpg"><img src="b.jpg"><figcaption>Two <b>views</b></figcaption></figure>'
    nodes = extract(f"<article>{PROSE}{markup}{PROSE}</article>", "https://example.com/").nodes
    one, two, caption = nodes[1:4]
    assert isinstance(one, ImageNode)
    assert isinstance(two, ImageNode)
    assert (one.caption, two.caption) == ("Two views", "Two views")
    assert (caption.text, caption.tag) == ("Two views", "figcaption")  # type: ignore[union-attr]


def test_captions_by_class() -> None:
    markup = '<div class="wp-caption"><img src="a.jpg"><p class="wp-caption-text">A view</p></div>'
    (image,) = images(markup)
    assert image.caption == "A view"


def test_a_video_is_its_poster() -> None:
    assert urls('<video poster="p.jpg"><source src="v.mp4"><p>No video.</p></video>') == ["https://example.com/a/p.jpg"]


DESCRIBED = [
    ("seal-on-the-beach.jpg", "A grey seal resting on the sand"),
    ("chevron-quilt.jpg", "A quilt of blue and white zigzags"),
    ("analytics-dashboard.png", "Visits in spring by country"),
    ("arrow-lake-panorama.jpg", "Arrow Lake"),
    ("flags-of-the-fleet.jpg", "Flags of the fleet"),
    ("five-star-hotel-lobby.jpg", "The lobby of a hotel"),
    ("shield-volcano.jpg", "A shield volcano from the air"),
    ("empty.jpg", "An empty street in Rome at dawn"),
    ("dummy.jpg", "A crash test dummy in a car"),
    ("thumbs-up-astronaut.jpg", "The astronaut gives a thumbs up"),
    ("ribbon-cutting.jpg", "The mayor cuts the ribbon"),
    ("wild-cats-counter-census.jpg", "Wild cats at the river"),
    ("pixel-art-castle.png", "A castle"),
    ("transparent-frog.jpg", "A glass frog"),
    ("loader-at-quarry.jpg", "A loader at the quarry"),
    ("grey.jpg", "A grey heron"),
    ("clear.jpg", "A clear mountain lake"),
    ("button-mushrooms.jpg", "A bowl of mushrooms"),
    # More of the kind
    ("smile-of-a-child.jpg", "A child at the fair"),
    ("byzantine-icon.jpg", "Mary and the child, Novgorod"),
    ("star.png", "A star above the desert road"),
    ("stars/anna-karina.jpg", "Anna Karina, the actress, in Paris"),
    ("star-map.gif", "Map of the stars that July shows"),
    ("beacon-hill.webp", "海辺の丘に立つ灯台"),
    ("hieroglyphs-glyph-wall.jpg", "Hieroglyphs in Luxor"),
    # Names that are a site's own marks nearly always
    ("logo-on-the-hangar.jpg", "Painters at work on a hangar door in Oslo"),
    ("avatar-film-premiere.jpg", "Actors arrive at the premiere in London"),
    ("emoji-cushions.webp", "Cushions on a market stall in Osaka"),
    ("smiley-balloon-festival.jpg", "A balloon with a smiley drifts over the valley"),
    ("ship-logo-repainting-1931.jpg", "Dockers repaint the funnel, Bremen 1931"),
    ("old-factory-logo.jpg", "A faded logo above the gate of the old factory, seen from the canal"),
    ("avatars-parade.jpg", "祭りの衣装を着た人々の行列"),
]
CHROME = [
    ("arrow-right.png", "Next page"),
    ("arrow-right.png", "Flèche vers la droite"),
    ("arrow.svg", "Arrow pointing right"),
    ("badge-verified.png", "Verified badge"),
    ("stars-5.png", "4.5 out of 5 stars"),
    ("counter.gif", "Hit counter"),
    ("spacer.gif", "A photo of a mountain lake"),
    ("logo.png", "Acme rockets of Springfield"),
    ("acme-logo.png", "Acme: fresh news from Springfield"),
    ("logo-acme.png", "Logo of the Acme Rockets company of Springfield"),
    ("acme-rockets-logo.jpg", "The logo of the Acme Rockets company of Springfield"),
    ("logo-acme-rockets.svg", "Rockets rise over the town of Springfield"),
    ("logos/acme-rockets.jpg", "Rockets rise over the town of Springfield"),
    ("avatar-jane.jpg", "Avatar of Jane Doe from Berlin"),
    ("avatar-jane.jpg", "Jane Doe"),
    ("avatar-jane.jpg", "the"),
    ("emoji-heart.png", "Red heart"),
    ("gravatar-jane.jpg", "Jane Doe walks along the river in Berlin"),
    ("icon-print.png", "Print this page"),
    ("rss-icon.png", "RSS feed"),
    ("icons/heron.jpg", "A grey heron in the reeds"),
    ("badges/heron.jpg", "A grey heron in the reeds"),
    ("flags/de.png", "Germany"),
    ("shield.png", "Secure payment"),
    ("placeholder.jpg", "A grey heron at the lake"),
    ("grey.jpg", "Two boys on bikes near the mill"),
    ("blank.jpg", "A heron"),
    ("seal.jpg", ""),
    ("seal-on-the-beach.jpg", ""),
    ("chevron-right.png", "Next page"),
    ("spacer-10.gif", "spacer"),
    ("analytics-pixel.gif", ""),
    ("badge-verified.png", "Verified seller badge"),
    ("button-buy.png", "Buy this product now"),
    ("seal-of-approval.png", "Trusted shop seal of approval"),
    ("app-store-badge.png", "Download on the App Store"),
    ("virtual-tour-icon.png", "virtual-tour-photo"),
    ("virtual-tour-icon.png", "Virtual tour button"),
]


@pytest.mark.parametrize(("name", "alt"), DESCRIBED)
def test_what_its_page_describes_is_content_whatever_its_name(name: str, alt: str) -> None:
    assert [image.decorative for image in images(f'<img src="/photos/{name}" alt="{alt}">')] == [None]
    captioned = f'<figure><a><img src="/photos/{name}"></a><figcaption><b>{alt}</b></figcaption></figure>'
    assert [image.decorative for image in images(captioned)] == [None]


@pytest.mark.parametrize(("name", "alt"), CHROME)
def test_page_chrome_stays_whatever_its_page_says(name: str, alt: str) -> None:
    (image,) = images(f'<img src="/photos/{name}" alt="{alt}">')
    assert image.decorative is not None


@pytest.mark.parametrize("more", ['class="icon"', 'width="16" height="16"', 'role="presentation"', 'id="logo"'])
def test_a_description_is_no_answer_to_what_the_page_declares(more: str) -> None:
    (image,) = images(f'<img src="seal-on-the-beach.jpg" alt="A grey seal resting on the sand" {more}>')
    assert image.decorative is not None
