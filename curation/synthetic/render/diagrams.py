"""Diagrams laid out by Graphviz: flowcharts, organisation charts, mind maps, road maps, state diagrams, schemas."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mmcorpus.curation.synthetic.render.canvas import COLORS, Color, blend, hex_color, ink_on, jittered
from mmcorpus.curation.synthetic.render.engines import draw_graph
from mmcorpus.curation.synthetic.render.people import Persona, draw_name, draw_persona, draw_town
from mmcorpus.curation.synthetic.render.placing import laid
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point
from mmcorpus.curation.synthetic.render.words import article, listed, number, sentence

_FONTS: Final = ("DejaVu Sans", "DejaVu Serif", "STIXGeneral", "DejaVu Sans Mono", "Liberation Sans")
# How wide Graphviz, which knows no font, thinks that letters are, in what it draws for them.
_STRETCH: Final = {"DejaVu Sans": 1.22, "DejaVu Serif": 1.22, "DejaVu Sans Mono": 1.35}
_GROUNDS: Final = ("white", "white", "white", *COLORS)
_FILLS: Final = ("yellow", "blue", "green", "pink", "orange", "purple", "gray", "white", "beige")


@dataclass(kw_only=True, slots=True)
class _Graph:
    """A graph that is being made."""

    who: Persona
    layout: str = "dot"
    tall: bool = False
    """Whether it is a long chain, which runs down or up."""
    directed: bool = True
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    """By label, the node's attributes."""
    edges: list[tuple[str, str, str]] = field(default_factory=list)
    """From, to and label."""
    captions: list[str] = field(default_factory=list)
    questions: list[tuple[str, str]] = field(default_factory=list)

    def node(self, label: str, **attributes: str) -> None:
        self.nodes[label] = attributes

    def after(self, label: str) -> list[str]:
        return [end for start, end, _ in self.edges if start == label]

    def before(self, label: str) -> list[str]:
        return [start for start, end, _ in self.edges if end == label]

    def ask(self, question: str, answer: str) -> None:
        self.questions.append((question, answer))


def draw_diagram(rng: random.Random) -> Drawing:
    """A diagram."""
    form = rng.choice(tuple(_FORMS))
    graph = _Graph(who=draw_persona(rng))
    look = _draw_look(rng)
    _FORMS[form](rng, graph)
    boxed = form != "road map"
    if graph.tall:
        look["rankdir"] = rng.choice(("TB", "TB", "BT"))
    fill = rng.choice([name for name in _FILLS if name != look["background"]])
    code = _dot(rng, graph, look, jittered(rng, fill))
    picture, marks = draw_graph(code, graph.layout, rng.uniform(0.75, 1.5))
    picture, marks, _ = laid(rng, picture, marks, desk=rng.random() < 0.4)
    count = f"{number(len(graph.nodes))} {'boxes' if boxed else 'places'}"
    graph.ask("What kind of diagram is this?", form)
    graph.ask(f"How many {'boxes' if boxed else 'places'} are there?", str(len(graph.nodes)))
    graph.ask("What color are they filled with?", fill)
    captions = [article(form), *graph.captions]
    captions.append(f"{captions[-1]}. It has {count} filled in {fill} on {article(look['background'])} background")
    facts = {
        "form": form,
        "fill": fill,
        "background": look["background"],
        "nodes": list(graph.nodes),
        "edges": [list(edge) for edge in graph.edges],
        "persona": graph.who.facts(),
        "topic": graph.who.topic,
        "text": "\n".join([*graph.nodes, *(label for *_, label in graph.edges if label)]),
        "language": "dot",
        "code": code,
    }
    points = [make_point(mark.name, *mark.center, picture.size) for mark in marks]
    return Drawing(picture, list(map(sentence, captions)), graph.questions, points, facts)


def _draw_look(rng: random.Random) -> dict[str, Any]:
    return {
        "background": rng.choice(_GROUNDS),
        "font": rng.choice(_FONTS),
        "size": rng.randint(10, 15),
        "shape": rng.choice(("box", "box", "ellipse", "component", "note", "folder")),
        "style": rng.choice(("filled", "filled,rounded", "filled,bold")),
        "splines": rng.choice(("true", "line")),
        "rankdir": rng.choice(("TB", "TB", "LR", "RL", "BT")),
        "arrow": rng.choice(("normal", "vee", "empty", "dot")),
        "line": rng.choice(("solid", "solid", "dashed")),
        "pen": f"{rng.uniform(0.8, 2.5):.1f}",
        "gaps": (rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.8)),
    }


