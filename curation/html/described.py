"""Images that a page describes: words of page chrome in a file's name (`seal`) mean what the description says."""

import re
from typing import Final

from mmcorpus.curation.html.parse import names
from mmcorpus.filters.yaml_data import read_data

_LISTS: Final = read_data(__package__, "words.yaml")
_CHROME: Final = names(_LISTS["chrome_words"])
"""Words of file names that stand for page chrome and for things in pictures."""
_NAMES: Final = names(_LISTS["chrome_names"])
"""Words of file names that need more to stand for a thing in a picture: sites name their own marks by them."""
_DOUBTFUL: Final = _CHROME | _NAMES
_FOLDERS: Final = names("star stars flag flags seal shield ribbon")
"""Those that are believed in a folder's name, too; `icons/` and `badges/` hold nothing else."""
_CALLED: Final = names("icon icons button buttons logo placeholder spacer")
"""Last words of a description by which it calls the picture page chrome: "virtual tour button"."""
_OF: Final = names("of for by de von du del di")
_ARTICLES: Final = names("the a an le la el il der die das")
"""Words around one of `_NAMES` by which a description calls the picture so: "the logo of a company"."""
_INTERFACE: Final = names(_LISTS["interface_words"]) | _CHROME | _NAMES
"""Words that describe no picture."""
_WORD: Final = re.compile(r"[^\W\d_]+")
_LONG: Final = 300
"""Characters of a description that are read."""
_DRAWN: Final = (".svg", ".gif", ".ico")
"""Files that are drawings more often than photographs."""
_NO_BLANKS: Final = "\u2e80"
"""Scripts from here on are written without blanks: two characters count as a word."""


def is_described(text: str, file: str, word: str, *, folder: bool = False) -> bool:
    """True if a description says that a picture shows something, though its name has a word of page chrome.

    It takes two words or more, one of which describes something. More is asked for where more speaks for page chrome: a
    name that says nothing else must be explained by a description that has the word too ("A grey heron" of `grey.jpg`);
    drawings, and words that name the folder, take a sentence. A file named by a `logo`, an `avatar` or an `emoji` takes
    a name that says more, no drawing, and a sentence about something else; a long one if the name ends with that word.

    Args:
        text: the image's alt text, or its caption.
        file: the last parts of its path.
        word: the one in question, lower case.
        folder: it stands before the last `/`.

    >>> is_described("A grey seal resting on the sand", "photos/seal-on-the-beach.jpg", "seal")
    True
    >>> is_described("Next page", "img/arrow-right.png", "arrow")
    False
    """
    if word not in _DOUBTFUL or (folder and word not in _FOLDERS):
        return False
    text = text[:_LONG].lower()
    words = _WORD.findall(text)
    if not words or words[-1] in _CALLED:
        return False
    telling = sum(_words_in(each) for each in words if _tells(each))
    # "virtual-tour-photo" is a name, no description.
    count = sum(map(_words_in, text.split()))
    name = file.rpartition("/")[2].lower()
    named = _WORD.findall(name.rpartition(".")[0])
    says_more = any(map(_tells, named))
    if word in _NAMES:
        about = words[1:] if words[0] in _ARTICLES else words
        if not says_more or name.endswith(_DRAWN) or not about or (about[0] in _NAMES and _OF & {*about[1:2]}):
            return False
        return count >= 6 and telling >= 3 if named[-1] in _NAMES else count >= 4 and telling >= 2
    if folder or name.endswith(_DRAWN):
        return count >= 4 and telling >= 2
    if says_more:
        return count >= 2 and telling >= 1
    return count >= 3 and telling >= 1 and word in words


def _words_in(run: str) -> int:
    return max(1, len(run) // 2) if run >= _NO_BLANKS else 1


def _tells(word: str) -> bool:
    return (len(word) > 2 or word >= _NO_BLANKS) and word not in _INTERFACE
