"""Damage that a file shows by itself, where no hash of it is known: it is read from its beginning to its end."""

import json
import tarfile

import pyarrow as pa

from mmcorpus.curation.store import places, storage
from mmcorpus.curation.store.tars import has_end, read_tar


def unreadable(path: str) -> str:
    """A file's damage, as far as its format's own checks show it; empty if nothing can be seen.

    Of parquet the pages are read (and compared with their checksums), of a table of places what its rows say, of Arrow
    the batches, of a tar the headers up to its end, of JSON the values. Other formats tell nothing.
    """
    fs, inner = storage.filesystem(path)
    try:
        if path.endswith(".parquet"):
            with storage.open_parquet(path) as opened:
                for _ in opened.iter_batches():
                    pass
            if places.is_table(path) and (wrong := places.wrong_rows(path)):
                return f"cannot be read: {len(wrong)} of its rows are of no image: the first {wrong[0]}"
        elif path.endswith((".json", ".jsonl")):
            data = storage.read_bytes(path)
            for text in data.splitlines() if path.endswith("l") else [data]:
                json.loads(text)
        elif path.endswith(".tar"):
            with fs.open(inner, "rb") as file:
                with read_tar(file, "r|") as tar:
                    for _ in tar:
                        pass
                if not has_end(file):
                    return "cannot be read: it breaks off between two of its files"
        elif path.endswith(".arrow"):
            with fs.open(inner, "rb") as file:
                reader = pa.ipc.open_file(file)
                for number in range(reader.num_record_batches):
                    reader.get_batch(number).validate(full=True)
    except storage.Damaged as error:
        return f"cannot be read: {error.why}"
    except (OSError, ValueError, tarfile.TarError, pa.ArrowException, RecursionError) as error:
        return f"cannot be read: {error}"
    return ""
