"""What texts cost is said before they are asked for: the requests that are sent in the end, or more, never fewer."""

from pathlib import Path

import pytest

from mmcorpus.curation.scoring.servers.cost import estimate
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.filters.written import WrittenScorer
from tests.curation.scoring.servers.conftest import write_shard

ONE = ("http://127.0.0.1:1/v1",)


@pytest.fixture
def shards(tmp_path: Path) -> str:
    for number in range(2):
        write_shard(str(tmp_path / "shards"), number, 10)
    return str(tmp_path / "shards")


def test_what_is_written_from_images_and_what_from_captions(shards: str, tmp_path: Path) -> None:
    scores = str(tmp_path / "scores")
    seen = estimate(WrittenScorer(prompt="recaption", model_name="m", endpoints=ONE, max_tokens=9), shards, scores)
    assert (seen.samples, seen.requests, seen.images, seen.answer_tokens) == (20, 20, 20, 180)
    read = estimate(WrittenScorer(prompt="capqa", model_name="m", endpoints=ONE), shards, scores)
    assert (read.samples, read.requests, read.images) == (20, 18, 0), "a sample of each shard has no caption"
    characters = len(WrittenScorer(prompt="capqa", model_name="m", endpoints=ONE).asked.template)
    assert 0.9 < read.prompt_tokens / (18 * characters / 4) < 1.3
    assert "about 20 samples: at most 18 requests, about" in read.said()


def test_what_is_done_costs_nothing_and_a_text_that_is_not_written_yet_is_left_out(shards: str, tmp_path: Path) -> None:
    scores = str(tmp_path / "scores")
    fuses = WrittenScorer(prompt="capfusion", model_name="m", endpoints=ONE)
    before = estimate(fuses, shards, scores)
    assert before.requests == 18
    origin = Origin(scorer="recaption", version="1", fingerprint="one")
    for shard in list_shards(shards):
        uids = read_rows(shard, ["uid"])
        write_scores(scores, shard.name, uids.append_column("text", [["A clock on a wall. " * 10] * 10]), origin)
    after = estimate(fuses, shards, scores)
    assert after.requests == 18
    assert after.prompt_tokens > before.prompt_tokens
    own = Origin.of(fuses.reading({"recaption": "one"}))
    write_scores(scores, "00000", read_rows(list_shards(shards)[0], ["uid"]), own)
    assert estimate(fuses, shards, scores).samples == 10
    storage.remove(list_shards(shards)[1].stats)
    assert estimate(fuses, shards, scores).requests == 0


def test_a_shard_of_which_the_texts_that_are_read_could_not_be_written_is_not_asked_about(
    shards: str, tmp_path: Path
) -> None:
    scores = str(tmp_path / "scores")
    uids = read_rows(list_shards(shards)[0], ["uid"])
    origin = Origin(scorer="recaption", version="1", fingerprint="one")
    write_scores(scores, "00000", uids.append_column("text", [["A clock on a wall."] * 10]), origin)
    found = estimate(WrittenScorer(prompt="capfusion", model_name="m", endpoints=ONE), shards, scores)
    assert (found.samples, found.requests) == (10, 9)
