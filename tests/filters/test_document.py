"""What a document is made of."""

import json

import pytest

from mmcorpus.filters.document import DocumentScorer

NODES = [{"text": "One two."}, {"image": 0}, {"text": "Three\n\nfour"}, {"image": 2}]
TEXT = "One two.\n\nThree\n\nfour"


@pytest.mark.parametrize(
    "meta",
    [{"images": 2, "nodes": json.dumps(NODES)}, {"images": 2, "nodes": NODES}, {"images": 2, "texts": 2}],
)
def test_counts(meta: dict[str, object]) -> None:
    columns = DocumentScorer().load()({"caption": [TEXT], "meta": [meta]})
    assert columns == {"images": [2], "texts": [2], "words": [4], "characters": [21], "reason": [None]}


def test_without_nodes_blank_lines_part_texts() -> None:
    assert DocumentScorer().load()({"caption": [TEXT], "meta": [{"images": 0}]})["texts"] == [3]


def test_a_document_of_images_alone_and_a_row_that_is_none() -> None:
    columns = DocumentScorer().load()({"caption": [None, "a b"], "meta": [{"images": 3, "nodes": "[]"}, {}]})
    assert columns["images"] == [3, None]
    assert columns["words"] == [0, None]
    assert columns["reason"] == [None, "no_nodes"]
