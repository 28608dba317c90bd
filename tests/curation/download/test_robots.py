"""X-Robots-Tag values."""

import pytest

from mmcorpus.curation.download.robots import DEFAULT_DIRECTIVES, opt_out


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        (["all"], None),
        (["noai"], "noai"),
        (["nofollow, NOINDEX"], "noindex"),
        (["none"], "none"),
        (["mmcorpus: noimageai"], "noimageai"),
        (["Example-Bot: noai"], None),
        (["example-bot: nofollow, noai"], None),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST"], None),
        (["otherbot: noai", "noindex"], "noindex"),
    ],
)
def test_opt_out(headers: list[str], expected: str | None) -> None:
    assert opt_out(headers, DEFAULT_DIRECTIVES, ["mmcorpus"]) == expected
