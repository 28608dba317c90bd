"""The content of a page, and how it is written: blocks in order, boilerplate gone, whatever the template."""

import pytest

from mmcorpus.curation.html import ExtractConfig, ExtractError, extract
from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode

URL = "https://example.com/a/page.html"
S = "This is a sentence of the article, long enough to be read as prose by anybody. "
PROSE = f"<p>{S * 3}</p>"


def nodes_of(html: str, config: ExtractConfig | None = None) -> list[Node]:
    return extract(html, URL, config or ExtractConfig()).nodes


def text(html: str) -> str:
    return "\n\n".join(node.text for node in nodes_of(html) if isinstance(node, TextNode))


def blocks(html: str) -> list[tuple[str, str]]:
    """Tag and text of what stands between two paragraphs of prose."""
    nodes = nodes_of(f"<body><article>{PROSE}{html}{PROSE}</article></body>")
    return [(node.tag, node.text) if isinstance(node, TextNode) else ("img", node.url) for node in nodes[1:-1]]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<h2>A <em>new</em> part</h2>", [("h2", "A new part")]),
        ("<p>one\n\n two&nbsp;three</p>", [("p", "one two three")]),
        ("<p>a<b>b</b> <i>c</i><span> d</span></p>", [("p", "ab c d")]),
        ("<p>one<br>two<br><br>three</p>", [("p", "one\ntwo"), ("p", "three")]),
        ("one <b>two</b><div>three</div>four", [("p", "one two"), ("p", "three"), ("p", "four")]),
        ("<ul><li>one<li>two <b>2</b></ul>", [("ul", "one\ntwo 2")]),
        ("<ol><li>one<ul><li>deep</ul><li>two</ol>", [("ol", "one\n  deep\ntwo")]),
        ("<dl><dt>term<dd>meaning</dl>", [("dl", "term\nmeaning")]),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", [("table", "a | b\n1 | 2")]),
        ("<table><caption>T</caption><tr><td>1<td><td>3</table>", [("table", "T\n1 |  | 3")]),
        ("<table><tr><td><p>a<p>b<td>c</table>", [("table", "a b | c")]),
        ("<table><tr><td><h2>h</h2><p>laid out</table>", [("h2", "h"), ("p", "laid out")]),
        ("<pre>def f():\n    return 1\n\n</pre>", [("pre", "def f():\n    return 1")]),
        ("<pre><code><span>a</span> <span>b</span>\n  <i>c</i></code></pre>", [("pre", "a b\n  c")]),
        ("<p>Call <code>f()</code> now.</p>", [("p", "Call f() now.")]),
        ("<blockquote><p>said</p><p>again</p></blockquote>", [("blockquote", "said"), ("blockquote", "again")]),
        ("<p>He said <q>yes</q>.</p>", [("p", "He said “yes”.")]),
        (
            "<ul><li>one<li><img src=/b.jpg>two</ul>",
            [("ul", "one"), ("img", "https://example.com/b.jpg"), ("ul", "two")],
        ),
        ("<details><summary>More</summary><p>inside</p></details>", [("p", "More"), ("p", "inside")]),
        ("<p>a<script>x</script><style>y</style><template>z</template>b</p>", [("p", "ab")]),
        ("<svg><text>drawn</text></svg><math><mi>x</mi><mo>=</mo><mn>1</mn></math>", [("p", "x=1")]),
        ("<p>tail<p>unclosed <b>bold<p>more", [("p", "tail"), ("p", "unclosed bold"), ("p", "more")]),
        ("<p>&lt;b&gt; &copy; &#x41; &unknown;</p>", [("p", "<b> © A &unknown;")]),
    ],
)
def test_blocks(html: str, expected: list[tuple[str, str]]) -> None:
    assert blocks(html) == expected


