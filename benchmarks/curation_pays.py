"""Does curation pay? Equal steps on what each judge keeps.

    python -m benchmarks.curation_pays --out runs/pays --seeds 5

A site is generated, spoiled, downloaded and judged once (`benchmarks/curation_pays.yaml`). Then one model a seed is
trained on each selection, from random weights, for as many positions as on any other; seeds draw weights, order and
packing. Asked are pairs that the site knows to be true, of pictures that no selection has:

- `loss`: nats a target token of their captions;
- `chosen`: how often the picture's own caption has a lower loss than that of another of them; 0.5 is chance.

Intervals are of the mean over seeds (Student's t, 95 %); `wins` counts the seeds in which the loss is below that of the
same seed on the section's first row. `--only` takes sections: `selections`; `packing`, masked against unmasked;
`weights` of targets; `mixtures` of captions, pages, texts and instructions, which answer questions kept aside as well
(`answered`). Text perplexity needs a language model (`--language-model`); CLIP and an MLLM need a network or a server:
their scores, made by `mmcorpus score`, are joined by `--scores FOLDER`, their selections given by
`--keep NAME=EXPRESSION`. What was trained is kept in `--out`, so that a run that was stopped goes on.
"""

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks.common import show, write_result
from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.selection.select import select_table
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter, list_shards, read_samples
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.packing import PackConfig, PackReader, PlanConfig, PlanSource, make_plan, write_packs
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.truth.run_verdict import read_truth
from mmcorpus.training.checkpoint import load_model, resolve_checkpoint
from mmcorpus.training.config import StageConfig
from mmcorpus.training.data import PackLoader
from mmcorpus.training.evaluation import Checkpoint, EvaluationConfig, evaluate
from mmcorpus.training.vision_language import train

RECIPE: Final = Path(__file__).with_suffix(".yaml")
HELDOUT: Final = 400
"""True pairs kept aside, of whose pictures no selection has a copy."""
RULES: Final = (
    "image.min_side >= 100 and image.aspect_ratio <= 3.0 and image.frames == 1 and image.entropy >= 0.1 and "
    "image.blur >= 2 and not caption.is_filename and not caption.is_url and not caption.has_markup and not "
    "caption.is_boilerplate and caption.words > 2 and language.en >= 0.05 and same_image.rank == 0"
)
SELECTIONS: Final = {
    "nothing": "",
    "rules": RULES,
    "DFN, best 40 %": "top(dfn.similarity, 0.4)",
    "perplexity with the image, lowest 40 %": "bottom(judge.ppl, 0.4)",
    "rules and DFN": f"({RULES}) and top(dfn.similarity, 0.6)",
    "DFN or perplexity": "top(dfn.similarity, 0.3) or bottom(judge.ppl, 0.3)",
}
MIXTURES: Final = {
    "captions 45, pages 45, texts 10": {"pairs": 45, "pages": 45, "texts": 10},
    "the same and instructions 20": {"pairs": 36, "pages": 36, "texts": 8, "instructions": 20},
    "captions 10, instructions 70, pages 15, texts 5": {"pairs": 10, "instructions": 70, "pages": 15, "texts": 5},
}
"""MM1's, and DataComp-VLM's finding that instructions should be most of it."""
Row = dict[str, Any]


