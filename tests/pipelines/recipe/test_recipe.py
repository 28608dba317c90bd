"""Recipes: what is read, what is refused, and how it is said."""

import dataclasses
import re
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mmcorpus.curation.download.published import LAYOUTS
from mmcorpus.curation.engine.stage import Stage
from mmcorpus.curation.sources.written import WrittenConfig
from mmcorpus.packing.layout import CattyLayout, MM1Layout, MolmoLayout
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.stages.order import build_stages
from mmcorpus.training.config import DropoutConfig, ModelConfig, MoEConfig
from mmcorpus.training.optim import mm1_learning_rate

ROOT = Path(__file__).parent.parent.parent.parent
DEMO = ROOT / "pipelines" / "recipes" / "demo.yaml"
SMALL = """\
name: small
seed: 7
web:
  generate: {pairs: 20, instructions: 5}
sources:
  pairs: {urls: "${web}/pairs.parquet"}
  talk: {urls: "${web}/instructions.parquet", kind: conversation, download: {image_size: 64}}
download: {image_size: 128}
score:
  scorers: {image: {}, caption:}
select:
  pairs: {keep: image.min_side >= 100, heldout_fraction: 0.1}
tokenizer:
  train: {vocab_size: 300}
pack:
  one: {sources: [pairs], context_length: 64, tokens_per_image: 4}
  two: {sources: [talk, pairs], context_length: 64, tokens_per_image: 4, seed: 3}
train:
  model: {tokens_per_image: 4}
  stages:
    second: {pack: two, init: first, schedule: {steps: 1}}
    first: {pack: one, schedule: {steps: 1}, seed: 5}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


def complaints(folder: Path, text: str, *settings: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, text), settings)
    return str(caught.value)


def test_the_shipped_recipes_are_valid_and_open_with_their_command() -> None:
    recipe = load_recipe(str(DEMO))
    assert set(recipe.stages) == {"pretrain", "interleaved", "sft"}
    for path in (ROOT / "pipelines" / "recipes").glob("*.yaml"):
        head = path.read_text().split("\nname:")[0]
        assert f"mmcorpus run {path.stem} --out" in head


@pytest.mark.parametrize("name", ["open_qwen2vl", "open_qwen2vl_speedrun", "open_qwen2vl_small"])
def test_open_qwen2vls_recipes_are_valid_where_what_they_name_is_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its two stages, 144 then 729, each with the published numbers; the small one has their shape."""
    monkeypatch.chdir(tmp_path)
    for folder in ("lists/datacomp_medium", "models/mlm-filter", "mammoth", "llava/images", "data/smollm2"):
        Path(folder).mkdir(parents=True)
    rows = pa.table({"url": ["http://a.example/b.jpg"], "caption": ["a dog"]})
    pq.write_table(rows, "lists/ccs_filtered.parquet")
    pq.write_table(rows, "lists/pairs.parquet")
    pq.write_table(rows.rename_columns(["url", "text"]), "lists/datacomp_medium/0.parquet")
    np.save("lists/datacomp_medium_dfn_20m_inds.npy", np.zeros(1, dtype="u8,u8"))
    for file in ("mammoth/mammoth_si_10M.json", "llava/llava_v1_5_mix665k.json"):
        Path(file).write_text('[{"image": "a.jpg", "conversations": []}]')
    asked = yaml.safe_load((ROOT / "pipelines" / "recipes" / f"{name}.yaml").read_text())["evaluate"].values()
    for place in {
        one[key] for one in asked for key in ("data", "annotations", "images", "demonstrations") if key in one
    }:
        Path(place).mkdir(parents=True, exist_ok=True)
    settings = [f"score.scorers.mllm.server.python={sys.executable}"] if name == "open_qwen2vl" else []
    recipe = load_recipe(name, settings)
    assert list(recipe.stages) == ["pretrain", "sft"]
    pretrain, sft = recipe.stages["pretrain"].config, recipe.stages["sft"].config
    assert recipe.stages["sft"].links.init == "pretrain"
    if name != "open_qwen2vl_small":
        assert isinstance(recipe.model, ModelConfig)
        assert (recipe.model.layout, sft.image_layout) == (144, 729)
        assert (pretrain.optimizer.learning_rate, pretrain.optimizer.weight_decay) == (5e-5, 0.01)
        assert (sft.optimizer.learning_rate, sft.optimizer.weight_decay) == (2e-5, 0.1)
        assert (pretrain.schedule.warmup, sft.schedule.warmup) == (0.03, 0.03)
        assert sft.data.batch == ("samples", 128)
    if name == "open_qwen2vl":
        assert pretrain.data.batch == ("sequences", 512)
        assert pretrain.checkpoints.asynchronous