BOILERPLATE = [
    "<nav><a href=1>Home</a></nav>",
    "<div class='main-menu'><a href=1>Home</a></div>",
    "<div id=sidebar><p>WORD and some more words, in a sentence.</p></div>",
    "<aside>WORD</aside>",
    "<footer>WORD</footer>",
    "<div role=navigation>WORD</div>",
    "<div class='cookie-banner'>We use cookies. WORD</div>",
    "<div class='share-buttons'>WORD</div>",
    "<div class=sharedaddy>WORD</div>",
    "<section class='related-posts'><h3>WORD</h3><p>Another story, which is about something else.</p></section>",
    "<div class=comments><p>WORD is what I think, and that is what I wrote here.</p></div>",
    "<div id=disqus_thread>WORD</div>",
    "<div class='newsletter'>WORD</div>",
    "<form><input name=q><label>WORD</label></form>",
    "<div hidden>WORD</div>",
    "<div style='display: none'>WORD</div>",
    "<span class='sr-only'>WORD</span>",
    "<p class='byline'>WORD</p>",
    "<div class='postMeta'>WORD</div>",
    "<ul><li><a href=1>WORD one</a><li><a href=2>WORD two</a><li><a href=3>WORD three</a></ul>",
    "<button>WORD</button>",
    "<select><option>WORD</select>",
    "<noscript>WORD</noscript>",
    "<div role=dialog aria-modal=true>WORD</div>",
]


@pytest.mark.parametrize("html", BOILERPLATE)
@pytest.mark.parametrize("where", ["before", "within", "after"])
def test_boilerplate_goes(html: str, where: str) -> None:
    before, within, after = (html if where == place else "" for place in ("before", "within", "after"))
    page = f"<body>{before}<div class=x><h1>Headline</h1>{PROSE}{within}{PROSE}</div>{after}</body>"
    found = text(page)
    assert "WORD" not in found
    assert "Home" not in found
    assert found.startswith("Headline")
    assert found.count("This is a sentence") == 6


def test_a_whole_page_from_a_template() -> None:
    page = f"""<!doctype html><html lang=de-AT><head><title>The mill burnt | Site</title>
      <meta name=robots content="noai, noimageai"><meta name=GPTBot content=noindex></head>
      <body class="single has-sidebar"><header><a href=/><img src=/logo.png alt=Site></a><h1>Site</h1></header>
      <nav><ul><li><a href=/1>One</a><li><a href=/2>Two</a></ul></nav>
      <main><div class=breadcrumbs><a href=/>Home</a> › News</div><article><header><h1>The mill burnt</h1>
      <p class=byline>By Jane Doe</p><time>3 May 2019, 10:12</time></header>
      <figure><img src=mill.jpg alt="The mill"><figcaption>The mill in May</figcaption></figure>
      {PROSE}<h2>After</h2>{PROSE}<div class=share><a href=1>Tweet</a></div></article>
      <section class=related><h2>Related</h2><a href=1><img src=r.jpg>Other</a></section></main>
      <aside><h3>Most read</h3><a href=3>Three</a></aside><footer>© Site</footer></body></html>"""
    found = extract(page, URL)
    assert [node.tag if isinstance(node, TextNode) else node.url[-8:] for node in found.nodes] == [
        "h1", "mill.jpg", "figcaption", "p", "h2", "p"
    ]  # fmt: skip
    assert found.nodes[0] == TextNode(text="The mill burnt", tag="h1")
    assert (found.title, found.language, found.base_url) == ("The mill burnt | Site", "de-AT", URL)
    assert found.robots == (("robots", "noai, noimageai"), ("gptbot", "noindex"))
    assert found.counts["boilerplate"] >= 5


def test_the_headline_outside_the_text_comes_along_with_what_is_between() -> None:
    page = (
        f"<title>Big news</title><body><div><h1>Big news</h1><img src=lead.jpg></div><div><div>{PROSE * 3}</div></div>"
    )
    found = nodes_of(page)
    assert [node.url[-8:] if isinstance(node, ImageNode) else node.tag for node in found] == [
        "h1",
        "lead.jpg",
        "p",
        "p",
        "p",
    ]


