"""Documents: answers found in the text, sums that come out, ink where the points are, and the text read by an OCR."""

import re

import numpy as np
import pytest

from mmcorpus.curation.synthetic.render import Rendered, render
from mmcorpus.curation.synthetic.render.documents import FORMS

COMPUTED = re.compile(r"^(How many|Is the box|How much more|Which box)|cheapest|most expensive")
MONEY = re.compile(r"[$€£]([\d,]+\.\d\d)")


@pytest.fixture(scope="module")
def documents() -> list[Rendered]:
    return [render("document", seed) for seed in range(40)]


def cents(text: str) -> list[int]:
    return [round(100 * float(found.replace(",", ""))) for found in MONEY.findall(text)]


def test_answers_stand_in_the_document_as_they_are_given(documents: list[Rendered]) -> None:
    assert {rendered.facts["form"] for rendered in documents} == set(FORMS)
    extracted = 0
    for rendered in documents:
        lines = rendered.facts["text"]
        for question, answer in rendered.qa:
            if not COMPUTED.search(question):
                assert answer in lines, (rendered.facts["form"], question, answer)
                extracted += 1
    assert extracted > 200


def test_invoices_and_receipts_add_up(documents: list[Rendered]) -> None:
    seen = {"invoice": 0, "receipt": 0, "price list": 0}
    for rendered in documents:
        lines, answers = rendered.facts["text"].split("\n"), dict(rendered.qa)
        form = rendered.facts["form"]
        if form == "invoice":
            start = lines.index("Amount") + 1
            rows = [lines[n : n + 4] for n in range(start, lines.index("Subtotal"), 4)]
            total = 0
            for _, quantity, price, amount in rows:
                assert int(quantity) * cents(price)[0] == cents(amount)[0]
                total += cents(amount)[0]
            assert cents(lines[lines.index("Subtotal") + 1]) == [total]
            (rate,) = re.findall(r"Tax (\d+)%", rendered.facts["text"])
            tax = cents(answers["How much is the tax?"])[0]
            assert tax == round(total * int(rate) / 100)
            assert cents(answers["What is the total?"]) == [total + tax]
            assert answers["How many different items are billed?"] == str(len(rows))
        elif form == "receipt":
            end = lines.index("TOTAL")
            prices = cents("\n".join(lines[:end]))
            assert cents(answers["What is the total?"]) == [sum(prices)] == cents(lines[end + 1])
            assert answers["How many items were bought?"] == str(len(prices))
            if "Cash" in lines:
                assert (
                    cents(lines[lines.index("Cash") + 1])[0] - sum(prices)
                    == cents(answers["How much change was given?"])[0]
                )
        elif form == "price list":
            prices = cents(rendered.facts["text"])
            assert answers["How many items are listed?"] == str(len(prices))
        else:
            continue
        seen[form] += 1
    assert min(seen.values()) >= 2, seen


def test_there_is_ink_at_every_point(documents: list[Rendered]) -> None:
    for rendered in documents:
        pixels = np.asarray(rendered.image.convert("L")).astype(int)
        height, width = pixels.shape
        for point in rendered.points:
            x, y = round(point.x * width / 100), round(point.y * height / 100)
            around = pixels[max(0, y - 5) : y + 6, max(0, x - 9) : x + 10]
            assert np.ptp(around) > 25, (rendered.facts["form"], rendered.facts["seed"], point)


def test_texts_are_data_and_never_markup() -> None:
    """What Typst would take for its own language is set as it is."""
    import random

    from mmcorpus.curation.synthetic.render.engines import draw_typst
    from mmcorpus.curation.synthetic.render.page import literal

    for text in ('"#panic()"', "\\*a* _b_ $x$ <c> @d `e` [f] #g // h", "été € ≥"):
        picture, _ = draw_typst(f"#set page(width: 300pt, height: auto)\n#{literal(text)}\n", 72)
        assert np.ptp(np.asarray(picture)) > 100
    assert render("document", random.Random(1).getrandbits(48)).facts["language"] == "typst"