def test_molmos_recipe_is_the_papers_where_what_it_names_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says what is missing where nothing is."""
    monkeypatch.chdir(tmp_path)
    told = complaints_of("molmo")
    for name in ("sources.points_many.urls", "sources.charts.parquet", "sources.vqa2.json", "evaluate.docvqa.images"):
        assert f"{name}: there is nothing at {tmp_path}" in told
    given = yaml.safe_load((ROOT / "pipelines" / "recipes" / "molmo.yaml").read_text())
    for source in given["sources"].values():
        path = Path(source.get("urls") or source.get("parquet") or source["json"])
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            path.write_text('{"image": "a.jpg", "conversations": {"annotations": [{"style": "a", "text": "b"}]}}')
        elif not path.exists():
            path.mkdir()
            columns = [*LAYOUTS[source["published"]].columns, "image_url", "image_sha256", "collection_method"]
            pq.write_table(pa.table({"image": [b""], **{name: ["x"] for name in columns}}), path / "0.parquet")
    for one in given["evaluate"].values():
        for key in ("data", "annotations", "images"):
            if key in one:
                Path(one[key]).mkdir(parents=True, exist_ok=True)
    recipe = load_recipe("molmo")
    pretrain, sft = recipe.stages["pretrain"].config, recipe.stages["sft"].config
    rates = [[(group.match, group.learning_rate or stage.optimizer.learning_rate) for group in stage.train]
             for stage in (pretrain, sft)]  # fmt: skip
    assert rates == [
        [("projector", 2e-4), ("vision", 6e-6), ("language", 2e-5)],
        [("projector", 5e-6), ("vision", 5e-6), ("language", 1e-5)],
    ]
    assert [group.warmup or pretrain.schedule.warmup for group in pretrain.train] == [200, 2000, 2000]
    assert (sft.schedule.warmup, sft.schedule.steps, sft.schedule.floor) == (200, 30_000, 0.1)
    assert (pretrain.dropout, sft.dropout) == (DropoutConfig(response=0.1), DropoutConfig(residual=0.1))
    assert recipe.model is not None
    assert (recipe.model.encoders[0].layers, recipe.model.layout) == ((-3, -10), MolmoLayout())
    assert recipe.downloads["points"].verify_hash == ("image_sha256", "sha256")
    assert recipe.downloads["points_many"].where == {"collection_method": "counting"}
    assert (recipe.downloads["cap"].published, recipe.downloads["cap"].verify_hash) == ("pixmo-cap", None)
    groups = recipe.file.pack["sft"].mix_groups
    assert {name: group.rate for name, group in groups.items()} == {"demo": 0.15, "academic": 0.5, "pointing": 0.35}
    assert sorted(name for group in groups.values() for name in group.sources) == sorted(
        recipe.file.pack["sft"].sources
    )


def complaints_of(name: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    return str(caught.value)


@pytest.mark.parametrize("name", ["mm1", "mm1_small"])
def test_mm1s_recipes_are_valid_where_what_they_name_is_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """45/45/10 with at most 16 images, the learning rate of its law, SFT by sub-images at the encoder's new size."""
    monkeypatch.chdir(tmp_path)
    for folder in ("crawl", "text", "sft", "lists/captions", "lists/vecap"):
        Path(folder).mkdir(parents=True)
    rows = pa.table({"url": ["http://a.example/b.jpg"], "caption": ["a dog"], "text": ["One. Two."]})
    for path in ("lists/captions/0.parquet", "lists/vecap/0.parquet", "text/0.parquet"):
        pq.write_table(rows, path)
    Path("crawl/0.warc.gz").write_bytes(b"")
    Path("sft/mixture.json").write_text('[{"image": "a.jpg", "conversations": []}]')
    asked = yaml.safe_load((ROOT / "pipelines" / "recipes" / f"{name}.yaml").read_text())["evaluate"].values()
    for place in (entry.get(key) for entry in asked for key in ("data", "annotations", "images", "demonstrations")):
        if place and place != "others":
            Path(place).mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(name)
    mix = recipe.file.pack["pretrain"].mix
    assert mix["pages"] == 45
    assert sum(share for source, share in mix.items() if source in ("captions", "synthetic")) == pytest.approx(45)
    assert mix["texts"] == 10
    assert recipe.file.pack["pretrain"].max_images == 16
    pretrain, sft = recipe.stages["pretrain"].config, recipe.stages["sft"].config
    assert isinstance(sft.layout, MM1Layout)
    assert (sft.image_size, sft.layout.constant) == (sft.layout.side, 5 * sft.layout.tokens)
    assert pretrain.optimizer.weight_decay == 0.1
    if name == "mm1":
        assert pretrain.optimizer.learning_rate == pytest.approx(mm1_learning_rate(2_770_000_000), rel=0.01)
        assert pretrain.data.batch == ("sequences", 512)
        assert (pretrain.schedule.steps, sft.image_size) == (200_000, 672)
    else:
        assert recipe.stages["experts"].config.moe == MoEConfig(experts=4)


