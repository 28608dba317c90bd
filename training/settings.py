"""The base of the trainers' configs: how their fields are checked. Imports nothing heavy."""

from typing import Any, ClassVar


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


class Settings:
    """A config, or a group of its settings. A misspelt key in a recipe is an error, not a setting that nobody reads."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def _require_positive(self, *names: str) -> None:
        for name in names:
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; give more than 0")

    def _require_not_negative(self, *names: str) -> None:
        for name in names:
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; give 0 or more")
