"""The scorer against a server that speaks the protocol: one visit an image, columns, reasons, the answers kept."""

import asyncio
import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from PIL import Image

from mmcorpus.filters import MAX_PIXELS, SCORERS, decode_image, judge_batch
from mmcorpus.filters.mllm import METRICS, MllmScorer, read_rubric
from mmcorpus.filters.mllm.images import image_bytes
from mmcorpus.filters.scorer import Unavailable
from mmcorpus.filters.serving import ClientConfig, Connection, ServerConfig
from tests.filters.serving.protocol import Handler, completion, serving

QUICK = ClientConfig(attempts=3, backoff=0.01, timeout=5.0, patience=1.0, concurrency=4)


def picture(seed: int, form: str = "JPEG", size: tuple[int, int] = (60, 40)) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(file, form)
    return file.getvalue()


def batch(captions: Sequence[str | None], pictures: Sequence[bytes] | None = None) -> dict[str, list[Any]]:
    encoded = list(pictures or [picture(seed) for seed in range(len(captions))])
    return {
        "uid": [f"{position:032x}" for position in range(len(captions))],
        "shard": ["00000"] * len(captions),
        "caption": list(captions),
        "encoded": encoded,
        "image": [decode_image(data, max_pixels=MAX_PIXELS) for data in encoded],
    }


def scorer(url: str, **more: Any) -> MllmScorer:
    return MllmScorer(**{"model_name": "judge", "endpoints": (url,), "client": QUICK, **more})


def metric_of(body: Mapping[str, Any]) -> str:
    text = body["messages"][-1]["content"][1]["text"]
    return next(name for name, criterion in read_rubric().criteria.items() if criterion in text)


def image_of(body: Mapping[str, Any]) -> bytes:
    url = body["messages"][-1]["content"][0]["image_url"]["url"]
    return base64.b64decode(url.partition("base64,")[2])


def always(text: str) -> Handler:
    async def handler(_: Any, __: int) -> web.StreamResponse:
        return web.json_response(completion(text))

    return handler


async def by_metric(body: dict[str, Any], _: int) -> web.StreamResponse:
    """A number for the first metric, a refusal for the second, an explanation, a number that is none."""
    said = ["86", "I'm sorry.", "100\nfine", "7/10"][METRICS.index(metric_of(body))]
    return web.json_response(completion(said))