@pytest.mark.parametrize("name", ["points", "points_small"])
def test_points_recipes_are_valid_where_what_they_name_is_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of its stages, the encoder's own before them, with the published numbers; the small one has their shape."""
    monkeypatch.chdir(tmp_path)
    for folder in ("reading", "scenes", "clocks"):
        Path("data/points", folder).mkdir(parents=True)
        with tarfile.open(f"data/points/{folder}/00000.tar", "w") as tar:
            for member in ("0.jpg", "0.txt"):
                tar.addfile(tarfile.TarInfo(member))
    asked = ("mmstar", "mmmu", "ai2d", "textvqa/images", "textvqa/val.json", "mmbench_dev_en.tsv")
    for folder in ("lists", "instructions/images", *(f"benchmarks/{one}" for one in asked)):
        Path(folder).mkdir(parents=True)
    for file in ("paddleocr", "natural", "pairs"):
        pq.write_table(pa.table({"url": ["http://a.example/b.jpg"], "caption": ["a dog"]}), f"lists/{file}.parquet")
    for file in ("pool", "charts", "documents", "geometry"):
        Path(f"instructions/{file}.json").write_text('[{"image": "a.jpg", "conversations": []}]')
    servers = [f"score.scorers.{one}.server.python={sys.executable}" for one in ("recaption", "capfusion")]
    recipe = load_recipe(name, servers if name == "points" else [])
    if name == "points_small":  # the other asks the Hub for its judge's revision
        order = [stage.name for stage in build_stages(recipe, "RUN")]
        assert order.index("train/reading") < order.index("pairs/score-ppl") < order.index("train/pretrain")
    assert isinstance(recipe.model, ModelConfig)
    general, reading = recipe.model.encoders
    assert general.weight is not None
    assert reading.weight == pytest.approx(1 - general.weight)
    assert reading == dataclasses.replace(general, source="${run}/training/reading", weight=reading.weight)
    assert recipe.model.connector.kind == "shuffle_mlp"
    for stage in ("reading", "pretrain", "sft"):
        config = recipe.file.pack[recipe.stages[stage].links.pack].per_image
        assert isinstance(config, CattyLayout)
    tuned = recipe.stages["sft"].config
    assert [group.match for group in tuned.train] == ["projector", "language"], "both encoders are frozen"
    if name == "points":
        assert config == CattyLayout(tile=336, patch=14, merge=2, max_tiles=8)
        pretrain = recipe.stages["pretrain"].config
        assert [(group.match, group.last_blocks) for group in pretrain.train] == [
            ("vision.clip", 3),
            ("projector", None),
        ]
        assert {group.match for group in recipe.stages["reading"].config.train} == {"vision", "projector"}
        assert recipe.file.sources["pairs"].written == WrittenConfig(source="published", column="capfusion.text")
        assert (recipe.on["recaption"], recipe.on["capfusion"], recipe.on["ppl"]) == (*[("published",)] * 2, ("pairs",))
        assert recipe.scorers["capfusion"].reads() == ("recaption.text",)
        assert recipe.file.select["pairs"].keep == "bottom(ppl.ppl, 0.2)"
        assert (pretrain.optimizer.learning_rate, tuned.optimizer.learning_rate) == (2e-4, 2e-5)
        assert (pretrain.schedule.warmup, tuned.schedule.warmup) == (0.03, 0.03)


