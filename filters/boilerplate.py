"""Captions that describe nothing: boilerplate, file names, addresses, markup. Lists of our own."""

import re
import unicodedata
from typing import Final

_FORMATS: Final = r"(?:jpe?g|jfif|png|gif|webp|bmp|tiff?|svg|avif|heic|psd|pdf|mp4|mov)"

# One token with an image's extension, or what cameras, phones and screens call their pictures, extension or not.
_FILE_NAME: Final = re.compile(
    rf"""
    [^\s/\\]+\.{_FORMATS}
  | (?:IMG|DSC[NF]?|DSCI|CIMG|PICT|SANY|MVI|GOPR|DJI|PXL|WP|VID|SAM|KIMG|HPIM|IMGP|MG|RSCN|FB[_-]IMG|PANO)
        [ _-]?\d{{2,}}[\w -]*(?:\.{_FORMATS})?
  | [PR]\d{{6,8}}(?:\.{_FORMATS})?
  | (?:screen[ _-]?shot|capture|scan|image|img|photo|pic|picture|whatsapp[ _-]image|signal|unnamed|untitled|download)
        [ _-]?\(?\d[\d ._():@apmt-]*(?:\.{_FORMATS})?
  | (?:19|20)\d{{2}}[-_.]?[01]\d[-_.]?[0-3]\d[ _-]\d{{2,}}[\w-]*(?:\.{_FORMATS})?
  | (?=[^\s]*\d)[0-9a-f]{{8}}(?:-?[0-9a-f]{{4}}){{3}}-?[0-9a-f]{{12}}(?:\.{_FORMATS})?
  | [\d_]{{6,}}(?:[a-z_]{{1,3}})?(?:\.{_FORMATS})?
    """,
    re.VERBOSE | re.IGNORECASE,
)
# A few words may stand before the extension ("my holiday.jpg"); with more, the name is a description.
_SPACED_FILE_NAME: Final = re.compile(rf"\S+(?: \S+){{1,2}}\.{_FORMATS}", re.IGNORECASE)
_URL: Final = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,15}://\S+|www\.\S+\.\S+|(?:[a-z0-9-]+\.)+(?:com|org|net|info|io|co|de|uk|fr"
    r"|ru|jp|cn|eu|edu|gov)(?:[/:?#]\S*)?)",
    re.IGNORECASE,
)
_MARKUP: Final = re.compile(
    r"""
    </?(?:a|abbr|article|b|blockquote|body|br|button|caption|center|cite|code|div|em|embed|figcaption|figure|font|footer
        |form|h[1-6]|head|header|hr|html|i|iframe|img|input|label|li|link|meta|nav|noscript|object|ol|p|picture|pre|s|script
        |section|small|source|span|strike|strong|style|sub|sup|svg|table|tbody|td|th|tr|u|ul|video)(?:\s[^<>]*|\s*/)?>
  | <!--|<!\[CDATA\[|<!doctype
  | &(?:amp|lt|gt|quot|apos|nbsp|[lr][sd]quo|[mn]dash|hellip|copy|reg|trade|bull|middot|laquo|raquo
        |\#\d{1,7}|\#x[0-9a-f]{1,6});
  | \[/?(?:caption|gallery|embed|video|audio|img|url|quote|code|b|i|u|size|color|font|center)(?:[\s=][^\[\]]*)?\]
  | !?\[[^\[\]]{0,200}\]\([^()\s]{1,500}\)
  | \{\{[^{}]{1,200}\}\}|\$\{[^{}]{1,100}\}|<%|%>
    """,
    re.VERBOSE | re.IGNORECASE,
)

# A caption made of nothing but these (and digits) names a slot on a page, not what is in the picture.
_GENERIC_WORDS: Final = """
    a an and at by for from in is me my no none not now null of on or our the this to us view with your you nan
    undefined alt attachment avatar background banner blank bg btn button caption close copy cover default
    description enlarge featured figure file fullsize gallery generic graphic graphics header hero hover icon icons
    illustration image images img imgs item large larger loading logo logos main medium missing new next original
    page photo photograph photography photos pic pics picture pictures placeholder post preview previous product
    profile regular resized screenshot show size slide slider slideshow small sprite stock tba test text thumb
    thumbnail thumbnails title tn unknown unnamed unspecified untitled user vector web website wide zoom click tap
    here available found free download downloads hd royalty creative commons abbildung bild bilder foto fotos
    vorschau imagen imagenes immagine immagini imagem imagens photographie vignette obrazek zdjecie afbeelding kuva
    resim gambar изображение фото картинка 图片 图像 照片 画像 写真 이미지 사진 صورة תמונה
"""
_GENERIC: Final = frozenset(_GENERIC_WORDS.split())

