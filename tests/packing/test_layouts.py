"""Plans and packs under an image layout: each image takes the positions of its own size, from plan to reader."""

import dataclasses
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.packing import (
    PackConfig,
    PackError,
    PackReader,
    PlanConfig,
    PlanReport,
    PlanSource,
    load_tokenizer,
    make_plan,
    write_packs,
)
from mmcorpus.packing.layout import CattyLayout, LayoutConfig, MM1Layout, MolmoLayout, NativeLayout, SquareLayout
from mmcorpus.packing.pickles import write_pickles
from mmcorpus.packing.samples import FittedSample, Rejection, fit_rows
from mmcorpus.training.data import check_packs

MOLMO = MolmoLayout(crop=56, patch=8, margins=(1, 2), max_crops=5)
NATIVE = NativeLayout(patch=4, merge=2, min_pixels=64, max_pixels=4096)
SIZES = [(90, 60), (10, 200), (64, 64), (300, 20), (1, 1), (70, 71)]

Select = Callable[..., pa.Table]


def shards(root: Path, *, conversations: bool = False, without: int = 0) -> list[Sample]:
    """Two shards of images of SIZES, the first `without` of which do not say their size; returns their samples."""
    words, made = random.Random(3), []
    for number in range(2):
        with ShardWriter(Shard(root=str(root), name=f"{number:05d}")) as writer:
            for index in range(12):
                width, height = SIZES[index % len(SIZES)]
                file = io.BytesIO()
                Image.new("RGB", (width, height), (index * 9, 40, 200)).save(file, "PNG")
                text = " ".join(words.choice(["red", "chart", "of", "noon"]) for _ in range(words.randint(1, 20)))
                meta: dict[str, Any] = {"url": f"http://example.com/{root.name}/{number}/{index}.png"}
                known = number or index >= without
                meta |= {"width": width if known else None, "height": height if known else None}
                if conversations:
                    turns = [{"from": "human", "value": f"<image>\n{text}?"}, {"from": "gpt", "value": text}]
                    meta["conversations"] = json.dumps(turns)
                meta["uid"] = uid = pair_uid(meta["url"], text)
                image = EncodedImage(extension="png", data=file.getvalue())
                key = f"{number:05d}{index:04d}"
                made.append(Sample(key=key, uid=uid, caption=text, images=(image,), meta=meta))
                writer.write(made[-1])
    return made


class Corpus:
    """Pairs and conversations."""

    def __init__(self, root: Path, tokenizer: str, select: Select, **more: Any) -> None:
        self.root, self.tokenizer = root, tokenizer
        self.samples = {"web": shards(root / "web", **more), "talk": shards(root / "talk", conversations=True)}
        self.sources = {
            name: PlanSource(
                shards=str(root / name), selection=select(made), kind="pair" if name == "web" else "conversation"
            )
            for name, made in self.samples.items()
        }

    def plan(self, config: PlanConfig, out: str) -> PlanReport:
        return make_plan(
            config,
            tokenizer=self.tokenizer,
            sources=self.sources,
            out=f"{self.root}/{out}/plan.parquet",
            ledger_root=f"{self.root}/{out}/ledger",
        )

    def pack(self, config: PlanConfig, out: str) -> PackReader:
        self.plan(config, out)
        write_packs(
            PackConfig(sequences_per_shard=5),
            plan=f"{self.root}/{out}/plan.parquet",
            tokenizer=self.tokenizer,
            shards={name: source.shards for name, source in self.sources.items()},
            out=f"{self.root}/{out}/packs",
        )
        return PackReader(f"{self.root}/{out}/packs")


@pytest.fixture
def corpus(tmp_path: Path, tokenizer_folder: str, select: Select) -> Corpus:
    return Corpus(tmp_path, tokenizer_folder, select)


@pytest.mark.parametrize("layout", [MOLMO, NATIVE, CattyLayout(tile=56, max_tiles=4)], ids=lambda layout: layout.kind)
def test_plan_packer_and_reader_take_each_images_own_length(corpus: Corpus, layout: LayoutConfig) -> None:
    config = PlanConfig(context_length=700, layout=layout, window_shards=2)
    reader = corpus.pack(config, "out")
    rows = storage.read_table(f"{corpus.root}/out/plan.parquet").to_pylist()
    assert all(row["crops"] >= row["images"] for row in rows)
    known = {sample.uid: sample for made in corpus.samples.values() for sample in made}
    assert {row["uid"] for row in rows} == set(known)
    for row in rows:
        meta = known[row["uid"]].meta
        assert row["length"] == row["tokens"] - 1 + layout.layout(meta["width"], meta["height"]).length
    assert len({row["length"] - row["tokens"] for row in rows}) > 1, "the sizes differ"
    assert reader.layout == layout == reader.per_image
    assert reader.manifest["version"] == 3
    seen = 0
    for sequence in reader:
        assert sequence.length <= 700
        assert sequence.sizes == tuple(Image.open(io.BytesIO(image.data)).size for image in sequence.images)
        seen += len(sequence.uids)
    assert seen == len(known)