def _dot(rng: random.Random, graph: _Graph, look: dict[str, Any], fill: Color) -> str:
    """The graph in DOT."""
    ground = jittered(rng, look["background"], 4)
    ink = hex_color(
        blend(ink_on(ground), COLORS[rng.choice(("blue", "green", "purple", "brown"))], rng.uniform(0, 0.35))
    )
    wide = _STRETCH.get(look["font"], 1.05)
    name = f"fontname={_quoted(look['font'])}"
    lines = [
        f"{'digraph' if graph.directed else 'graph'} {{",
        f"  graph [bgcolor={_quoted(hex_color(ground))}, rankdir={look['rankdir']}, splines={look['splines']}, "
        f"overlap=false, nodesep={look['gaps'][0]:.2f}, ranksep={look['gaps'][1]:.2f}, pad=0.25]",
        f"  node [shape={look['shape']}, style={_quoted(look['style'])}, fillcolor={_quoted(hex_color(fill))}, "
        f"fontcolor={_quoted(hex_color(ink_on(fill)))}, color={_quoted(ink)}, {name}, fontsize={look['size']}]",
        f"  edge [color={_quoted(ink)}, fontcolor={_quoted(ink)}, {name}, fontsize={look['size'] - 2}, "
        f"arrowhead={look['arrow']}, style={look['line']}, penwidth={look['pen']}, len=1.4]",
    ]  # fmt: skip
    for label, attributes in graph.nodes.items():
        # Boxes are as wide as their text is in the font that draws it, which Graphviz does not know.
        width = len(label) * look["size"] * 0.53 * wide / 72 + 0.3
        if attributes.get("shape") in ("diamond", "circle"):
            width *= 1.35
        given = {"width": f"{width:.2f}", **attributes}
        listing = ", ".join(f"{key}={value if key == 'width' else _quoted(value)}" for key, value in given.items())
        lines.append(f"  {_quoted(label)} [{listing}]")
    arrow = "->" if graph.directed else "--"
    for start, end, label in graph.edges:
        said = f" [label={_quoted(f' {label} ')}]" if label else ""
        lines.append(f"  {_quoted(start)} {arrow} {_quoted(end)}{said}")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _flowchart(rng: random.Random, graph: _Graph) -> None:
    """Steps in their order, with a decision that goes back or on."""
    graph.tall = True
    words = graph.who.words
    steps = [*rng.sample(words["steps"], rng.randint(3, 6))]
    decision = rng.choice(words["decisions"])
    place = rng.randint(1, len(steps) - 1)
    for step in ("Start", *steps[:place]):
        graph.node(step, **({"shape": "oval"} if step == "Start" else {}))
    graph.node(decision, shape="diamond")
    for step in (*steps[place:], "End"):
        graph.node(step, **({"shape": "oval"} if step == "End" else {}))
    order = list(graph.nodes)
    yes = rng.random() < 0.7
    back = rng.choice(steps[:place])
    for start, end in itertools.pairwise(order):
        graph.edges.append((start, end, ("yes" if yes else "no") if start == decision else ""))
    graph.edges.append((decision, back, "no" if yes else "yes"))
    after = order[order.index(decision) + 1]
    graph.ask("What is the first step after the start?", steps[0])
    graph.ask("What is the last step before the end?", steps[-1])
    graph.ask("What is decided?", decision)
    graph.ask(f'What follows if the answer to "{decision}" is yes?', after if yes else back)
    graph.ask(f'What follows if the answer to "{decision}" is no?', back if yes else after)
    asked = rng.choice([step for step in steps if step != steps[place - 1]] or steps[-1:])
    graph.ask(f'What comes right after "{asked}"?', graph.after(asked)[0])
    graph.ask("How many decisions are there?", "1")
    graph.captions += [
        f"a flowchart of {number(len(steps))} steps with one decision",
        f'a flowchart from "{steps[0]}" to "{steps[-1]}" with the decision "{decision}"',
        f"a flowchart: {', then '.join(_quoted(step) for step in order[1 : order.index(decision)])}. Then it asks "
        f'"{decision}": if {"yes" if yes else "no"}, '
        f"{', then '.join(_quoted(step) for step in order[order.index(decision) + 1 :])}; "
        f'if {"no" if yes else "yes"}, back to "{back}"',
    ]


def _organisation(rng: random.Random, graph: _Graph) -> None:
    """Who leads whom."""
    names: list[str] = []
    while len(names) < 12:
        name = draw_name(rng)
        if name not in names:
            names.append(name)
    head, *others = names
    graph.node(head)
    leads = others[: rng.randint(2, 4)]
    rest = others[len(leads) :][: rng.randint(2, 6)]
    for lead in leads:
        graph.node(lead)
        graph.edges.append((head, lead, ""))
    for other in rest:
        graph.node(other)
        graph.edges.append((rng.choice(leads), other, ""))
    asked = rng.choice(rest)
    lead = rng.choice(leads)
    graph.ask("Who is at the head?", head)
    graph.ask(f"Who does {asked} report to?", graph.before(asked)[0])
    graph.ask(f"How many people report directly to {head}?", str(len(leads)))
    graph.ask(f"How many people report directly to {lead}?", str(len(graph.after(lead))))
    teams = "; ".join(f"{one} leads {listed(graph.after(one))}" for one in leads if graph.after(one))
    graph.captions += [
        f"an organisation chart headed by {head}",
        f"an organisation chart of {number(len(graph.nodes))} people headed by {head}, to whom {listed(leads)} report",
        f"an organisation chart. {head} leads {listed(leads)}; {teams}",
    ]