def test_a_list_page_is_its_list() -> None:
    links = "".join(f"<li><a href=/{i}>Story number {i} of this day</a></li>" for i in range(20))
    found = text(
        f"<title>News</title><body><nav><a href=/>Home</a></nav><h1>News</h1><ul>{links}</ul><footer>©</footer>"
    )
    assert "Story number 19" in found
    assert "Home" not in found


def test_a_forum_thread_is_its_posts() -> None:
    posts = "".join(
        f"<div class=post id=post{i}00><div class=userinfo>user{i}<br>Posts: {i}</div><div>Posts: {i}</div>"
        f"<div class=message>Answer {i}: {S}</div></div>"
        for i in range(1, 6)
    )
    found = text(f"<title>How?</title><body><h1>How?</h1>{posts}")
    assert all(f"Answer {i}" in found for i in range(1, 6))
    assert "Posts:" not in found


def test_a_page_of_comments_alone_keeps_them() -> None:
    posts = "".join(f"<div class=comment><p>{i}: {S}</p></div>" for i in range(9))
    assert text(f"<body><table id=comments><tr><td>{posts}</table>").count(S.strip()) == 9


def test_a_name_that_misleads_is_not_believed() -> None:
    assert text(f"<body><div class=sidebar>{PROSE * 5}</div></body>").count("This is") == 15
    assert text(f"<body style='display:none'><form>{PROSE * 5}</form></body>").count("This is") == 15


def test_a_gallery_without_prose() -> None:
    tiles = "".join(f"<div class=tile><a href=/{i}><img src=/{i}.jpg></a><span>View {i}</span></div>" for i in range(9))
    found = nodes_of(f"<body><div class=menu><a href=/>Home</a></div><div id=all>{tiles}</div></body>")
    assert [node.url[-5] for node in found if isinstance(node, ImageNode)] == list("012345678")


def test_datelines_go_and_dates_in_the_text_stay() -> None:
    posted, text_ = "<p>Posted on 3 May 2019, 10:12</p>", "<p>In 2019 the mill burnt down.</p>"
    page = f"<h1>T</h1>{posted}{PROSE}{text_}{PROSE}<p>2019-05-03</p>"
    assert "Posted" not in text(f"<body>{page}")
    assert "In 2019 the mill" in text(f"<body>{page}")
    assert "2019-05-03" not in text(f"<body>{page}")


@pytest.mark.parametrize(
    ("html", "code"),
    [
        (b"", "empty"), (b"  \n ", "empty"), ("", "empty"), (b"plain text", "not_html"), (b"%PDF-1.4 <a>", "not_html"),
        (b"\x89PNG\r\n", "not_html"), (b"<" + bytes(100), "not_html"), (b"<p>" + b"x" * 30_000_000, "too_large"),
        ("<p>x" * 600_000, "too_many_nodes"), ("<p>" + "x<b>" * 300_000, "too_many_nodes"),
    ],
)  # fmt: skip
def test_pages_that_cannot_be_read(html: bytes | str, code: str) -> None:
    with pytest.raises(ExtractError, match=code) as error:
        extract(html, URL)
    assert error.value.code == code


def test_a_page_with_nothing_on_it() -> None:
    assert extract("<html></html>", URL).nodes == []
    assert extract("<frameset><frame src=a></frameset>", URL).nodes == []


def test_bytes_and_text_give_the_same() -> None:
    page = f"<body><h1>Größe</h1>{PROSE}"
    assert extract(page.encode("cp1252"), URL, charset="latin1").nodes == extract(page, URL).nodes


@pytest.mark.parametrize("change", [{"max_bytes": 0}, {"max_nodes": -1}, {"min_data_uri": 10, "max_data_uri": 5}])
def test_a_bad_config_says_so(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"max|min"):
        ExtractConfig(**change)
