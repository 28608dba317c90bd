"""YAML: files beside the code (word lists, prompts, published numbers), and what users write, within bounds."""

import functools
import importlib.resources
from typing import Any, Final

import yaml

MOST_CHARACTERS: Final = 1 << 20
"""In a text that a user writes; of our recipes the longest has some 6,000. PyYAML reads as many in two seconds."""
MOST_NODES: Final = 30_000
"""Keys, values and aliases in it; as many take PyYAML three seconds."""

MOST_DEPTH: Final = 100
"""Mappings and lists within each other; PyYAML's time for a token grows with them."""


@functools.cache
def read_data(package: str, name: str) -> Any:
    """The content of a YAML file in a package; one object for all that ask, so not to be changed."""
    text = importlib.resources.files(package).joinpath(name).read_text("utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class BoundedLoader(yaml.SafeLoader):
    """SafeLoader that refuses, as `yaml.MarkedYAMLError`, what takes it long: too many characters, nodes or levels.

    Merge keys (`<<`), whose mappings double at each level, and keys that stand twice, of which YAML would silently take
    the last, are refused as well where values are constructed.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0
        if len(text) > MOST_CHARACTERS:
            raise yaml.MarkedYAMLError(
                problem=f"{len(text):,} characters, and {MOST_CHARACTERS:,} are read at most; is it a list of samples?",
                problem_mark=self.get_mark(),
            )

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node with all in it; counts."""
        self._nodes += 1
        self._depth += 1
        if self._nodes > MOST_NODES or self._depth > MOST_DEPTH:
            deep = f"more than {MOST_DEPTH} mappings and lists within each other"
            problem = deep if self._depth > MOST_DEPTH else f"more than {MOST_NODES:,} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called of each mapping before it is constructed."""
        there: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem="<< is not read here; write it out", problem_mark=key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                if key.value in there:
                    problem = f"the key {key.value!r} stands twice; keep one of them"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                there.add(key.value)


def read_text(text: str) -> Any:
    """The content of a YAML text that a user wrote. Raises `yaml.YAMLError`; see `BoundedLoader`."""
    return yaml.load(text, BoundedLoader)  # a SafeLoader
