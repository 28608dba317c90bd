"""Prompts as models get them, demonstrations, answers over HTTP, and what fails told apart."""

import base64
import dataclasses
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.filters.scorer import Unavailable
from mmcorpus.filters.serving.config import ClientConfig
from mmcorpus.training import Generator
from mmcorpus.training.evaluation import Checkpoint, EvaluationConfig, Question, Server
from mmcorpus.training.evaluation.answering import Unanswered, messages
from mmcorpus.training.evaluation.asking import Asked, ask, draw, read
from mmcorpus.training.model import VisionLanguageModel
from tests.training.conftest import png

RED = png((200, 0, 0))


def question(number: int, *, images: int = 1, **more: Any) -> Question:
    settings: dict[str, Any] = {"prompt": f"Q{number}?", "answers": ("a", "b", "b"), "metric": "exact",
                                "cluster": f"i{number // 2}", **more}  # fmt: skip
    return Question(id=str(number), images=tuple(f"{number}.{n}.png" for n in range(images)), **settings)


def test_a_prompt_has_a_mark_an_image_its_choices_and_what_to_answer() -> None:
    asked = ask(
        question(1, images=2, prompt="<image> or this?", choices=("x", "y"), answers=("A",)), EvaluationConfig()
    )
    ((role, text),) = asked.turns
    assert role == "user"
    assert text.startswith("<image>\n<image> or this?\nA. x\nB. y\nAnswer with the option's letter")
    own = ask(question(1), EvaluationConfig(instruction="One word."))
    assert own.turns == (("user", "<image>\nQ1?\nOne word."),)


def test_demonstrations_are_fixed_by_seed_and_question_and_show_other_images() -> None:
    config = EvaluationConfig(shots=3, demonstrations="train.jsonl")
    pool = [question(number) for number in range(12)]
    asked = ask(question(5), config, pool, seed=1)
    assert [role for role, _ in asked.turns] == ["user", "assistant"] * 3 + ["user"]
    assert asked.turns[1][1] == "b", "what most humans say"
    assert len(asked.images) == 4
    assert asked.images[-1] == "5.0.png"
    drawn = [{one.id for one in draw(question(5), pool, 3, seed)} for seed in range(5)]
    assert len({frozenset(ids) for ids in drawn}) > 1
    assert all(not ids & {"4", "5"} for ids in drawn), "never the question, nor another of its image"
    assert asked == ask(question(5), config, pool, seed=1)
    with pytest.raises(ValueError, match="3 demonstrations are wanted, and there are 2 of other images"):
        ask(question(5), config, pool[:4][:2] + pool[4:6], seed=1)


def test_a_layout_of_demonstrations_that_a_checkpoint_cannot_have_costs_no_question(
    model: VisionLanguageModel, tokenizer: Any
) -> None:
    """It is refused: no question could be answered with it."""
    asker = Checkpoint("somewhere", "cpu")
    asker._generator = Generator(model=model, tokenizer=tokenizer, chat_template=None)
    asked = Asked(turns=(("user", "<image>\nQ?"),), images=(RED,), layouts=(1000,))
    with pytest.raises(ValueError, match="tokens_per_image is 1000, but the encoder gives 16 patches"):
        asker.answer([asked], 2, 1)
    assert isinstance(asker.answer([dataclasses.replace(asked, layouts=(1,))], 2, 1)[0], str)


def test_after_a_chain_of_thought_the_answer_alone_is_judged() -> None:
    config = EvaluationConfig(chain_of_thought=True)
    assert "step by step" in ask(question(1), config).turns[0][1]
    assert read("Two and two.\nThe answer: not yet\nAnswer: 4\nso", config) == "4"
    assert read("it is 4", config) == "it is 4"
    assert read("Answer: 4", EvaluationConfig()) == "Answer: 4"
    assert config.longest == 512


def test_demonstrations_think_first_and_may_be_of_lower_resolution() -> None:
    """MM1's few-shot prompts: a chain of thought in each demonstration that has one, few tokens for its image."""
    config = EvaluationConfig(shots=2, demonstrations="x", chain_of_thought=True, demonstration_layout=9)
    pool = [question(2, thoughts="Two hands,\nfour fingers."), question(6)]
    asked = ask(question(1, images=2), config, pool, seed=0)
    said = {text for role, text in asked.turns if role == "assistant"}
    assert said == {"Two hands,\nfour fingers.\nAnswer: b", "Answer: b"}
    assert asked.layouts == (9, 9, None, None)
    assert len(asked.images) == 4
    plain = ask(question(1), EvaluationConfig(shots=1, demonstrations="x"), pool[:1], seed=0)
    assert plain.turns[1][1] == "b"
    assert plain.layouts == ()
    with pytest.raises(ValueError, match="demonstration_layout is given without shots"):
        EvaluationConfig(demonstration_layout=9)


class Fake(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that says what it was asked; `bad` is refused, `busy` is not answered."""

    protocol_version = "HTTP/1.1"
    seen: list[Any]

    def log_message(self, *args: Any) -> None:
        return

    def reply(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen.append(body)
        text = body["messages"][-1]["content"][-1]["text"]
        if "bad" in text:
            self.reply(400, {"error": {"message": "too long"}})
        elif "busy" in text:
            self.reply(503, {"error": {"message": "later"}})
        else:
            self.reply(200, {"choices": [{"message": {"content": f" said {text} "}}]})


@pytest.fixture
def server() -> Iterator[str]:
    Fake.seen = []
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_address[1]}/v1"
    serving.shutdown()
    serving.server_close()


def one(text: str, *images: bytes | str) -> Asked:
    return Asked(turns=(("user", "<image>\n" * len(images) + text),), images=images)


QUICK = ClientConfig(attempts=2, backoff=0.01, patience=0.3, timeout=5.0)


def test_a_server_is_asked_with_images_where_their_marks_stand(server: str, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(RED)
    model = Server(server, client=QUICK)
    assert model.identity() == {"server": server, "model": "m"}
    asked = [one("hello", str(file)), one("bad", RED), one("there", b"no image"), one("none"),
             Asked(turns=(("user", "see <image> there"),), images=(RED,))]  # fmt: skip
    said = model.answer(asked, 7, 2)
    assert said[0] == "said hello"
    assert isinstance(said[1], Unanswered)
    assert "too long" in said[1].reason
    assert isinstance(said[2], Unanswered)
    assert "cannot be decoded" in said[2].reason
    assert said[3:] == ["said none", "said  there"]
    body = next(body for body in Fake.seen if "hello" in json.dumps(body))
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, 7)
    image, text = body["messages"][0]["content"]
    assert base64.b64decode(image["image_url"]["url"].partition(",")[2]) == RED
    assert text == {"type": "text", "text": "hello"}


def test_a_server_that_does_not_answer_stops_the_evaluation(server: str) -> None:
    with pytest.raises(Unavailable):
        Server(server, client=QUICK).answer([one("busy", RED)], 7, 2)
    assert "hunter2" not in Server("http://me:hunter2@127.0.0.1:9/v1", "m").name
    with pytest.raises(Unavailable, match="does not say what is served"):
        Server("http://127.0.0.1:9/v1")


def test_turns_of_demonstrations_are_messages() -> None:
    turns = (("user", "<image>\nQ?"), ("assistant", "A"), ("user", "<image>\nR?"))
    made = messages(Asked(turns=turns, images=(RED, RED)))
    assert [message["role"] for message in made] == ["user", "assistant", "user"]
    assert [part["type"] for part in made[2]["content"]] == ["image_url", "text"]
