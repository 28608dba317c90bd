"""Documentation is held to its word: commands, keys, modules, names, paths, links, defaults and numbers in it exist.

Each check is a function from a page's text to what is wrong with it, and is shown to see a planted mistake.
"""

import ast
import dataclasses
import functools
import importlib
import itertools
import json
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from mmcorpus.filters import SCORERS
from mmcorpus.packing.layout import LAYOUTS, read_layout
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.recipe.schema import RecipeFile

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
FOLDERS = "curation|filters|packing|training|pipelines|docs|tests|benchmarks|notebooks"
SECTIONS = {field.name for field in dataclasses.fields(RecipeFile)}


class Block(NamedTuple):
    """A block of code: its language (empty where the page names none), text, and line on the page."""

    language: str
    text: str
    line: int


FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.S | re.M)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|\n(?= {4}))+", re.M)


def blocks(text: str) -> list[Block]:
    """Fenced blocks, and indented ones outside them."""
    found = [Block(m[2], m[3], text[: m.start()].count("\n") + 2) for m in FENCE.finditer(text)]
    rest = FENCE.sub(lambda m: "\n" * m[0].count("\n"), text)
    found += [Block("", m[0], rest[: m.start()].count("\n") + 1) for m in INDENTED.finditer(rest + "\n")]
    return found


def prose(text: str) -> str:
    """The page without its blocks of code, line for line."""
    without = FENCE.sub(lambda m: "\n" * m[0].count("\n"), text)
    return INDENTED.sub(lambda m: "\n" * m[0].count("\n"), without + "\n")


def spans(line: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", line)


def read(page: Path) -> str:
    """A page as Markdown; a notebook as its cells, code in fences."""
    text = page.read_text()
    if page.suffix != ".ipynb":
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(f"```python\n{source}\n```" if kind == "code" else source for kind, source in cells)


# Commands


@functools.cache
def commands() -> dict[str, Any]:
    """The commands of `mmcorpus` by name, and the group itself as the empty name."""
    group: Any = typer.main.get_command(app)
    return {"": group, **group.commands}


def options_of(command: str) -> set[str]:
    """Of a command, or of all the commands of a group (`export`)."""
    inner = getattr(commands()[command], "commands", {}) if command else {}
    own = {opt for one in inner.values() for p in one.params for opt in (*p.opts, *p.secondary_opts)}
    return own | {opt for p in commands()[command].params for opt in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}


def wrong_command(text: str, *, whole: bool) -> Iterator[str]:
    """What is wrong with a command line that begins with `mmcorpus`; `whole` if it is one to be typed as it stands."""
    line = re.sub(r"\[(-[^\]]*)\]", r"\1", text) if not whole else text
    words = [word for word in shlex.split(line, comments=whole) if word not in {"…", "\\"}][1:]
    while words and words[0].startswith("-"):
        if words[0] not in options_of("") | {"--version"}:
            yield f"{text!r}: mmcorpus has no option {words[0]}"
        words = words[1:]
    if not words or words[0] == "COMMAND":
        return
    if words[0] not in commands():
        yield f"{text!r}: there is no command {words[0]!r}"
        return
    command = commands()[words[0]]
    inner = getattr(command, "commands", None)
    if inner is not None and words[1:] and words[1] not in {"KIND", "--help"}:
        if words[1] not in inner:
            yield f"{text!r}: {words[0]} has no command {words[1]!r}"
            return
        command, words = inner[words[1]], words[1:]
    try:
        command.make_parser(command.context_class(command, info_name=words[0])).parse_args(words[1:])
    except Exception as error:  # click's own usage errors, of the click that typer carries
        yield f"{text!r}: {error}"


def command_lines(block: Block) -> Iterator[tuple[int, str]]:
    """Lines of a block, with those that end in a backslash joined."""
    text, line = "", block.line
    for number, part in enumerate(block.text.splitlines(), block.line):
        line = line if text else number
        text += part.strip().removeprefix("$ ").removesuffix("\\")
        if not part.rstrip().endswith("\\"):
            yield line, text
            text = ""


def check_commands(text: str) -> Iterator[str]:
    for block in blocks(text):
        if block.language in {"", "sh", "bash"}:
            for _, line in command_lines(block):
                if line.startswith("mmcorpus "):
                    yield from wrong_command(line, whole=True)
                elif line.startswith("--"):
                    yield f"{line!r}: the line before it lacks a backslash"
    for line in prose(text).splitlines():
        named = [span for span in spans(line) if span.startswith("mmcorpus ")]
        for span in named:
            yield from wrong_command(span, whole=False)
        ours = [span for span in spans(line) if span.startswith(("--", "mmcorpus ", "python -m mmcorpus"))]
        options = {opt for span in ours for opt in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)}
        if line.startswith("| `mmcorpus ") and named:  # a table of commands: the options of its row are theirs
            words = [re.sub(r"^mmcorpus ", "", span).split()[0] for span in named]
            valid = {opt for word in words if word in commands() for opt in options_of(word)}
        else:
            valid = all_options()
        yield from (f"{line.strip()[:80]!r}: no option {option}" for option in sorted(options - valid))


