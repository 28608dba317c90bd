"""Dates as the web writes them, as numbers that can be compared."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_since_1970(text: str | None) -> float | None:
    """The time that a date names, as ISO 8601 or HTTP (RFC 9110, §5.6.7) writes it; None for anything else.

    A date without a zone is taken as UTC.

    >>> seconds_since_1970("1970-01-02"), seconds_since_1970("Thu, 01 Jan 1970 00:01:00 GMT")
    (86400.0, 60.0)
    """
    if text is None:
        return None
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text.strip())
        except (ValueError, TypeError, IndexError):
            continue
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return None
