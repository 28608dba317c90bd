"""Folders of checkpoints: whole or not there, also where one stood before."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.store import storage
from mmcorpus.training.checkpoint import list_checkpoints
from mmcorpus.training.folder import STATE, new_folder


def write(path: str, **files: str) -> None:
    with new_folder(path) as folder:
        for name, text in {**files, STATE: "{}"}.items():
            Path(folder, name).write_text(text)


@pytest.mark.parametrize("root", ["", "memory://folder-of-before"])
def test_a_kill_while_it_is_replaced_leaves_no_half_of_two(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every removal and upload is a place to die at: what is found afterwards is one of the two, or nothing."""
    root = root or str(tmp_path)
    path = storage.join(root, "step-00000001")
    before = {"a": "before", "z": "before", "model-00001-of-00002": "before"}
    after = {"a": "after", "z": "after"}
    left = 0

    def dying(do: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return do(*arguments, **named)

        return act

    whole = [{**before, STATE: "{}"}, {**after, STATE: "{}"}]
    for moment in range(30):
        storage.remove(path)
        write(path, **before)
        left = moment
        with monkeypatch.context() as patched:
            patched.setattr("os.unlink", dying(os.unlink))
            patched.setattr("os.remove", dying(os.remove))
            patched.setattr(storage, "upload", dying(storage.upload))
            with contextlib.suppress(KeyboardInterrupt):
                write(path, **after)
        if list_checkpoints(root):
            names = storage.list_names(path)
            assert {name: storage.read_bytes(storage.join(path, name)).decode() for name in names} in whole
    assert left > 0, "it never came to its end"