def test_sections_reach_the_stages_configs(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), ["download.timeout=3", "select.pairs.heldout_fraction=0.25"])
    assert recipe.downloads["pairs"].image_size == 128
    assert recipe.downloads["talk"].image_size == 64
    assert recipe.downloads["talk"].timeout == 3.0
    assert recipe.downloads["talk"].save_additional_columns == ("conversations",)
    assert recipe.file.select["pairs"].heldout_fraction == 0.25
    assert recipe.file.web is not None
    assert recipe.file.web.generate is not None
    assert recipe.file.web.generate.seed == 7
    assert (recipe.file.pack["one"].seed, recipe.file.pack["two"].seed) == (7, 3)
    assert (recipe.stages["second"].config.seed, recipe.stages["first"].config.seed) == (7, 5)
    assert (recipe.stages["second"].config.kind, recipe.stages["first"].config.kind) == ("sft", "pretrain")
    assert set(recipe.scorers) == {"image", "caption"}


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("seed: 7", "sed: 7").replace("image_size: 128", "image_size: 0")
    text = text.replace("vocab_size: 300", "vocab_size: many").replace("image: {}", "imag: {}")
    told = complaints(tmp_path, text.replace("[pairs]", "[pear]").replace("init: first", "init: frist"))
    assert told.startswith("6 problems in the recipe; nothing was run:")
    assert "recipe.yaml:2: sed: unknown key; did you mean 'seed'?" in told
    assert "recipe.yaml:8: download.image_size: image_size is 0; give 1 or more" in told
    assert "recipe.yaml:10: score.scorers.imag: unknown scorer; did you mean 'image'?" in told
    assert 'recipe.yaml:14: tokenizer.train.vocab_size: should be a whole number, is "many"' in told
    assert "recipe.yaml:16: pack.one.sources[0]: unknown source 'pear'" in told
    assert "recipe.yaml:21: train.stages.second.init: unknown stage 'frist'; did you mean 'first'?" in told


def test_a_mistake_is_not_told_again_of_what_refers_to_it(tmp_path: Path) -> None:
    text = SMALL.replace('pairs: {urls: "${web}/pairs.parquet"}', "pairs: {}").replace(
        "{image: {},", "{image: {on: [pairs]},"
    )
    told = complaints(tmp_path, text.replace("  first: {pack: one,", "  first: {"))
    assert told.startswith("2 problems in the recipe; nothing was run:")
    assert "sources.pairs: give one of `urls`" in told
    assert "train.stages.first.pack: missing" in told
    told = complaints(tmp_path, SMALL.replace("kind: conversation", "kind: [1]"))
    assert "sources.talk.kind: should be 'pair', 'conversation', 'document' or 'text', is [1]" in told


