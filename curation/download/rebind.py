"""img2dataset's own functions, with some of the names they call meaning ours.

img2dataset's functions find what they call in their module's globals. `rebound` makes a copy of such a function that
finds others there; img2dataset's modules stay as they are, for everybody else and for the next call. It refuses if the
function no longer uses a name, so that another version of img2dataset fails at once instead of going unguarded.
"""

import os
import types
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def import_img2dataset() -> None:
    """Import img2dataset without letting albumentations, which it imports, ask the internet for a newer version."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import img2dataset  # noqa: F401


def rebound(function: Function, **names: Any) -> Function:
    """A copy of a function that sees `names` in place of its module's; raises RuntimeError for a name it never uses."""
    assert isinstance(function, types.FunctionType)
    unused = sorted(set(names) - _global_names(function.__code__))
    if unused:
        from importlib.metadata import version

        raise RuntimeError(
            f"{function.__module__}.{function.__qualname__} of img2dataset {version('img2dataset')} does not use "
            f"{', '.join(unused)}; mmcorpus knows img2dataset 1.47: install that version"
        )
    return types.FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )  # type: ignore[return-value]


def _global_names(code: types.CodeType) -> set[str]:
    inner = (_global_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*inner)