class Corpus:
    """The run, its scores with what was joined, and the pairs kept aside."""

    def __init__(self, out: Path, scores: Sequence[str], settings: Sequence[str]) -> None:
        self.run = str(out / "run")
        command = [sys.executable, "-m", "mmcorpus.pipelines.cli", "run", str(RECIPE), "--out", self.run]
        subprocess.run([*command, *itertools.chain(*(("--set", one) for one in settings))], check=True)
        judged = out / "judge"
        subprocess.run(
            [sys.executable, "-m", "mmcorpus.pipelines.cli", "score", f"{self.run}/shards/pairs", "--out", str(judged),
             "--scorer", "checkpoint_perplexity", "--set",
             f"checkpoint_perplexity.checkpoint={self.run}/training/judge"],
            check=True,
        )  # fmt: skip
        self.out, self.recipe = out, load_recipe(f"{self.run}/recipe.yaml")
        self.tokenizer = f"{self.run}/tokenizer"
        table = load_scores(f"{self.run}/scores/pairs")
        for folder in (str(judged), *scores):
            more = load_scores(folder)
            new = [name for name in more.column_names if name == "uid" or name not in table.column_names]
            table = table.join(more.select(new), "uid")
        names = [name.replace("checkpoint_perplexity.", "judge.") for name in table.column_names]
        self.table = table.rename_columns(names).sort_by("uid")
        self.truth = read_truth(self.run)
        self.aside = self._kept_aside()

    def _kept_aside(self) -> pa.Table:
        """The scores of the true pairs that are asked about; what shares their pictures leaves the table."""
        true = [uid in self.truth and not self.truth[uid]["spoil"] for uid in self.table["uid"].to_pylist()]
        first = pc.equal(self.table["same_image.rank"], 0)
        aside = self.table.filter(pc.and_(pa.array(true), first)).slice(0, HELDOUT)
        shared = pc.is_in(self.table["same_image.cluster"], value_set=pc.unique(aside["same_image.cluster"]))
        self.table = self.table.filter(pc.invert(pc.fill_null(shared, False)))
        return aside

    def true_share(self, uids: Sequence[str]) -> float:
        """Of some pairs, those whose caption is of their picture."""
        return statistics.mean(self.truth[uid]["caption"] == self.truth[uid]["true_caption"] for uid in uids)

    def selected(self, name: str, keep: str) -> pa.Table:
        """The selection of an expression."""
        path = self.out / "selections" / f"{_plain(name)}.parquet"
        path.parent.mkdir(exist_ok=True)
        select_table(SelectConfig(keep=keep), self.table, str(path))
        return storage.read_table(str(path))

    def asked(self) -> tuple[str, str]:
        """Packs of the pairs kept aside, and of the same pictures with each other's captions."""
        whole = {
            sample.uid: sample for shard in list_shards(f"{self.run}/shards/pairs") for sample in read_samples(shard)
        }
        chosen = [whole[uid] for uid in self.aside["uid"].to_pylist()]
        captions = [str(sample.caption) for sample in chosen]
        other = []
        for at, caption in enumerate(captions):
            turns = (captions[(at + step) % len(captions)] for step in range(1, len(captions)))
            other.append(next(one for one in turns if one != caption))
        packs = []
        for name, texts in (("own", captions), ("other", other)):
            folder = str(self.out / "aside" / name)
            if not list_shards(folder):
                with ShardWriter(Shard(root=folder, name="00000")) as writer:
                    for at, (sample, text) in enumerate(zip(chosen, texts, strict=True)):
                        image = EncodedImage(extension=sample.images[0].extension, data=sample.images[0].data)
                        uid, meta = pair_uid(f"{name}{at}", text), {"url": f"{name}{at}"}
                        writer.write(Sample(key=f"{at:06d}", uid=uid, caption=text, images=(image,), meta=meta))
            uids = [sample.uid for shard in list_shards(folder) for sample in read_samples(shard)]
            table = pa.table({"uid": uids, "count": pa.array([1] * len(uids), pa.int32())})
            packs.append(
                self.packed(f"aside.{name}", {"pairs": PlanSource(shards=folder, selection=table, kind="pair")})
            )
        return packs[0], packs[1]

    def source(self, name: str) -> PlanSource:
        """A source of the run's, as selected there."""
        kinds: dict[str, Any] = {"instructions": "conversation", "pages": "document", "texts": "text"}
        return PlanSource(
            shards=f"{self.run}/shards/{name}", selection=f"{self.run}/selections/{name}.parquet", kind=kinds[name]
        )

    def pairs(self, selection: pa.Table) -> PlanSource:
        """The pairs of a selection."""
        return PlanSource(shards=f"{self.run}/shards/pairs", selection=selection, kind="pair")

    def packed(self, name: str, sources: Mapping[str, PlanSource], **config: Any) -> str:
        """The folder of packs of some sources; made once."""
        plan, out = str(self.out / "plans" / f"{name}.parquet"), str(self.out / "packs" / name)
        whole = PlanConfig(**{"context_length": 128, "tokens_per_image": 9, **config})
        make_plan(whole, tokenizer=self.tokenizer, sources=sources, out=plan)
        shards = {source: own.shards for source, own in sources.items()}
        write_packs(PackConfig(), plan=plan, tokenizer=self.tokenizer, shards=shards, out=out)
        return out


