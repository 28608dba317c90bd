"""The bounds of a fetch, and its end when it exceeds them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mmcorpus.curation.download.robots import DEFAULT_DIRECTIVES

USER_AGENT: Final = "mmcorpus/0.1"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds of a fetch in bytes, time and places; see DownloadConfig for each field."""

    timeout: float = 10.0
    total_timeout: float = 60.0
    max_bytes: int = 64 * 2**20
    max_redirects: int = 5
    retries: int = 0
    backoff: float = 0.5
    allow_private: bool = False
    connect_to: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Host (lower case) to address and port."""
    user_agent_token: str | None = None
    directives: tuple[str, ...] = DEFAULT_DIRECTIVES

    @property
    def user_agent(self) -> str:
        return f"{USER_AGENT} (+{self.user_agent_token})" if self.user_agent_token else USER_AGENT


class Failure(Exception):
    """Ends an attempt; becomes a FetchFailure."""

    def __init__(self, code: str, detail: str = "", *, retry: bool = False, wait: float | None = None) -> None:
        super().__init__(code)
        self.code, self.detail, self.retry, self.wait = code, detail, retry, wait


class Deadline:
    """The time left of one fetch. Waiting for a turn at a busy host is ours, not the server's, and is not counted."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.end = time.monotonic() + limits.total_timeout

    def step(self) -> float:
        """The longest that the next wait may take; raises once there is no time left."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise Failure("total_time", f"over {self.limits.total_timeout:g} s")
        return min(self.limits.timeout, left)

    def overrun(self, what: str) -> Failure:
        """The failure for a wait that timed out: the server's silence, or the end of our patience with all of it."""
        if time.monotonic() >= self.end:
            return Failure("total_time", f"over {self.limits.total_timeout:g} s")
        return Failure("timeout", f"{what}: nothing for {self.limits.timeout:g} s", retry=True)