def test_plain_numbers_of_tokens_make_the_bytes_that_they_made(corpus: Corpus) -> None:
    plain = PlanConfig(context_length=256, tokens_per_image=16, window_shards=2)
    assert set(plain.settings()) == {
        *("context_length", "tokens_per_image", "max_images", "too_long", "mix", "window_shards", "seed")
    }
    assert PlanConfig.read(plain.settings()) == plain
    reader = corpus.pack(plain, "plain")
    assert reader.layout is None
    assert (reader.tokens_per_image, reader.manifest["version"]) == (16, 1)
    assert not {"layout", "layout_hash"} & set(reader.manifest)
    named = dataclasses.replace(plain, tokens_per_image=144, layout=SquareLayout(tokens=16))
    assert PlanConfig.read(json.loads(json.dumps(named.settings()))) == named
    square = corpus.pack(named, "square")
    assert [shard["sha256"] for shard in square.manifest["shards"]] == [
        shard["sha256"] for shard in reader.manifest["shards"]
    ]
    assert (square.tokens_per_image, square.manifest["version"]) == (16, 1), "an older program reads it"
    assert square.layout == SquareLayout(tokens=16)
    check_packs(square, load_tokenizer(corpus.tokenizer), 16)


def test_images_of_one_length_need_no_sizes(corpus: Corpus) -> None:
    layout = MM1Layout(side=28, tokens=4)
    reader = corpus.pack(PlanConfig(context_length=128, layout=layout), "out")
    assert (reader.tokens_per_image, reader.per_image, reader.layout) == (20, 20, layout)
    assert all(not sequence.sizes for sequence in reader)


def test_a_model_of_another_layout_and_pickles_refuse_them(corpus: Corpus) -> None:
    reader = corpus.pack(PlanConfig(context_length=700, layout=MOLMO), "out")
    with pytest.raises(ValueError, match=r"packed with the layout .*'molmo'.* but the model gives 144 tokens an image"):
        check_packs(reader, load_tokenizer(corpus.tokenizer), 144)
    with pytest.raises(ValueError, match="the image layout 'molmo', and Open-Qwen2VL's pickles hold squares"):
        write_pickles(reader.root, f"{corpus.root}/pickles")
    with pytest.raises(PackError, match="different sizes take different numbers of positions"):
        _ = reader.tokens_per_image


def test_a_pair_that_does_not_say_its_size_costs_itself(tmp_path: Path, tokenizer_folder: str, select: Select) -> None:
    corpus = Corpus(tmp_path, tokenizer_folder, select, without=3)
    report = corpus.plan(PlanConfig(context_length=700, layout=MOLMO), "out")
    assert report.verdicts == {"web": {"kept": 21, "missing_size": 3}, "talk": {"kept": 24}}
    ledger = storage.read_table(f"{tmp_path}/out/ledger/web/pack.parquet").to_pylist()
    assert {row["value"] for row in ledger if row["rule"] == "missing_size"} == {"missing_size: None x None"}
    assert corpus.plan(PlanConfig(context_length=700), "square").verdicts["web"] == {"kept": 24}


def test_long_images_are_dropped_or_their_captions_cut(tokenizer_folder: str) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    texts, sizes = ["red chart of noon", "noon " * 60, "red"], [((64, 64),), ((64, 64),), ((3000, 3000),)]
    config = PlanConfig(context_length=80, layout=NATIVE)
    kept, long, large = fit_rows(tokenizer, "pair", texts, config, sizes)
    assert isinstance(kept, tuple)
    assert kept[0].length == len(kept[0].tokens.input_ids) - 1 + 66
    assert kept[0].sizes == ((64, 64),)
    assert isinstance(long, Rejection)
    assert isinstance(large, tuple), "native images have a largest length"
    assert large[0].length - len(large[0].tokens.input_ids) + 1 == int(NATIVE.lengths([3000], [3000])[0])
    cut = fit_rows(tokenizer, "pair", texts, dataclasses.replace(config, too_long="truncate"), sizes)[1]
    assert isinstance(cut, tuple)
    assert cut[0].length == 80
    assert cut[0].full_length > 80
    none = [((64, None),), ((0, 64),), ((None, None),)]
    assert [row.rule for row in fit_rows(tokenizer, "pair", texts, config, none) if isinstance(row, Rejection)] == [
        "missing_size"
    ] * 3


@pytest.mark.parametrize("layout", [MOLMO, NATIVE, CattyLayout(tile=56, max_tiles=4)], ids=lambda layout: layout.kind)
@pytest.mark.parametrize("too_long", ["split", "truncate", "drop"])
def test_documents_are_planned_by_their_images_sizes(tokenizer_folder: str, layout: Any, too_long: Any) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    nodes: list[Any] = [{"text": "red chart " * 9}]
    for number, size in enumerate(SIZES):
        nodes += [{"image": number, "size": size}, {"text": f"noon {number}"}]
    longest, most = max(layout.layout(*size).length for size in SIZES), max(len(layout.layout(*s).crops) for s in SIZES)
    config = PlanConfig(context_length=longest + 20, layout=layout, too_long=too_long, max_images=2, max_crops=most)
    (fitted,) = fit_rows(tokenizer, "document", [json.dumps(nodes)], config)
    if too_long == "drop":
        assert isinstance(fitted, Rejection)
        return
    assert isinstance(fitted, tuple)
    for part in fitted:
        images = [layout.layout(*size) for size in part.sizes]
        assert part.sizes == tuple(SIZES[number] for number in part.tokens.images or ())
        text = len(part.tokens.input_ids) - len(images)
        assert part.length == text + sum(image.length for image in images) <= config.context_length
        assert part.crops == sum(len(image.crops) for image in images) <= most
        assert len(images) <= 2
    if too_long == "split":
        assert [number for part in fitted for number in part.tokens.images or ()] == list(range(len(SIZES)))
        assert len({part.part for part in fitted}) == len(fitted) > 2