_MORE: Final = (
    "more|size|images?|photos?|gallery|details|larger|bigger|full ?screen|full (?:article|story)|article"
    "|story|post|product|options|results"
)
_NETWORKS: Final = (
    "facebook|twitter|x|pinterest|instagram|linkedin|whatsapp|reddit|tumblr|youtube|telegram|tiktok"
    "|rss|google(?: plus)?|e ?mail"
)
# Whole captions, after `normalise`.
_PHRASES: Final = re.compile(
    "|".join(
        (
            r"(?:please )?(?:click|tap|press|hover)(?: (?:here|on|to|for|the|this|image|photo|picture|thumbnail"
            r"|above|below))+(?: .*)?",
            rf"(?:view|see|show|read|learn|find out|load|discover)(?: (?:full|all|the|a|in|our"
            rf"|on))*(?: (?:{_MORE}))+(?: .{{0,30}})?",
            r"(?:open|enlarge|expand|zoom)(?: (?:the|this|image|photo|picture|media|in|modal|lightbox|gallery"
            r"|view|\d+))+",
            r"(?:no|missing) (?:image|photo|picture|caption|description|alt|title|thumbnail|preview)(?: .{0,40})?",
            r"(?:image|photo|picture|thumbnail|description|preview|content) (?:is )?"
            r"(?:unavailable|not (?:yet )?(?:available|found|loaded|provided|displayed))(?: .{0,20})?",
            r"(?:image|photo|picture|photos|images) (?:may|might|could) (?:contain|be|not) .*",
            r"(?:image|photo|picture|photos|images|photography|illustration)? ?(?:credit|credits|courtesy|source"
            r"|copyright|via|by)(?: of)?",
            r"(?:free |royalty |premium |hd )*(?:stock |vector |clip ?art )*"
            r"(?:images?|photos?|pictures?|vectors?|wallpapers?|downloads?|footage)(?: (?:for )?free)?(?: downloads?)?",
            r"download(?: (?:now|this|the|for|free|image|photo|wallpaper|app|pdf|full|hd|version|file|here|size))+",
            rf"(?:share|follow|like|tweet|pin|save|email|print|send|join|find)"
            rf"(?: (?:this|us|me|it|on|to|via|by|with|a|friend|page|post|{_NETWORKS}))+",
            rf"(?:{_NETWORKS})(?: (?:logo|icon|button|feed|share|page))?",
            r"(?:add|added|adding) to (?:cart|basket|bag|favou?rites|wish ?list|compare|collection)",
            r"buy (?:it )?now|shop (?:now|all)|sold out|on sale|sale|quick view|price|in stock|out of stock",
            r"(?:sign|log) (?:in|up|out)|subscribe(?: now)?|register(?: now)?|menu|search|home|back to top"
            r"|top of page|scroll .{0,20}",
            r"skip to .{0,30}|go to .{0,30}|(?:main )?navigation|breadcrumbs?|contact us|about us|privacy policy"
            r"|cookie policy",
            r"(?:advert|advertisement|advertising|sponsored|promoted|ads?)(?: (?:content|post|banner|here|space))?",
            r"(?:.{0,60} )?(?:all )?rights reserved.{0,30}|copyright \d{4}.{0,60}",
            r"(?:please )?(?:wait|enable javascript|try again).{0,60}|loading(?: .{0,20})?|javascript .{0,40}",
            r"lorem ipsum.*|coming soon|under construction|404.{0,30}|page not found|error|access denied|forbidden",
            r"(?:featured|related|recent|popular|similar|recommended|latest) (?:images?|photos?|posts?|products?"
            r"|articles?|items?|stories)",
            r"(?:haga|haz|pulse) clic.{0,40}|clique[rz]? .{0,40}|klicken sie.{0,40}|bild vergrössern"
            r"|ver imagen.{0,20}|voir l image.{0,20}",
        )
    )
)


class _Separators(dict[int, str]):
    """For `str.translate`: punctuation, symbols, spaces and controls to a space; letters with their marks stay."""

    def __missing__(self, codepoint: int) -> str:
        character = chr(codepoint)
        kept = unicodedata.category(character)[0] in "LMN"
        return self.setdefault(codepoint, character if kept else " ")


_SEPARATORS: Final = _Separators()


def normalise(text: str) -> str:
    """The text without what copies of a caption differ in: compatibility forms, case, punctuation and spacing.

    A text of nothing but symbols (emoji, say) keeps them.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_SEPARATORS).split()) or " ".join(folded.split())


def is_filename(text: str) -> bool:
    """True for `IMG_0123`, `DSC00012.JPG`, `red-clock.png`, `20230114_102233`; a whole sentence with `.jpg` is not."""
    stripped = text.strip()
    return bool(_FILE_NAME.fullmatch(stripped) or _SPACED_FILE_NAME.fullmatch(stripped))


def is_url(text: str) -> bool:
    """True if the whole text is one address: `https://…`, `www.…`, `example.com/a.png`."""
    return _URL.fullmatch(text.strip()) is not None


def has_markup(text: str) -> bool:
    """True if HTML tags or entities, shortcodes, Markdown links or template holes are left in the text."""
    return _MARKUP.search(text) is not None


def is_boilerplate(text: str) -> bool:
    """True if the text names a slot or a button of a page and nothing in the picture: `click to enlarge`, `image 3`."""
    plain = normalise(text)
    if not any(character.isalnum() for character in plain):
        return True
    if all(word in _GENERIC or word.isdigit() for word in plain.split()):
        return True
    return _PHRASES.fullmatch(plain) is not None