def test_a_scorer_under_a_name_of_ones_own(tmp_path: Path) -> None:
    text = SMALL.replace("image: {}", "image: {}, german: {uses: language, languages: [de]}")
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.scorers["german"].name == "german"
    assert recipe.scorers["german"].fingerprint() != recipe.scorers["german"].named("language").fingerprint()
    text = text.replace("uses: language", "uses: langauge")
    assert "score.scorers.german.uses: unknown scorer; did you mean 'language'?" in complaints(tmp_path, text)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "image.min_side",
            "image.min_sid",
            r"recipe.yaml:12: select.pairs.keep: image gives no column 'image.min_sid'; did",
        ),
        ("image.min_side", "clip.score", r"needs the scorer 'clip', which the recipe does not run"),
        ("image.min_side >= 100", "image.min_side => 100", r"recipe.yaml:12: select.pairs: .*syntax"),
        (
            "keep:",
            "profile: datacomp_basic, keep:",
            r"select.pairs.profile: 'language.code' needs the scorer 'language'",
        ),
        ("pairs: {keep", "pear: {keep", r"select.pear: there is no source of this name; did you mean 'pairs'"),
        ("${web}/pairs", "${web}/pair", r"sources.pairs.urls: a generated site has no 'pair.parquet'; did you mean"),
        ("${web}/pairs", "/nowhere/pairs", r"sources.pairs.urls: there is nothing at /nowhere/pairs.parquet"),
        ("  generate: {pairs: 20, instructions: 5}", "  folder: nowhere", r"web.folder: .*nowhere holds no site"),
        ("{pack: one", "{pack: on", r"train.stages.first.pack: unknown pack 'on'; did you mean 'one'"),
        ("{pack: one", "{pack: one, init: second", r"starts from itself"),
        ("model: {tokens_per_image: 4}", "model: {tokens_per_image: 9}", r"9, but pack 'two' has 4"),
        ("second: {pack: two,", "second: {tokens_per_image: 9, pack: two,", r"second.*9, but pack 'two' has 4"),
        ("model: {", "model: {vision: ./missing, ", r"train.model.vision: there is nothing at .*missing"),
        (
            "model: {",
            "model: {encoders: [{source: {image_size: 32}}, {source: ./missing}], ",
            r"train.model.encoders\[1\].source: there is nothing at .*missing",
        ),
        ("tokenizer:\n  train: {vocab_size: 300}\n", "", r"tokenizer: missing; packs need one"),
        ("train: {vocab_size: 300}", "name: ./missing", r"tokenizer.name: there is nothing at"),
        ("caption:}", "caption:, no.such:Thing: {}}", r"score.scorers.no.such:Thing: .*cannot be imported"),
        ("  talk:", "  bad name:", r"sources.bad name: a name becomes a folder"),
        ("name: small", "name: ' '", r"name: empty"),
        ("kind: conversation", "kind: talk", r"sources.talk.kind: \"talk\" is none of its values"),
        ("name: small\n", "", r"name: missing – What the run is called"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in SMALL
    assert re.search(message, complaints(tmp_path, SMALL.replace(before, after)))


def test_packs_refer_to_no_images_of_others(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    text = SMALL.replace('{urls: "${web}/pairs.parquet"}', f"{{parquet: {tmp_path}/data}}")
    assert text != SMALL
    text = text.replace("two: {", "two: {images: reference, ")
    found = complaints(tmp_path, text)
    assert "pack.two.images: reference, but the images of pairs lie in files of others: give original or res" in found
    assert "pack.one" not in found


ANNOTATED = SMALL.replace(
    "select:\n", "dedup:\n  same_file: {by: bytes, sources: [pairs], annotations: true}\nselect:\n"
).replace("two: {sources: [talk, pairs],", "two: {sources: [talk, pairs], annotations: {pairs: same_file},")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "{pairs: same_file}",
            "{pears: same_file}",
            r"pack.two.annotations.pears: 'pears' is not packed here; did",
        ),
        (
            "{pairs: same_file}",
            "{talk: same_file}",
            r"pack.two.annotations.talk: annotations are captions of images, and",
        ),
        ("{pairs: same_file}", "{pairs: same_fil}", r"pack.two.annotations.pairs: unknown pass 'same_fil'; did you"),
        ("annotations: true", "annotations: false", r"same_file' writes no annotations; give it `annotations: true`"),
        ("[pairs], annotations", "[talk], annotations", r"same_file' does not look through the source 'pairs'"),
        ("two: {", "two: {format: both, ", r"pack.two.format: Open-Qwen2VL's pickles cannot say that an image has"),
    ],
)
def test_annotations_that_nobody_writes_are_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert load_recipe(write(tmp_path, ANNOTATED)).file.pack["two"].annotations == {"pairs": "same_file"}
    assert before in ANNOTATED
    assert re.search(message, complaints(tmp_path, ANNOTATED.replace(before, after)))


