"""Connectors, held against the references' own code on fixed weights and features."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch

from mmcorpus.packing.layout import read_layout
from mmcorpus.training.config import ConnectorConfig
from mmcorpus.training.connector import build_connector

MOLMO = [
    [0.206635, -0.151396, 0.093164, -0.033091, -0.027636],
    [0.072410, -0.048386, 0.023406, 0.002036, -0.027439],
    [0.603273, -0.445824, 0.279562, -0.107773, -0.066143],
]
"""What allenai/molmo's ViTMultiHeadDotProductAttention and projector (commit 793fa38) make of `features`, four patches
a token, two layers of width 6 side by side."""
HONEYBEE = [
    [0.130428, 0.107939, -0.239792, 0.060714, -0.522685],
    [0.170778, 0.120216, -0.258428, 0.015474, -0.584055],
    [0.169363, 0.160947, -0.184978, 0.104647, -0.499803],
    [0.149502, 0.114692, -0.246923, 0.041349, -0.549801],
]
"""Of kakaobrain/honeybee's CAbstractor: depth 2, 16 patches of width 8, hidden 16, 4 queries, width 5."""


def fill(parameters: Iterable[torch.nn.Parameter]) -> None:
    for number, one in enumerate(parameters, start=1):
        one.data = torch.sin(torch.arange(one.numel(), dtype=torch.float32) * number * 0.37).reshape(one.shape) * 0.5


def features(*shape: int) -> torch.Tensor:
    return torch.cos(torch.arange(torch.Size(shape).numel(), dtype=torch.float32) * 0.61).reshape(shape)


def test_attention_is_molmos() -> None:
    config = ConnectorConfig(kind="attention_mlp", heads=2, width=6, hidden=10)
    connector: Any = build_connector(config, 12, 5, read_layout({"kind": "native", "patch": 4}), 4)
    fill(
        (*(one for part in ["query", "key", "value", "out"] for one in getattr(connector, part).parameters()),
         *(getattr(connector, part).weight for part in ("gate", "up", "down")))
    )  # fmt: skip
    connector.image.data.zero_()
    pool = torch.arange(12).reshape(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(connector(features(12, 12), pool), torch.tensor(MOLMO), rtol=1e-5, atol=1e-6)
        connector.image.data.fill_(1.0)
        torch.testing.assert_close(connector(features(12, 12), pool), torch.tensor(MOLMO) + 1, rtol=1e-5, atol=1e-6)


def test_patches_that_are_not_there_are_not_attended_to() -> None:
    layout = read_layout({"kind": "native", "patch": 4})
    connector = build_connector(ConnectorConfig(kind="attention_mlp", heads=2), 8, 5, layout, 4)
    three, filled = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 2, -1, -1]])
    torch.testing.assert_close(connector(features(4, 8), three), connector(features(4, 8), filled))


def test_attention_over_a_square_is_that_over_its_windows() -> None:
    config = ConnectorConfig(kind="attention_mlp", heads=2)
    connector = build_connector(config, 8, 5, 9, 16)  # 3 x 3 windows that overlap on 4 x 4 patches
    pool = read_layout({"kind": "square", "tokens": 9, "side": 16, "patch": 4}).layout(30, 20).pool
    both = features(2, 16, 8)
    one_by_one = torch.stack([connector(one, torch.from_numpy(pool).long()) for one in both])
    torch.testing.assert_close(connector(both), one_by_one)


def test_c_abstractor_is_honeybees() -> None:
    connector: Any = build_connector(ConnectorConfig(kind="c_abstractor", depth=2, hidden=16), 8, 5, 4, 16).eval()
    fill(one for part in ("before", "after", "readout") for one in getattr(connector, part).parameters())
    with torch.no_grad():
        torch.testing.assert_close(connector(features(1, 16, 8))[0], torch.tensor(HONEYBEE), rtol=1e-5, atol=2e-6)


def test_each_crop_has_queries_of_its_own_answers() -> None:
    """Tokens of one crop know nothing of another's patches, and stand in the layout's order."""
    layout = read_layout({"kind": "catty", "tile": 16, "patch": 4, "max_tiles": 3})
    laid = layout.layout(40, 20)
    for config in (
        ConnectorConfig(kind="attention_pool", heads=2),
        ConnectorConfig(kind="c_abstractor", depth=1, hidden=16),
    ):
        connector = build_connector(config, 8, 5, layout, 16).eval()
        pool, flat = torch.from_numpy(laid.pool).long(), features(len(laid.padding), 8)
        before = connector(flat, pool)
        assert before.shape == (len(laid.pool), 5)
        changed = flat.clone()
        changed[16:32] += features(16, 8)  # the second crop's
        moved = (connector(changed, pool) - before).abs().sum(-1) > 1e-7
        of_second = (laid.pool.max(1) // 16) == 1
        assert moved.tolist() == of_second.tolist()


def test_queries_are_as_many_as_tokens() -> None:
    connector = build_connector(ConnectorConfig(kind="attention_pool", heads=2), 8, 5, 4, 16)
    with pytest.raises(ValueError, match="has 4 queries"):
        connector.set_layout(9)
    build_connector(ConnectorConfig(kind="c_abstractor", depth=1, hidden=16), 8, 5, 4, 16).set_layout(9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "linear", "heads": 4}, "linear has no heads"),
        ({"kind": "attention_mlp", "depth": 2}, "attention_mlp has no depth"),
        ({"kind": "attention_mlp", "width": 20}, "not a multiple of its heads 16"),
        ({"kind": "attention_pool", "hidden": 20}, "attention_pool has no hidden"),
    ],
)
def test_settings_of_other_connectors_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConnectorConfig(**settings)


def test_heads_must_divide_the_features() -> None:
    with pytest.raises(ValueError, match=r"16 heads do not divide its width 12: set model\.connector\.heads"):
        build_connector(ConnectorConfig(kind="attention_pool"), 12, 5, 4, 16)
