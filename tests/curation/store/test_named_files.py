"""Files of others are read as they were seen, or not at all."""

import os
from pathlib import Path

from mmcorpus.curation.store.named_files import State, read_whole, state_of


def test_a_whole_file_is_read_only_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"as it was")
    seen = state_of(str(path))
    assert read_whole(str(path), seen) == b"as it was"
    assert read_whole(str(path), State(seen.size - 1, seen.modified)) is None
    os.utime(path, ns=(0, 1))
    assert read_whole(str(path), seen) is None, "written again, to the same length"
    assert read_whole(str(path), state_of(str(path))) == b"as it was"
    assert read_whole(str(tmp_path / "gone.jpg"), seen) is None
    assert read_whole(str(tmp_path), state_of(str(tmp_path))) is None, "a folder has a size and a time, too"
    assert read_whole("memory://a.jpg", seen) is None, "a store is asked in other ways"
