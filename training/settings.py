"""The checks that every config of the trainers makes of its fields. Imports nothing heavy."""

from typing import Any, Final

PYDANTIC_FORBID: Final[dict[str, Any]] = {"extra": "forbid"}
"""A misspelt key in a recipe is an error, not a setting that nobody reads."""


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_positive(config: object, *names: str) -> None:
    """Raise ValueError naming the first of these fields that is not above 0."""
    for name in names:
        require(getattr(config, name) > 0, f"{name} is {getattr(config, name)}; give more than 0")


def require_not_negative(config: object, *names: str) -> None:
    """Raise ValueError naming the first of these fields that is below 0."""
    for name in names:
        require(getattr(config, name) >= 0, f"{name} is {getattr(config, name)}; give 0 or more")
