"""The answers that are kept: by several writers, after crashes, on object storage."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

from mmcorpus.curation.scoring.servers.answers import AnswerLog
from mmcorpus.curation.store import storage
from tests.processes import wait_until


def test_an_answer_outlives_its_process_as_soon_as_it_is_kept(tmp_path: Path) -> None:
    log = AnswerLog(str(tmp_path))
    log.keep("00000", "a", {"text": "86 – \u2028 ok", "tokens": [["8", []]]})
    again = AnswerLog(str(tmp_path)).read("00000")
    assert again == {"a": {"text": "86 – \u2028 ok", "tokens": [["8", []]]}}
    assert AnswerLog(str(tmp_path)).read("00001") == {}


def test_several_processes_write_side_by_side_and_read_each_other(tmp_path: Path) -> None:
    one, two = AnswerLog(str(tmp_path)), pickle.loads(pickle.dumps(AnswerLog(str(tmp_path))))
    for number in range(10):
        one.keep("00000", f"one {number}", {"text": "1"})
        two.keep("00000", f"two {number}", {"text": "2"})
    assert len(AnswerLog(str(tmp_path)).read("00000")) == 20
    assert len(list((tmp_path / "00000").iterdir())) == 2


def test_a_line_that_a_crash_cut_off_costs_one_answer(tmp_path: Path) -> None:
    log = AnswerLog(str(tmp_path))
    for number in range(3):
        log.keep("00000", str(number), {"text": "x"})
    (path,) = (tmp_path / "00000").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    (tmp_path / "00000" / "other.jsonl").write_bytes(
        b'\xff\xfe\n[1]\n{"key": "mine", "text": "y"}\n{"text": "no key"}\n'
    )
    assert set(AnswerLog(str(tmp_path)).read("00000")) == {"0", "1", "mine"}


def test_what_another_shard_has_asked_is_found(tmp_path: Path) -> None:
    """As of the last reading of a shard, and no longer where the file is gone or a line was cut off."""
    log, other = AnswerLog(str(tmp_path)), AnswerLog(str(tmp_path))
    for number in range(300):
        other.keep(f"{number % 3:05d}", f"{number:032x}", {"text": f"– {number} \u2028", "uid": str(number)})
    assert log.find(f"{5:032x}") is None
    assert log.read("00009") == {}
    assert all(
        log.find(f"{number:032x}") == {"text": f"– {number} \u2028", "uid": str(number)} for number in range(300)
    )
    assert log.find(f"{300:032x}") is None
    other.keep("00000", f"{300:032x}", {"text": "new"})
    log.read("00008")
    assert log.find(f"{300:032x}") == {"text": "new"}
    (file,) = (tmp_path / "00000").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert log.find(f"{300:032x}") is None
    (file,) = (tmp_path / "00002").iterdir()
    file.unlink()
    assert log.find(f"{2:032x}") is None
    assert log.find(f"{1:032x}") is not None


OTHER = """
import sys
from mmcorpus.curation.scoring.servers.answers import AnswerLog
log, key = AnswerLog(sys.argv[1]), f"{7:032x}"
log.read("00001")
print(log.reserve(key), log.reserve(f"{8:032x}"), flush=True)
for command in sys.stdin:
    if command == "answer\\n":
        log.keep("00001", key, {"text": "paid"})
    elif command == "flush\\n":
        log.flush()
    elif command == "give up\\n":
        log.give_up(f"{8:032x}")
    print("done", flush=True)
"""


def test_what_another_process_asks_at_this_moment_is_waited_for(tmp_path: Path) -> None:
    log, key, failed = AnswerLog(str(tmp_path)), f"{7:032x}", f"{8:032x}"
    log.read("00000")
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None

        def tell(command: str) -> None:
            print(command, file=other.stdin, flush=True)
            assert other.stdout.readline() == "done\n"

        assert other.stdout.readline() == "True True\n"
        assert not log.reserve(key)
        assert log.find(key) is None
        tell("answer")
        wait_until(lambda: not log.reserve(key) and log.find(key) == {"text": "paid"}, other)
        tell("give up")
        assert log.reserve(failed), "without an answer another may ask"
        late = AnswerLog(str(tmp_path / "late"))  # of another folder: nobody else is asked for
        assert late.reserve(key)
        shutil.rmtree(tmp_path / "late")
        assert late.reserve(key)
        assert (tmp_path / "late" / ".asking").exists()
        unseen = pickle.loads(pickle.dumps(log))
        assert unseen.find(key) is None
        tell("flush")
        assert unseen.reserve(key), "asked no more"
        assert unseen.find(key) == {"text": "paid"}, "who may ask has looked before"
        other.kill()
    assert log.reserve(f"{9:032x}"), "locks end with their process"


def test_only_the_latest_shard_is_held(tmp_path: Path) -> None:
    log = AnswerLog(str(tmp_path))
    for shard in ("00000", "00001"):
        log.read(shard)
        log.keep(shard, "a", {"text": shard})
        log.flush()
    assert list(log._kept) == ["00001"]
    assert list(log._files) == ["00001"]
    assert log.read("00000") == {"a": {"text": "00000"}}


def test_object_storage_gets_a_file_a_batch(s3_root: str) -> None:
    root = storage.join(s3_root, "answers")
    log = AnswerLog(root)
    for number in range(3):
        log.keep("00000", str(number), {"text": "x"})
    assert AnswerLog(root).read("00000") == {}
    log.flush()
    log.flush()
    later = AnswerLog(root)
    later.read("00001")
    assert later.find("1") == {"text": "x"}
    assert set(AnswerLog(root).read("00000")) == {"0", "1", "2"}
    assert len(storage.list_names(storage.join(root, "00000"))) == 1
