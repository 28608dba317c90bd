"""Files of others are read as they were seen, or not at all."""

import os
from pathlib import Path

from mmcorpus.curation.store.named_files import read_whole, state_of


def test_a_whole_file_is_read_only_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "root"
    path = root / "in" / "a.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"as it was")
    seen = state_of(str(path))
    assert read_whole(str(root), "in/a.jpg", *seen) == b"as it was"
    assert read_whole(str(root), "in/a.jpg", seen.size - 1, seen.modified) is None
    os.utime(path, ns=(0, 1))
    assert read_whole(str(root), "in/a.jpg", *seen) is None, "written again, to the same length"
    assert read_whole(str(root), "in/a.jpg", *state_of(str(path))) == b"as it was"
    assert read_whole(str(root), "gone.jpg", *seen) is None
    assert read_whole(str(tmp_path), "root", *state_of(str(root))) is None, "a folder has a size and a time, too"
    assert read_whole("memory://root", "in/a.jpg", *seen) is None, "a store is asked in other ways"


def test_nothing_is_read_whole_outside_of_its_folder_nor_through_a_link(tmp_path: Path) -> None:
    root, path = tmp_path / "root", tmp_path / "a.jpg"
    root.mkdir()
    path.write_bytes(b"elsewhere")
    (root / "link.jpg").symlink_to(path)
    (root / "out").symlink_to(tmp_path)
    for file in ("../a.jpg", "out/a.jpg", "link.jpg", str(path), "", ".", "..", "a.jpg\0", "o\0ut/a.jpg"):
        assert read_whole(str(root), file, *state_of(str(path))) is None, file