def _mind_map(rng: random.Random, graph: _Graph) -> None:
    """A subject, its branches, and what belongs to each."""
    words = graph.who.words
    graph.layout, graph.directed = rng.choice(("twopi", "neato", "dot")), False
    center = rng.choice(words["events"])
    graph.node(center)
    branches = rng.sample(words["things"], rng.randint(3, 5))
    leaves = rng.sample(tuple(words["items"]), rng.randint(2, 6))
    for branch in branches:
        graph.node(branch)
        graph.edges.append((center, branch, ""))
    for leaf in leaves:
        graph.node(leaf)
        graph.edges.append((rng.choice(branches), leaf, ""))
    leaf, branch = rng.choice(leaves), rng.choice(branches)
    graph.ask("What stands in the center of the mind map?", center)
    graph.ask(f"To which branch does {leaf} belong?", graph.before(leaf)[0])
    graph.ask(f"How many branches leave {center}?", str(len(branches)))
    graph.ask(f"How many boxes hang on {branch}, apart from {center}?", str(len(graph.after(branch))))
    detail = "; ".join(f"{one} with {listed(graph.after(one))}" for one in branches if graph.after(one))
    graph.captions += [
        f'a mind map of "{center}"',
        f'a mind map of "{center}" with the branches {listed(branches)}',
        f'a mind map of "{center}" with the branches {listed(branches)}: {detail}',
    ]


def _road_map(rng: random.Random, graph: _Graph) -> None:
    """Towns, and how far they are along the roads between them."""
    graph.directed = False  # laid out by dot: the others put lengths on the roads
    towns: list[str] = []
    while len(towns) < rng.randint(4, 7):
        if (town := draw_town(rng)) not in towns:
            towns.append(town)
    for town in towns:
        graph.node(town)
    pairs = [(one, other) for i, one in enumerate(towns) for other in towns[:i]]
    roads = [(one, rng.choice(towns[:i])) for i, one in enumerate(towns) if i]
    extra = [pair for pair in pairs if pair not in roads]
    roads += rng.sample(extra, min(len(extra), rng.randint(0, 2)))
    lengths = rng.sample(range(3, 98), len(roads))
    graph.edges += [(*road, str(length)) for road, length in zip(roads, lengths, strict=True)]
    one, other, length = rng.choice(graph.edges)
    graph.ask(f"How long is the road between {one} and {other}?", length)
    graph.ask("How many roads are there?", str(len(roads)))
    town = rng.choice(towns)
    at = sorted({*graph.after(town), *graph.before(town)})
    graph.ask(f"How many roads lead to {town}?", str(len(at)))
    if len(at) == 1:
        graph.ask(f"Which town is joined to {town}?", at[0])
    most = max(graph.edges, key=lambda edge: int(edge[2]))
    graph.ask("How long is the longest road?", most[2])
    said = listed([f"{one} and {other} {length}" for one, other, length in graph.edges])
    graph.captions += [
        f"a map of the roads between {number(len(towns))} towns",
        f"a map of {number(len(roads))} roads between {listed(towns)}",
        f"a map of {number(len(roads))} roads between {listed(towns)}; their lengths are: {said}",
    ]


def _states(rng: random.Random, graph: _Graph) -> None:
    """States, and the events that lead from one to the next."""
    graph.tall = True
    states = rng.sample(
        ("Idle", "Ready", "Running", "Paused", "Failed", "Done", "Waiting", "Closed"), rng.randint(3, 6)
    )
    events = rng.sample(("start", "stop", "reset", "retry", "open", "close", "ok", "error", "timeout", "cancel"), 8)
    for state in states:
        graph.node(state, shape=rng.choice(("circle", "ellipse")))
    for place, (start, end) in enumerate(itertools.pairwise(states)):
        graph.edges.append((start, end, events[place]))
    graph.edges.append((states[-1], rng.choice(states[:-1]), events[len(states)]))
    start, end, event = rng.choice(graph.edges)
    graph.ask(f"Which state follows {start} on {event}?", end)
    graph.ask(f"Which event leads from {start} to {end}?", event)
    graph.ask("How many transitions are there?", str(len(graph.edges)))
    graph.ask(f"How many transitions leave {start}?", str(len(graph.after(start))))
    said = "; ".join(f"on {event} from {start} to {end}" for start, end, event in graph.edges)
    graph.captions += [
        f"a state diagram of {number(len(states))} states",
        f"a state diagram of the states {listed(states)}",
        f"a state diagram of the states {listed(states)}: it goes {said}",
    ]


_FORMS: Final[dict[str, Callable[[random.Random, _Graph], None]]] = {
    "flowchart": _flowchart, "organisation chart": _organisation, "mind map": _mind_map, "road map": _road_map,
    "state diagram": _states,
}  # fmt: skip