@functools.cache
def all_options() -> frozenset[str]:
    """Every option of the command, and of every module that is run with `python -m`."""
    found = {opt for name in commands() for opt in options_of(name)} | {"--version"}
    for module in [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "curation" / "synthetic").rglob("*.py")]:
        found |= set(re.findall(r'"(--[a-z][\w-]*)"', module.read_text()))
    return frozenset(found | THEIR_OPTIONS)


THEIR_OPTIONS = {
    *("--object-store-memory", "--runtime-env-json"),  # Ray's
    *("--quantization", "--dtype", "--chat-template", "--mm-processor-kwargs", "--logprobs-mode"),  # vLLM's
    *("--connect-to", "--env", "--privileged"),  # curl's, docker's
}


def check_modules(text: str) -> Iterator[str]:
    """`python -m MODULE --option`: the module and its options."""
    lines = [line for block in blocks(text) if block.language != "python" for _, line in command_lines(block)]
    for line in [*lines, *(span for row in prose(text).splitlines() for span in spans(row))]:
        match = re.match(r"(?:\w+=\S+ )*python -m ((?:benchmarks|mmcorpus)[\w.]*)(.*)", line)
        if not match or match[1].endswith(".NAME"):
            continue
        path = ROOT / match[1].removeprefix("mmcorpus.").replace(".", "/")
        files = [file for file in (path.with_suffix(".py"), path / "__main__.py") if file.exists()]
        if not files:
            yield f"{line!r}: there is no module {match[1]}"
            continue
        source = "".join(file.read_text() for file in files[0].parent.glob("*.py"))
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", match[2].split(" # ")[0]):
            if f'"{option}"' not in source:
                yield f"{line!r}: {match[1]} has no option {option}"


# Recipes

INCOMPLETE = re.compile(
    r"needs the scorer|is not there for|there is (nothing|no )|there are no |missing; packs need"
    r"|cannot be (found|imported)|holds no |nothing matches|is no (folder|file|program)"
    r"|environment has none|no checkpoint at|stages: none|keeps nothing aside"
)
"""What is wrong with a fragment only because the rest of its recipe, or a file of its user's, is not here."""

NO_RECIPES = {"apiVersion", "cluster_name", "from", "count"}
"""Keys that mark other YAML: of Kubernetes, of Ray's cluster launcher, a page's label, RenderConfig's."""


def as_recipe(text: str) -> str | None:
    """A fragment as a recipe: scorers and a selection put where they belong, sources added. None if it is no recipe."""
    text = text.replace("s3://", "none/")
    data = yaml.safe_load(text)
    if not isinstance(data, dict) or NO_RECIPES & set(data):
        return None
    if not SECTIONS & set(data):
        inner = "score:\n  scorers:\n" if "keep" not in data else "select:\n  pairs:\n"
        text = inner + "".join(f"    {line}\n" for line in text.splitlines())
    sources = {name.split(".")[0] for name in re.findall(r"\b(pairs|pages|web|texts|instructions)\b", text)} or {
        "pairs"
    }
    if "sources" not in data:
        kinds = {"pages": "{kind: document, pages: 'none/*.warc.gz'}"}
        text += "sources:\n" + "".join(f"  {name}: {kinds.get(name, '{urls: none}')}\n" for name in sorted(sources))
    return text if "name" in data else text + "name: a page's\n"


def recipe_problems(path: str, settings: list[str]) -> Iterator[str]:
    try:
        load_recipe(path, settings)
    except RecipeError as error:
        yield from (str(problem) for problem in error.problems if not INCOMPLETE.search(problem.message))


