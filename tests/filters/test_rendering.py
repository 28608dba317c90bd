"""Chat templates that would hang or kill what renders them: refused in words, within bounds, and what follows works."""

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mmcorpus.filters import rendering
from mmcorpus.packing.chat import _TODAY, ChatTemplate

MESSAGES = {"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": False}
SAYS = "{% for m in messages %}{{ m.content }}{% endfor %}"
DOUBLES = "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
HOSTILE = {
    "loops": (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "over 0.5 s of processor",
    ),
    "power": ("{{ (7 ** (10 ** 9)) % 10 }}", "over 0.5 s of processor"),
    "product": ("{{ 'x' * 10 ** 10 }}", "more than 1 GiB of memory"),
    "doubling": (DOUBLES, "more than 1 GiB of memory|over 0.5 s"),
    "width": ("{{ '%9999999999d' | format(1) }}", "more than 1 GiB of memory"),
    "long": ("{{ 'x' * 10 ** 7 }}", "writes 10,000,000 characters"),
    "range": ("{% for i in range(10 ** 9) %}{% endfor %}", "[Rr]ange too big"),
    "objects": ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    "parentheses": ("{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}", "recursion|ended the process"),
    "refusal": ("{{ raise_exception('y' * 10 ** 7) }}", "^y{1000}$"),
}


@pytest.fixture(scope="module", autouse=True)
def _soon() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        rendering._end()
        patch.setattr(rendering, "CPU_SECONDS", 0.5)
        patch.setattr(rendering, "DEATHS", 100)
        yield
        rendering._end()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_within_bounds(name: str) -> None:
    template, says = HOSTILE[name]
    with pytest.raises(ValueError, match=says):
        rendering.render(template, MESSAGES)


def test_the_next_template_is_rendered() -> None:
    with pytest.raises(ValueError, match=r"over 0\.5 s"):
        rendering.render(HOSTILE["loops"][0], MESSAGES)
    assert rendering.render(SAYS, MESSAGES) == "hi"
    lone = {"messages": [{"role": "user", "content": "\ud800\u2028\n\x00"}]}
    assert rendering.render(SAYS, lone) == "\ud800\u2028\n\x00"


HANGS_AT = (
    "{% for m in messages %}{{ m.content }}{% if m.content == 'hang' %}"
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}{% endfor %}"
)


def said(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def test_of_many_conversations_one_that_hangs_costs_itself() -> None:
    texts = [f"{number}" for number in range(300)]
    texts[7], texts[200] = "hang", "x" * rendering.A_REQUEST
    answers = rendering.render_all(HANGS_AT, {"add_generation_prompt": False}, said(*texts))
    assert str(answers.pop(7)) == "it took over 0.5 s of processor time"
    assert answers == texts[:7] + texts[8:]


def test_a_template_refuses_one_of_many() -> None:
    template = "{% if messages[0].content == 'b' %}{{ raise_exception('no b') }}{% endif %}{{ messages[0].content }}"
    first, second, third = rendering.render_all(template, {}, said("a", "b", "c"))
    assert (first, str(second), third) == ("a", "no b", "c")
    assert rendering.render_all(template, {}, []) == []


def test_a_template_that_hangs_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "DEATHS", 1)
    monkeypatch.setattr(rendering, "CPU_SECONDS", 0.1)
    rendering._end()
    with pytest.raises(
        rendering.TemplateHangsError, match=r"for 2 of 3 it took over 0\.1 s .* say `chat_template: chatml`"
    ):
        rendering.render_all("{# own #}" + HANGS_AT, {}, said("a", "hang", "hang", "b"))
    rendering._end()
    assert rendering.render(SAYS, MESSAGES) == "hi"


def test_a_forked_process_renders_by_itself() -> None:
    assert rendering.render(SAYS, MESSAGES) == "hi"
    pid = os.fork()
    if not pid:
        try:
            own = {"messages": [{"role": "user", "content": "forked"}]}
            assert rendering.render(SAYS, own) == "forked"
            rendering._end()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert rendering.render(SAYS, MESSAGES) == "hi"


@pytest.mark.parametrize("template", ["x" * (2**20 + 1), 5, ["{{ x }}"]])
def test_what_is_no_template_is_refused(template: Any) -> None:
    with pytest.raises(ValueError, match="is no text of at most 1,048,576 characters"):
        ChatTemplate(SimpleNamespace(chat_template=template, name_or_path="hub/name"))  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ['strftime_now("', "strftime_now( ", "strftime_now('a' ", "strftime_now(\"'"])
def test_the_day_is_looked_for_in_linear_time(unit: str) -> None:
    def seconds(count: int) -> float:
        took = []
        for _ in range(3):
            began = time.thread_time()
            _TODAY.sub("", unit * count)
            took.append(time.thread_time() - began)
        return min(took)

    assert seconds(40_000) < 8 * seconds(10_000) + 0.05