def judged(one: MllmScorer, given: dict[str, list[Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = judge_batch(one, one.load(), given).to_pydict()
    return columns


def test_it_ships() -> None:
    assert SCORERS["mllm"] is MllmScorer


def test_four_metrics_in_one_visit_each_with_number_answer_and_reason() -> None:
    with serving(by_metric) as server:
        columns = judged(scorer(server.url), batch(["a red clock", "a blue boat"]))
        assert len(server.bodies) == 8
    assert columns["image_text_matching"] == [86.0, 86.0]
    assert columns["image_text_matching_integer"] == [86, 86]
    assert columns["object_detail_fulfillment"] == [None, None]
    assert columns["object_detail_fulfillment_raw"] == ["I'm sorry."] * 2
    assert columns["object_detail_fulfillment_reason"] == ["no_number"] * 2
    assert columns["caption_text_quality_integer"] == [100, 100]
    assert columns["semantic_understanding_raw"] == ["7/10"] * 2
    assert columns["reason"] == ["no_number", "no_number"]


def test_a_request_holds_the_files_own_bytes_then_the_caption_and_asks_for_probabilities() -> None:
    data = picture(5, "PNG")
    with serving(by_metric) as server:
        judged(scorer(server.url), batch(["a red clock"], [data]))
        bodies = server.bodies
    assert {metric_of(body) for body in bodies} == set(METRICS)
    assert metric_of(bodies[0]) == METRICS[0]
    assert all(image_of(body) == data for body in bodies)
    assert bodies[0]["messages"][-1]["content"][0]["image_url"]["url"].startswith("data:image/png;")
    asked = {name: bodies[0][name] for name in ("model", "temperature", "logprobs", "top_logprobs", "max_tokens")}
    assert asked == {"model": "judge", "temperature": 0, "logprobs": True, "top_logprobs": 20, "max_tokens": 8}


def test_the_first_metric_goes_alone_so_that_the_image_is_in_the_cache_for_the_rest() -> None:
    busy: list[int] = []
    seen: list[int] = []

    async def handler(body: dict[str, Any], _: int) -> web.StreamResponse:
        busy.append(1)
        seen.append(len(busy))
        await asyncio.sleep(0.05)
        busy.pop()
        return await by_metric(body, 0)

    with serving(handler) as server:
        judged(scorer(server.url), batch(["a red clock"]))
    assert seen[0] == 1
    assert max(seen) == 3


def test_all_of_a_visit_goes_to_one_server() -> None:
    with serving(by_metric) as one, serving(by_metric) as two:
        judged(scorer(one.url, endpoints=(one.url, two.url)), batch([f"thing {n}" for n in range(12)]))
        images = [{image_of(body) for body in server.bodies} for server in (one, two)]
        assert len(one.bodies) + len(two.bodies) == 48
    assert not images[0] & images[1]


def test_samples_without_caption_or_image_are_not_asked_about() -> None:
    data = [picture(0), picture(1), picture(2)[:300], b""]
    with serving(always("50")) as server:
        columns = judged(scorer(server.url), batch([None, "  ", "cut off", "nothing"], data))
        assert not server.bodies
    assert columns["reason"] == ["no_caption", "no_caption", "truncated", "empty"]


def test_a_refused_request_costs_that_metric_alone() -> None:
    async def handler(body: dict[str, Any], _: int) -> web.StreamResponse:
        if metric_of(body) == METRICS[2]:
            return web.json_response({"error": {"message": "too long"}}, status=400)
        return web.json_response(completion("42"))

    with serving(handler) as server:
        columns = judged(scorer(server.url), batch(["a red clock"]))
    assert columns["caption_text_quality_reason"] == ["rejected: 400 too long"]
    assert columns["semantic_understanding"] == [42.0]


def test_a_server_that_rejects_everything_is_no_verdict_on_the_samples() -> None:
    async def handler(_: Any, __: int) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no logprobs here"}}, status=400)

    with (
        serving(handler) as server,
        pytest.raises(Unavailable, match="rejects all of 16 samples: rejected: 400 no log"),
    ):
        judged(scorer(server.url), batch([f"thing {n}" for n in range(16)]))


def poisoned(body: dict[str, Any]) -> bool:
    return "thing 3" in body["messages"][-1]["content"][1]["text"]


async def silent_on_one(body: dict[str, Any], _: int) -> web.StreamResponse:
    return web.Response(status=500) if poisoned(body) else web.json_response(completion("42"))


def test_a_sample_without_an_answer_leaves_its_shard_to_a_rerun_or_is_null_if_asked_for() -> None:
    given = batch([f"thing {n}" for n in range(6)])
    with serving(silent_on_one) as server:
        with pytest.raises(Unavailable, match=f"1 of 6 samples got no answer, {3:032x} first: 500"):
            judged(scorer(server.url), given)
        client = ClientConfig(attempts=2, backoff=0.01, unanswered="null")
        columns = judged(scorer(server.url, client=client), given)
    assert columns["image_text_matching"] == [42.0, 42.0, 42.0, None, 42.0, 42.0]
    assert columns["reason"][3].startswith("no_answer: 500")


class Kept:
    """A cache in memory."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.flushed = 0

    def read(self, shard: str) -> Mapping[str, Any]:
        return self.answers.setdefault(shard, {})

    def find(self, key: str) -> Mapping[str, Any] | None:
        return next((kept[key] for kept in self.answers.values() if key in kept), None)

    def keep(self, shard: str, key: str, value: Mapping[str, Any]) -> None:
        assert key not in self.answers[shard]
        self.answers[shard][key] = json.loads(json.dumps(value))

    def reserve(self, key: str) -> bool:
        return True

    def give_up(self, key: str) -> None:
        pass

    def flush(self) -> None:
        self.flushed += 1


def test_answers_are_kept_and_never_asked_for_twice() -> None:
    given, kept = batch([f"thing {n}" for n in range(6)]), Kept()
    with serving(silent_on_one) as server:
        one = scorer(server.url).connected(Connection(endpoints=(server.url,), answers=kept))
        with pytest.raises(Unavailable):
            judged(one, given)
        assert len(kept.answers["00000"]) == 5 * 4
        assert kept.flushed == 1
        asked = len(server.bodies)
        server.handler = always("42")
        columns = judged(one, given)
        assert len(server.bodies) == asked + 4
        assert columns["reason"] == [None] * 6
        assert judged(one, {**given, "shard": ["00001"] * 6}) == columns, "of another shard the question is the same"
        assert len(server.bodies) == asked + 4
        assert judged(one, given) == columns
        assert len(server.bodies) == asked + 4

        other = given | {"caption": ["another text", *given["caption"][1:]]}
        judged(one, other)
        assert len(server.bodies) == asked + 8
        judged(scorer(server.url, revision="v2").connected(Connection(endpoints=(server.url,), answers=kept)), given)
        assert len(server.bodies) == asked + 8 + 24
    assert {value["metric"] for value in kept.answers["00000"].values()} == set(METRICS)


def test_another_server_of_the_same_name_is_asked_itself_unless_one_says_that_it_is_the_same() -> None:
    given, kept = batch([f"thing {n}" for n in range(3)]), Kept()

    def asked(servers: Sequence[Any], name: str | None = None, **more: Any) -> int:
        """How many requests the servers got, and that their ratings are theirs."""
        before = sum(len(server.bodies) for server in servers)
        urls = tuple(server.url for server in servers)
        one = scorer("", **{"endpoints": urls, "server_name": name, **more})
        columns = judged(one.connected(Connection(endpoints=urls, answers=kept)), given)
        assert set(columns["image_text_matching_integer"]) == {42 if servers[0] is first else 77}
        return sum(len(server.bodies) for server in servers) - before

    with serving(always("42")) as first, serving(always("77")) as second:
        assert asked([first]) == 12
        assert asked([second]) == 12, "of a model of the same name"
        assert (asked([first]), asked([second])) == (0, 0)
        assert asked([second], revision="v2") == 12
        assert asked([second], "the judge of May") == 12
        second.handler = always("1")
        assert asked([second], "the judge of May") == 0
        first.handler = always("99")
        urls = (first.url,)
        moved = scorer("", endpoints=urls, server_name="the judge of May")
        columns = judged(moved.connected(Connection(endpoints=urls, answers=kept)), given)
        assert set(columns["image_text_matching_integer"]) == {77}, "it has moved, and is said to be the same"
    with pytest.raises(ValueError, match="server_name is a name for endpoints"):
        MllmScorer(model_name="judge", server_name="x")


def test_exploring_asks_how_a_first_digit_that_was_not_taken_goes_on() -> None:
    tokens = [("8", [("8", np.log(0.75)), ("1", np.log(0.25))]), ("6", [("6", 0.0)])]

    async def handler(body: dict[str, Any], _: int) -> web.StreamResponse:
        last = body["messages"][-1]
        if last["role"] == "assistant":
            assert body["continue_final_message"]
            assert not body["add_generation_prompt"]
            assert last["content"] == "1"
            return web.json_response(completion("00", [("0", [("0", 0.0)]), ("0", [("0", 0.0)])]))
        return web.json_response(completion("86", tokens))

    with serving(handler) as server:
        given = batch(["a red clock"])
        plain = judged(scorer(server.url, metrics=("image_text_matching",)), given)
        assert len(server.bodies) == 1
        explored = judged(scorer(server.url, metrics=("image_text_matching",), explore=0.2), given)
        assert len(server.bodies) == 3
    assert explored["image_text_matching"] == [pytest.approx(0.75 * 86 + 0.25 * 100)]
    assert plain["image_text_matching"] == explored["image_text_matching"]  # the guess was right


def test_images_are_sent_as_they_are_unless_they_are_too_large_or_not_readable_everywhere() -> None:
    data = picture(0, "WEBP", (300, 200))
    image = decode_image(data, max_pixels=MAX_PIXELS)
    assert image_bytes(data, image, None) == (data, "webp")
    assert image_bytes(data, image, 300) == (data, "webp")
    smaller, form = image_bytes(data, image, 150)
    assert form == "jpeg"
    assert Image.open(io.BytesIO(smaller)).size == (150, 100)
    tiff = picture(0, "TIFF")
    sent, form = image_bytes(tiff, decode_image(tiff, max_pixels=MAX_PIXELS), None)
    assert form == "png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sent))), decode_image(tiff, max_pixels=MAX_PIXELS).pixels)


def test_what_changes_a_rating_is_in_the_fingerprint_and_nothing_else(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/v1"
    same = scorer(url).fingerprint()
    assert scorer("http://10.0.0.1:9/v1").fingerprint() == same
    assert scorer(url, server_name="mine").fingerprint() == same
    assert scorer(url, client=ClientConfig(concurrency=99, timeout=1.0)).fingerprint() == same
    assert scorer(url).connected(Connection(endpoints=("http://x/v1",))).fingerprint() == same
    path = tmp_path / "mine.yaml"
    path.write_text("template: '{caption} {criterion}'\nmetrics: {image_text_matching: Fits}\n")
    others = [
        scorer(url, revision="a1b2"),
        scorer(url, model_name="another"),
        scorer(url, prompts=str(path)),
        scorer(url, metrics=("caption_text_quality",)),
        scorer(url, max_side=224),
        scorer(url, max_tokens=12),
        scorer(url, explore=0.1),
        scorer(url, extra={"seed": 1}),
    ]
    assert len({same, *(other.fingerprint() for other in others)}) == 9
    path.unlink()

    def served(*args: str) -> str:
        made = MllmScorer(model_name="judge", server=ServerConfig(args=args))
        object.__setattr__(made, "_model", "judge")
        return made.fingerprint()

    assert served() == same
    assert served("--max-num-seqs", "8", "--limit-mm-per-prompt", '{"image": 1}') == same
    assert served("--quantization=fp8") == served("--max-num-seqs", "8", "--quantization", "fp8") != same
    assert served("--chat_template", "mine.jinja") == served("--chat-template", "mine.jinja") != same
    assert scorer(url).schema().names[:4] == [
        "image_text_matching",
        "image_text_matching_integer",
        "image_text_matching_raw",
        "image_text_matching_reason",
    ]


def test_settings_that_cannot_be_are_refused() -> None:
    url = "http://127.0.0.1:1/v1"
    for more, complaint in (
        ({"model_name": " "}, "model_name is empty"),
        ({"endpoints": ("localhost:8000",)}, "'localhost:8000' is no http"),
        ({"endpoints": (url, url)}, "names one twice"),
        ({"metrics": ("beauty",)}, "metrics: 'beauty' is not in the prompts; there are image_text_matching"),
        ({"metrics": ()}, "at least one"),
        ({"max_tokens": 2}, '"100" may take three tokens'),
        ({"max_side": 1}, "max_side is 1"),
        ({"explore": 0.0}, "explore is 0"),
        ({"prompts": "/nowhere.yaml"}, "there is no file /nowhere.yaml"),
    ):
        with pytest.raises(ValueError, match=complaint):
            scorer(url, **more)
    with pytest.raises(ValueError, match="environment has none"):
        scorer(url, client=ClientConfig(key_variable="NO_SUCH_KEY_HERE")).check()
    with pytest.raises(RuntimeError, match="has no model server"):
        MllmScorer(model_name="x").connection()