def test_a_plan_depends_on_the_captions_that_its_pass_has_merged(tmp_path: Path) -> None:
    def plans(text: str) -> dict[str, Stage]:
        stages = build_stages(load_recipe(write(tmp_path, text)), str(tmp_path / "run"))
        return {stage.name: stage for stage in stages if stage.name.endswith("/plan")}

    annotated, before = plans(ANNOTATED), plans(SMALL)
    for name in ("two/plan", "two.heldout/plan"):
        assert "dedup/same_file#annotations.parquet" in annotated[name].needs
        assert annotated[name].config["annotations"] == {"pairs": "same_file"}
        assert "annotations" not in before[name].config, "plans of before stay up to date"
    assert annotated["one/plan"].needs == before["one/plan"].needs


def test_set_is_checked_like_the_file_and_named_as_the_place(tmp_path: Path) -> None:
    told = complaints(tmp_path, SMALL, "download.image_sise=3", "seed=x")
    assert "--set download.image_sise=3: download.image_sise: unknown key; did you mean 'image_size'?" in told
    assert '--set seed=x: seed: should be a whole number, is "x"' in told


def test_recipes_that_ship_are_found_by_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert load_recipe("demo", ["seed=3"]).file.seed == 3
    with pytest.raises(RecipeError, match=r"recipes/demo.yaml:\d+: dedup.same_image.by: fingerprint gives no"):
        load_recipe("demo", ["score.scorers.fingerprint={uses: image}"])
    write(tmp_path, SMALL)
    (tmp_path / "recipe.yaml").rename(tmp_path / "dfn")
    assert load_recipe("dfn").file.name == "small", "a file comes first"


def test_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no recipe at .*; those that ship: demo, dfn, "):
        load_recipe(str(tmp_path / "missing.yaml"))
    with pytest.raises(FileNotFoundError, match=r"no recipe at dmo; did you mean 'demo'\?"):
        load_recipe("dmo")
    assert "a recipe is a mapping" in complaints(tmp_path, "- a\n- b\n")


def test_a_layout_is_read_by_its_kind_and_fits_what_reads_its_packs(tmp_path: Path) -> None:
    text = SMALL.split("train:\n  model")[0]
    with_layout = text.replace("context_length: 64, tokens_per_image: 4}", "layout: {kind: molmo, margins: [4, 6]}}")
    config = load_recipe(write(tmp_path, with_layout), []).file.pack["one"]
    assert config.layout == MolmoLayout(margins=(4, 6))
    assert load_recipe(write(tmp_path, text), []).file.pack["one"].layout is None

    def told(layout: str, recipe: str = text) -> str:
        return complaints(tmp_path, recipe.replace("tokens_per_image: 4}", f"layout: {layout}}}", 1))

    assert "pack.one.layout: the layout 'mollmo' is not known; there are square, molmo" in told("{kind: mollmo}")
    assert "the layout 'native' has no setting tokens; it has kind, patch" in told("{kind: native, tokens: 4}")
    assert "crop is 340 in the layout 'molmo'; give a multiple of the patch, 14" in told("{kind: molmo, crop: 340}")
    assert "a layout is a mapping such as {kind: molmo}, not 'molmo'" in told("molmo")
    assert "no more than one image's 720 positions" in told("{kind: mm1}")
    squares = SMALL.replace("context_length: 64, tokens_per_image: 4}", "layout: {kind: catty}}")
    problems = complaints(tmp_path, squares)
    assert "tokens_per_image: 4 tokens an image, but pack 'one' has the layout {'kind': 'catty'" in problems
    assert "leave the layout out, or the pickles" in told("{kind: native}, format: both")
    square = SMALL.replace("[pairs], context_length: 64, tokens_per_image: 4}", "[pairs], layout: {tokens: 4}}")
    assert load_recipe(write(tmp_path, square), []).file.pack["one"].per_image == 4