def test_a_document_that_does_not_say_a_size_or_whose_image_is_longer_than_a_sequence_costs_itself(
    tokenizer_folder: str,
) -> None:
    tokenizer, none = load_tokenizer(tokenizer_folder), {"text": "red"}
    rows = [
        [none, {"image": 3}],
        *([none, {"image": 3, "size": size}] for size in ([0, 4], "3x4", [3], [True, 4], [4.0, 4])),
        [none, {"image": 0, "size": [3000, 3000]}],
    ]
    config = PlanConfig(layout=NATIVE, context_length=60, too_long="split")
    *unknown, large = fit_rows(tokenizer, "document", [json.dumps(row) for row in rows], config)
    assert [row.value for row in unknown if isinstance(row, Rejection)] == ["missing_size: image 3"] * 6
    assert isinstance(large, Rejection)
    assert large.rule == "too_long"
    pages = json.dumps([none, {"image": 0, "size": [70, 71]}])
    few = PlanConfig(layout=MOLMO, context_length=700, too_long="split", max_crops=1)
    (crops,) = fit_rows(tokenizer, "document", [pages], few)
    assert isinstance(crops, Rejection)
    assert crops.rule == "too_many_crops"


def test_images_of_one_length_need_no_sizes_in_documents_and_texts_none_at_all(tokenizer_folder: str) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    nodes = json.dumps([{"text": "red chart"}, {"image": 0}])
    for layout, positions in ((SquareLayout(tokens=64), 64), (MM1Layout(), 720)):
        (fitted,) = fit_rows(tokenizer, "document", [nodes], PlanConfig(layout=layout))
        assert isinstance(fitted, tuple)
        assert fitted[0].length == len(fitted[0].tokens.input_ids) - 1 + positions
        assert fitted[0].crops == (1 if positions == 64 else 5)
    (text,) = fit_rows(tokenizer, "text", [json.dumps([{"text": "red chart"}])], PlanConfig(layout=MOLMO))
    assert isinstance(text, tuple)
    assert isinstance(text[0], FittedSample)
    assert text[0].length == len(text[0].tokens.input_ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout_hash": "0" * 16}, "its layout has the hash"),
        ({"layout": {"kind": "spiral"}}, "the layout 'spiral' is not known"),
        ({"layout": 3}, "a layout is a mapping"),
        ({"tokens_per_image": 144}, "wrong or missing tokens_per_image"),
        ({"tokenizer": {}}, "wrong or missing tokenizer"),
        ({"context_length": -5}, "wrong or missing context_length"),
        ({"context_length": 2**40}, "wrong or missing context_length"),
        ({"version": 6}, "is of version 6, this program reads 1 to 5"),
    ],
)
def test_a_manifest_of_another_layout_is_refused(corpus: Corpus, change: dict[str, Any], message: str) -> None:
    root = corpus.pack(PlanConfig(context_length=700, layout=MOLMO), "out").root
    path = f"{root}/manifest.json"
    storage.write_json(path, {**storage.read_json(path), **change})
    with pytest.raises(PackError, match=message):
        PackReader(root)


def test_a_sequence_whose_sizes_are_not_its_images_is_damaged(corpus: Corpus) -> None:
    reader = corpus.pack(PlanConfig(context_length=700, layout=MOLMO), "out")
    sequence = reader[0]
    sequence.check(MOLMO)
    for sizes, message in (
        (sequence.sizes[1:], "sizes are of"),
        (((0, 5), *sequence.sizes[1:]), "at least one pixel"),
        (((9999, 9999), *sequence.sizes[1:]), "says .* images, length"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(sequence, sizes=sizes).check(MOLMO)
    with pytest.raises(ValueError, match="length"):
        sequence.check(MolmoLayout())


def test_a_config_says_an_images_length_once_and_leaves_room_for_one() -> None:
    with pytest.raises(ValueError, match=r"tokens_per_image is 64 and pack\.layout is given too; give one of them"):
        PlanConfig(tokens_per_image=64, layout=MOLMO)
    with pytest.raises(ValueError, match=r"no more than one image's 720 positions; raise it or lower pack\.layout"):
        PlanConfig(context_length=720, layout=MM1Layout())
    assert PlanConfig(layout=MM1Layout()).per_image == 720
    assert PlanConfig(layout=MOLMO).per_image == MOLMO
    assert PlanConfig(tokens_per_image=9).per_image == 9