def sample_losses(training: str, packs: str) -> dict[str, tuple[float, int]]:
    """By uid the loss of each sample's targets, in nats, and their number."""
    model, _, _ = load_model(resolve_checkpoint(training))
    reader = PackReader(packs)
    loader, found = PackLoader(reader, image_size=model.vision.image_size), {}
    model.eval()
    for index in range(len(reader)):
        batch, uids = loader.batch([index]), reader[index].uids
        with torch.no_grad():
            losses = model.token_losses(batch)
        samples = batch.sample_ids_BL.flatten()[batch.predict_positions_M]
        for number, uid in enumerate(uids):
            own = losses[samples == number]
            found[uid] = float(own.sum()), len(own)
    return found


class Trials:
    """Trains models and asks them; results are kept, so that a run that was stopped goes on."""

    def __init__(self, corpus: Corpus, steps: int, seeds: int) -> None:
        self.corpus, self.steps, self.seeds = corpus, steps, seeds
        self.own, self.other = corpus.asked()

    def trial(self, name: str, seed: int, pack: Callable[[str], str], *, answers: bool = False, **settings: Any) -> Row:
        """One model's results; `answers`: asked questions, too."""
        folder = self.corpus.out / "trials" / f"{_plain(name)}-{seed}"
        result = folder / "result.json"
        if not result.exists():
            stage = self.corpus.recipe.stages["judge"].config
            config = dataclasses.replace(
                stage, seed=seed, certify=0, schedule=dataclasses.replace(stage.schedule, steps=self.steps), **settings
            )
            train(config, pack(folder.name), str(folder / "training"), model=self.corpus.recipe.model, device="cpu")
            row = self._asked(str(folder / "training"))
            if answers:
                row["answered"] = self._answered(folder)
            result.write_text(json.dumps(row))
        found: Row = json.loads(result.read_text())
        return found

    def _answered(self, folder: Path) -> float:
        """The share of the questions kept aside whose answer is exact."""
        report = evaluate(
            EvaluationConfig(only="^(?!What is in the picture)", limit=400, max_new_tokens=6, batch_size=64),
            Checkpoint(str(folder / "training"), "cpu"),
            f"{self.corpus.run}/shards/instructions",
            str(folder / "answers"),
            selection=f"{self.corpus.run}/selections/instructions.heldout.parquet",
        )
        return next(float(one.found.value) for one in report.results if not one.category)

    def _asked(self, training: str) -> Row:
        own, other = (sample_losses(training, path) for path in (self.own, self.other))
        number = {pair_uid(f"{kind}{at}", caption): at for kind, at, caption in self._written()}
        means = {
            kind: {number[uid]: total / count for uid, (total, count) in losses.items()}
            for kind, losses in (("own", own), ("other", other))
        }
        both = sorted(means["own"].keys() & means["other"].keys())
        chosen = [means["own"][at] < means["other"][at] for at in both]
        return {
            "loss": sum(total for total, _ in own.values()) / sum(count for _, count in own.values()),
            "chosen": statistics.mean(chosen), "asked": len(both),
        }  # fmt: skip

    def _written(self) -> Iterator[tuple[str, int, str]]:
        for kind in ("own", "other"):
            for shard in list_shards(str(self.corpus.out / "aside" / kind)):
                for at, sample in enumerate(read_samples(shard)):
                    yield kind, at, str(sample.caption)

    def rows(self, trials: Mapping[str, Callable[[int], Row]]) -> list[Row]:
        """A row a trial: means over seeds with intervals, beside the first."""
        found = {name: [one(seed) for seed in range(self.seeds)] for name, one in trials.items()}
        first = next(iter(found.values()))
        rows = []
        for name, results in found.items():
            wins = sum(mine["loss"] < base["loss"] for mine, base in zip(results, first, strict=True))
            row: Row = {"trained on": name}
            asked = [key for key in ("loss", "chosen", "answered") if key in results[0]]
            row |= {key: interval([one[key] for one in results]) for key in asked}
            rows.append({**row, "wins": f"{wins} of {self.seeds}", "results": results})
        return rows


