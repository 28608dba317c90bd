"""Tables: the cells against the pixels."""

import numpy as np

from mmcorpus.curation.synthetic.render import render


def test_every_cell_has_ink_and_none_crosses_its_edges() -> None:
    for seed in range(150):
        rendered = render("table", seed)
        pixels, facts = np.asarray(rendered.image).astype(int), rendered.facts
        xs, ys = facts["edges_x"], facts["edges_y"]
        assert len(xs) == len(facts["columns"]) + 1
        assert len(ys) == len(facts["rows"]) + 2
        for row in range(len(ys) - 1):
            for column in range(len(xs) - 1):
                top, bottom = round(ys[row]) + 2, round(ys[row + 1]) - 2
                cell = pixels[top:bottom, round(xs[column]) + 2 : round(xs[column + 1]) - 2]
                ground = cell[0, 0]
                ink = np.abs(cell - ground).max(axis=2) > 60
                assert ink.sum() >= 4, (seed, row, column)
                # A margin beside the text: it fits its column.
                assert not ink[:, 0].any(), (seed, row, column)
                assert not ink[:, -1].any(), (seed, row, column)
                assert not ink[0].any(), (seed, row, column)
                assert not ink[-1].any(), (seed, row, column)


def test_the_header_has_its_color_and_the_edges_are_empty() -> None:
    for seed in range(80):
        rendered = render("table", seed)
        pixels, facts = np.asarray(rendered.image).astype(int), rendered.facts
        x, y = round(facts["edges_x"][0]) + 2, round(facts["edges_y"][0]) + 2
        assert np.abs(pixels[y, x] - facts["rgb"]["header"]).max() <= 4
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert np.abs(edge - pixels[0, 0]).max() <= 2, seed


def test_answers_and_captions_agree_with_the_cells() -> None:
    looked_up = 0
    for seed in range(200):
        rendered = render("table", seed)
        facts, answers = rendered.facts, dict(rendered.qa)
        assert answers["How many rows are there below the header?"] == str(len(facts["rows"]))
        assert answers["How many columns are there?"] == str(len(facts["columns"]))
        assert len({row[0] for row in facts["rows"]}) == len(facts["rows"])
        for row in facts["rows"]:
            for name, cell in zip(facts["columns"][1:], row[1:], strict=True):
                assert f"{name} {cell}" in rendered.captions[-1]
                answer = answers.get(f"What is the {name} of {row[0]}?")
                assert answer in (None, cell)
                looked_up += answer is not None
        for index, name in enumerate(facts["columns"]):
            for word, choose in (("highest", max), ("lowest", min)):
                answer = answers.get(f"Which has the {word} {name}?")
                if answer is not None:
                    numbers = {row[0]: int(row[index]) for row in facts["rows"]}
                    best = choose(numbers.values())
                    assert [who for who, number in numbers.items() if number == best] == [answer]
        assert all(facts["header"] in caption for caption in rendered.captions[1:])
    assert looked_up == 200


def test_points_lie_in_their_cells() -> None:
    for seed in range(80):
        rendered = render("table", seed)
        facts = rendered.facts
        width, height = facts["size"]
        for point in rendered.points:
            name, _, who = point.label.partition(" of ")
            column = facts["columns"].index(name)
            row = [cells[0] for cells in facts["rows"]].index(who) + 1
            assert facts["edges_x"][column] < point.x * width / 100 < facts["edges_x"][column + 1]
            assert facts["edges_y"][row] < point.y * height / 100 < facts["edges_y"][row + 1]
