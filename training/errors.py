"""Errors that are raised in another process than the one that met them."""

import pickle


def carriable(error: BaseException) -> BaseException:
    """The error itself, or one that says the same where it cannot be pickled and read again (a class of its own
    arguments, a connection in it)."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