def interval(values: Sequence[float]) -> str:
    """The mean, and half of its 95 % interval by Student's t."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3f} ± {half:.3f}"


def _plain(name: str) -> str:
    return "-".join("".join(sign if sign.isalnum() else " " for sign in name.lower()).split())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pays"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=["selections", "packing", "weights", "mixtures"])
    parser.add_argument("--language-model", help="for text perplexity: a folder of SmolLM2, or a name")
    parser.add_argument("--scores", nargs="*", default=[], help="folders of scores to join")
    parser.add_argument("--keep", nargs="*", default=[], metavar="NAME=EXPRESSION", help="more selections")
    parser.add_argument("--set", nargs="*", default=[], dest="settings", help="of the recipe")
    given = parser.parse_args()
    settings, chosen = list(given.settings), dict(SELECTIONS)
    if given.language_model:
        settings += [f"score.scorers.text={{uses: perplexity, model_name: {given.language_model}, on: [pairs]}}"]
        chosen["perplexity of the text, lowest 40 %"] = "bottom(text.ppl, 0.4)"
    chosen |= dict(one.split("=", 1) for one in given.keep)
    corpus = Corpus(given.out, given.scores, settings)
    trials = Trials(corpus, given.steps, given.seeds)
    kept = {name: corpus.selected(name, keep) for name, keep in chosen.items()}
    sections: dict[str, list[Row]] = {}

    def on(
        name: str, sources: Mapping[str, PlanSource], config: Row | None = None, **stage: Any
    ) -> Callable[[int], Row]:
        def run(seed: int) -> Row:
            return trials.trial(
                name, seed, lambda folder: corpus.packed(folder, sources, seed=seed, **(config or {})), **stage
            )

        return run

    if "selections" in given.only:
        rows = trials.rows({name: on(name, {"pairs": corpus.pairs(table)}) for name, table in kept.items()})
        for row, table in zip(rows, kept.values(), strict=True):
            row |= {"pairs": len(table), "true": f"{corpus.true_share(table['uid'].to_pylist()):.1%}"}
        sections["selections"] = rows
    stage = corpus.recipe.stages["judge"].config
    assert isinstance(stage, StageConfig)
    rules = {"pairs": corpus.pairs(kept["rules"])}
    if "packing" in given.only:
        seen = {"data": dataclasses.replace(stage.data, isolated=False)}
        sections["packing"] = trials.rows({
            "rules": on("rules", rules), "samples see each other": on("unmasked", rules, None, **seen),
        })  # fmt: skip
    if "weights" in given.only:
        sections["weights"] = trials.rows({
            "rules": on("rules", rules), "2/√t a target": on("weighted", rules, {"target_weights": ("lengths",)}),
        })  # fmt: skip
    if "mixtures" in given.only:
        sections["mixtures"] = trials.rows({
            name: on(name, {
                source: corpus.pairs(kept["rules"]) if source == "pairs" else corpus.source(source) for source in mix
            }, {"mix": mix, "context_length": 512, "max_images": 16, "too_long": "split"}, answers=True,
               data=dataclasses.replace(stage.data, batch_sequences=2, micro_batch_sequences=2))
            for name, mix in MIXTURES.items()
        })  # fmt: skip
    for name, rows in sections.items():
        show(name, [{key: value for key, value in row.items() if key != "results"} for row in rows])
    print(write_result("curation_pays", {"steps": given.steps, "seeds": given.seeds, "sections": sections}))


if __name__ == "__main__":
    main()
