"""The Debian handbook's pages as paragraphs: real text in many languages for benchmarks and tests."""

from mmcorpus.curation.synthetic.corpora.debian import unpacked
from mmcorpus.curation.synthetic.corpora.handbook import INSTALLED, PACKAGE, Page, paragraphs_of


def read_pages(deb: str | None = None) -> list[Page]:
    """All pages by language and name; `deb` is a downloaded package file, None has apt download it.

    Raises:
        RuntimeError: apt or dpkg is missing or fails.
    """
    with unpacked(PACKAGE, deb, INSTALLED) as root:
        return [
            Page(language=path.parent.name, name=path.stem, paragraphs=paragraphs_of(path.read_text("utf-8")))
            for path in sorted(root.glob("*-*/*.html"))
        ]