def check_recipes(text: str) -> Iterator[str]:
    """Blocks of YAML, and the `--set` of `mmcorpus run` with a recipe that is here."""
    for block in blocks(text):
        if block.language == "yaml" and (recipe := as_recipe(block.text)):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(recipe)
                file.flush()
                yield from (f"line {block.line}: {p}" for p in recipe_problems(file.name, []))
        for _, line in command_lines(block):
            words = shlex.split(line, comments=True) if line.startswith("mmcorpus run ") else []
            if len(words) < 3:
                continue
            name = words[2] if words[2].endswith(".yaml") else f"pipelines/recipes/{words[2]}.yaml"  # one that ships
            settings = [value for word, value in itertools.pairwise(words) if word == "--set"]
            if settings and (ROOT / name).is_file():
                yield from (f"{line!r}: {problem}" for problem in recipe_problems(str(ROOT / name), settings))
            elif name.startswith("pipelines/") and words[2].islower() and not (ROOT / name).is_file():
                yield f"{line!r}: there is no recipe {name}"


# Names


def resolves(dotted: str) -> bool:
    """Whether `mmcorpus.a.b.Name.attribute` can be imported."""
    parts = dotted.split(".")
    for end in range(len(parts), 1, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("mmcorpus"):
                continue
            raise
        for name in parts[end:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


def check_imports(text: str) -> Iterator[str]:
    """`from mmcorpus… import …` in Python blocks, and dotted names of mmcorpus in the text."""
    for block in blocks(text):
        if block.language == "python":
            for node in ast.walk(ast.parse(re.sub(r"^[%!].*$", "", block.text, flags=re.M))):
                names = []
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmcorpus"):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names if alias.name.startswith("mmcorpus.")]
                yield from (f"line {block.line}: {name} does not exist" for name in names if not resolves(name))
    for span in spans(prose(text)):
        name = re.match(r"mmcorpus(?:\.\w+)+", span)
        if name and not resolves(name[0]):
            yield f"{name[0]} does not exist"


THEIRS = {"my_rules.py", "script.py"}
"""Files of our readers."""


@functools.cache
def tracked() -> frozenset[str]:
    """Every file of the repository, and its folders."""
    run = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return frozenset(files) | {str(parent) for file in files for parent in Path(file).parents}


@functools.cache
def defined(path: str) -> frozenset[str]:
    """What a module defines: `function`, `Class`, `Class.method`, `CONSTANT`, `Class.field`."""
    found: set[str] = set()

    def visit(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse((ROOT / path).read_text()).body, "")
    return frozenset(found)


def check_paths(text: str) -> Iterator[str]:
    """`curation/x.py`, `docs/y.md`, `x.py` (the end of some path), `curation/x.py:name` and `curation/`."""
    for span in spans(prose(text)):
        for word in re.split(r"[\s,()\[\]]+", span):
            match = re.fullmatch(r"([\w./-]+\.(?:py|md|ya?ml|ipynb|jinja|css|txt))(?::([\w.]+))?|([\w./-]+/)", word)
            if not match:
                continue
            path = (match[1] or match[3]).rstrip("/")
            ours = re.match(rf"(?:{FOLDERS})(?:/|$)", path) is not None
            if not ours and (match[3] or not path.endswith(".py") or path in THEIRS):
                continue
            if path.startswith("benchmarks/results") or path == "training/sft":  # made, not kept; a run's folder
                continue
            found = path in tracked() or (not ours and any(file.endswith(f"/{path}") for file in tracked()))
            if not found:
                yield f"`{word}`: there is no {path} in the repository"
            elif match[2] and match[2] not in defined(path):
                yield f"`{word}`: {path} defines no {match[2]}"


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose(text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        found.setdefault(f"{slug}-{found[slug]}" if found[slug] else slug, 0)
    return set(found)


def check_links(text: str, page: Path = ROOT / "README.md") -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            yield f"({target}): there is no such file"
        elif anchor and anchor not in anchors(text if file == page else read(file)):
            yield f"({target}): {file.name} has no such heading"


# Defaults and numbers

DEFAULTS_OF = {
    "decontamination.md": "curation/evaluations",
    "dedup.md": "curation/dedup",
    "dfn.md": "training",
    "evaluation.md": "training/evaluation",
    "judging-clip.md": "filters",
    "layouts.md": "packing/layout",
    "packing.md": "packing",
    "training.md": "training",
    "written.md": "filters/written",
}
"""Where the settings lie whose defaults a page states."""


@functools.cache
def defaults(folder: str) -> dict[str, list[Any]]:
    """The defaults of the fields of a folder's classes, by name; what is made by a factory is empty."""
    found: dict[str, list[Any]] = {}
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                for field in node.body:
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value:
                        try:
                            value = ast.literal_eval(field.value)
                        except ValueError:
                            value = ()
                        found.setdefault(field.target.id, []).append(value)
    return found


def stated(text: str) -> list[Any]:
    """The values in a cell: `4096, 5e-4`, `(0.9, 0.98)`, `auto`, none, 0.02 of the steps. Prose gives nothing."""
    values: list[Any] = []
    for part in re.split(r",\s*(?![^(]*\))", text.replace("`", "").strip()):
        if part in {"none", "true", "false"}:
            values.append({"none": None, "true": True, "false": False}[part])
        elif match := re.match(r"\([\d., ]+\)|-?\d[\d.]*(?:e-?\d+)?", part):
            values.append(ast.literal_eval(match[0]))
        elif " " not in part:
            values.append(part)
    return values


def check_defaults(text: str, folder: str) -> Iterator[str]:
    """Tables with a column `default`, cells marked `(default)`, and "`key` (default value)" in the text."""
    claims: list[tuple[str, Any]] = []
    header: list[str] = []
    for line in prose(text).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        claims += [(key, *stated(value)) for key, value in re.findall(r"`(\w+)` \(default ([^)]+)\)", line)]
        if not cells:
            header = []
        elif not header:
            header = cells
        elif "default" in header:
            keys, values = spans(cells[0]), stated(cells[header.index("default")])
            claims += list(zip(keys, values, strict=False)) if len(values) >= len(keys) else []
            if len(values) == 1 and values[0] is None:
                claims += [(key, None) for key in keys]
        elif cells[0].endswith("(default)") and spans(header[0]):
            claims.append((spans(header[0])[0], *stated(cells[0].removesuffix("(default)").strip())))
    for key, value in claims:
        found = defaults(folder).get(key.rpartition(".")[2])  # `optimizer.betas` is a field of its config
        if found is None:
            yield f"`{key}` is no setting in {folder}/"
        elif value not in found and not (value is None and () in found):
            yield f"`{key}` is said to be {value!r} by default; in {folder}/ it is {found}"


def check_layouts(text: str) -> Iterator[str]:
    """Rows `{kind: …}` | 1024 × 768 | crops | tokens: what the layout makes of such an image."""
    rows = re.findall(r"^\| `(\{kind.*\})` \| (\d+) × (\d+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.M)
    if not rows:
        yield "the table has no rows"
    for settings, width, height, crops, tokens in rows:
        layout = read_layout(yaml.safe_load(settings)).layout(int(width), int(height))
        if (made := (len(layout.crops), layout.length)) != tuple(int(one.replace(",", "")) for one in (crops, tokens)):
            yield f"{settings} makes {made} of {width} × {height}, not {crops} crops and {tokens} tokens"


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def check_measured(readme: str, log: str) -> Iterator[str]:
    """The numbers of the README's table "Measured" stand in the log."""
    section = readme.split("\n## Measured\n")[1].split("\n## ")[0]
    known = {number.replace(",", "") for number in NUMBER.findall(log)}
    rows = [line for line in section.splitlines() if line.startswith("| ") and "`" in line]
    if not rows:
        yield "the table has no rows"
    for row in rows:
        for number in NUMBER.findall(" ".join(row.split("|")[2:])):
            if number.replace(",", "") not in known:
                yield f"{number} of {row[:60]!r} is not in benchmarks/LOG.md"


# The pages

CHECKS: dict[str, Callable[[str], Iterator[str]]] = {
    "commands": check_commands,
    "modules": check_modules,
    "recipes": check_recipes,
    "imports": check_imports,
    "paths": check_paths,
}


@pytest.fixture(autouse=True)
def _nothing_but_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models and files that a fragment names are not looked for, here or on the network."""
    for scorer in SCORERS.values():
        monkeypatch.setattr(scorer, "check", lambda _: None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("check", CHECKS)
def test_what_a_page_names_exists(page: Path, check: str) -> None:
    assert not list(CHECKS[check](read(page)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_anchors_resolve(page: Path) -> None:
    assert not list(check_links(read(page), page))


@pytest.mark.parametrize("page", DEFAULTS_OF)
def test_defaults_are_those_of_the_code(page: str) -> None:
    assert not list(check_defaults(read(ROOT / "docs" / page), DEFAULTS_OF[page]))


def test_every_page_with_a_table_of_defaults_is_checked() -> None:
    tables = {page.name for page in PAGES if re.search(r"\| default \||\(default[) ]", prose(read(page)))}
    assert tables - {"judging-perplexity.md"} <= set(DEFAULTS_OF)  # a word of prose there


def test_images_cost_what_the_page_of_layouts_says() -> None:
    page = read(ROOT / "docs" / "layouts.md")
    assert not list(check_layouts(page))
    assert set(re.findall(r"^## (\w+)$", page, re.M)) == set(LAYOUTS), "a section each"


def test_measured_numbers_stand_in_the_log() -> None:
    assert not list(check_measured(read(ROOT / "README.md"), read(ROOT / "benchmarks" / "LOG.md")))


def test_every_command_section_and_scorer_has_its_line() -> None:
    cli, recipes = read(ROOT / "docs" / "cli.md"), read(ROOT / "docs" / "recipes.md")
    rows = {
        span.split()[0] for line in cli.splitlines() if line.startswith("| `") for span in spans(line.split("|")[1])
    }
    assert set(commands()) - {""} <= rows
    assert all(f"`{section}`" in recipes for section in SECTIONS)
    formats = read(ROOT / "docs" / "formats.md")
    assert all(f"`{scorer}`" in formats for scorer in SCORERS)


def test_options_in_the_table_of_commands_belong_to_them() -> None:
    for line in read(ROOT / "docs" / "cli.md").splitlines():
        cells = line.split("|")
        words = [span.split()[0] for span in spans(cells[1])] if line.startswith("| `") else []
        if words and words[0] in commands():
            valid = {option for word in words for option in options_of(word)}
            assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", line)) <= valid, line


# Planted mistakes


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ("commands", "    mmcorpus downlod urls --out x\n"),
        ("commands", "```sh\nmmcorpus score shards \\\n    --scorers image\n```\n"),
        ("commands", "See `mmcorpus run RECIPE --outt DIR`."),
        ("commands", "| `mmcorpus run RECIPE` | `--blur-faces` |"),
        ("commands", "With `--no-such-option` it is quicker."),
        ("modules", "    python -m benchmarks.nothing --size 3\n"),
        ("modules", "Run `python -m benchmarks.dedup --onli costs`."),
        ("recipes", "```yaml\nselect:\n  pairs: {kep: image.min_side > 3}\n```\n"),
        ("recipes", "```yaml\nclip: {modle_name: ViT-B-32}\n```\n"),
        ("recipes", "```yaml\nscore:\n  scorers: {image: {}}\nselect:\n  pairs: {keep: image.min_sid > 3}\n```\n"),
        ("recipes", "    mmcorpus run pipelines/recipes/demo.yaml --out x --set select.pairs.heldout=0.2\n"),
        ("recipes", "    mmcorpus run demo --out x --set select.pairs.heldout=0.2\n"),
        ("recipes", "    mmcorpus run pipelines/demo.yaml --out x\n"),
        ("imports", "```python\nfrom mmcorpus.packing import PackReadr\n```\n"),
        ("imports", "Call `mmcorpus.packing.pickles.read_pickles(path)`."),
        ("paths", "See `curation/nothing.py`."),
        ("paths", "See `documents/nodes.py`."),
        ("paths", "See `packing/packs.py:PackReader.nothing`."),
    ],
)
def test_a_planted_mistake_is_seen(check: str, text: str) -> None:
    assert list(CHECKS[check](text))


def test_planted_links_defaults_and_numbers_are_seen() -> None:
    assert list(check_links("[here](docs/nothing.md)")) == ["(docs/nothing.md): there is no such file"]
    assert list(check_links("# One thing\n\n[here](#another)"))
    assert not list(check_links("# One `thing`: two\n\n[here](#one-thing-two)"))
    table = "| setting | default |\n|---|---|\n| `layout` | {} |\n"
    assert not list(check_defaults(table.format(144), "training"))
    assert list(check_defaults(table.format(145), "training"))
    assert list(check_defaults("- `freeze_vision` (default false)", "training"))
    assert list(check_layouts("| `{kind: mm1}` | 9 × 9 | 5 | 721 |"))
    assert list(check_layouts("no table"))
    assert list(check_defaults("| `cosine` |\n|---|\n| 0.96 (default) |", "curation/dedup"))
    measured = "\n## Measured\n\n| | ours |\n|---|---|\n| it (`dedup`) | 29.6 s |\n"
    assert list(check_measured(measured, "29.5 s"))
    assert not list(check_measured(measured, "29.6 s"))
