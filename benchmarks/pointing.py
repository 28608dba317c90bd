"""Whether a small model counts better when it points first (Molmo's point-then-count), over several seeds.

    python -m benchmarks.pointing --out runs/pointing --seeds 0 1 2 3 4

Scenes with one group of one to five like shapes (`render`, kind `scene`), a tenth of them kept aside. Every seed draws
two models with the same random weights, that see the same scenes in the same order and are asked the same "How many
…?": one learns to answer `3`, the other `Counting the <points …> shows a total of 3.` They make as many steps over as
many scenes; the second has many times the tokens to learn from, and to say. Both are asked about the scenes kept aside,
and again about grey pictures.

It is one run of a recipe, written to OUT/pointing.yaml: the same command goes on where it stopped, and with more seeds
trains those that are missing. The interval of the difference is Student's over the seeds.
"""

import argparse
import dataclasses
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from scipy import stats

from benchmarks.common import show, write_result
from mmcorpus.curation.store.shards import Sample, Shard, ShardWriter, list_shards, read_rows
from mmcorpus.curation.synthetic.render import RenderConfig, render
from mmcorpus.curation.synthetic.render.shards import to_sample
from mmcorpus.curation.synthetic.render.words import plural

ARMS: Final = ("alone", "pointed")
_SIZE: Final = (96, 96)
_PROMPTS: Final = ["How many {label} are there?"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/pointing", help="the run's folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--scenes", type=int, default=8000)
    parser.add_argument("--steps", type=int, default=2000, help="of 32 scenes")
    given = parser.parse_args(arguments)
    out = Path(given.out)
    scenes(out / "scenes", given.scenes)
    file = out / "pointing.yaml"
    file.write_text(yaml.safe_dump(recipe(str((out / "scenes").resolve()), given.seeds, given.steps), sort_keys=False))
    command = [sys.executable, "-m", "mmcorpus.pipelines.cli", "run", str(file), "--out", str(out / "run")]
    subprocess.run(command, check=True)
    rows = [row for seed in given.seeds for row in results(out / "run", seed)]
    show("Counts of scenes kept aside (%)", rows)
    found = compared(rows)
    show("By pointing, less alone", [found])
    print(write_result("pointing", {"rows": rows, "compared": found, **vars(given)}))


def scenes(folder: Path, count: int) -> None:
    """Shards of so many scenes with one group, the first such seeds, with both annotations of each."""
    if folder.exists() and sum(read_rows(shard, ["uid"]).num_rows for shard in list_shards(str(folder))) == count:
        return
    config, seed = RenderConfig(kinds={"scene": 1.0}, size=_SIZE), 0
    for number in range(0, count, 1000):
        with ShardWriter(Shard(root=str(folder), name=f"{number // 1000:05d}")) as writer:
            for place in range(min(1000, count - number)):
                rendered = render("scene", seed, size=_SIZE)
                while len(rendered.facts["groups"]) > 1:
                    seed += 1
                    rendered = render("scene", seed, size=_SIZE)
                seed += 1
                writer.write(_asked(to_sample(rendered, config, f"{number + place:09d}"), rendered.facts["groups"][0]))


def _asked(sample: Sample, group: dict[str, Any]) -> Sample:
    label = f"{group['color']} {plural(group['shape'])}"
    points = [[point["x"], point["y"]] for point in json.loads(sample.meta["points"])]
    said = [
        {"style": "count", "question": _PROMPTS[0].format(label=label), "answer": str(len(points))},
        {"style": "point_count", "label": label, "points": points},
    ]
    return dataclasses.replace(sample, meta={**sample.meta, "conversations": json.dumps({"annotations": said})})


def recipe(shards: str, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    """A stage and an evaluation for each seed and arm."""
    render_ = {"prompts": {"point_count": _PROMPTS}, "style_tags": {"count": 0, "point_count": 0}, "variants": 1}
    drawn = {"alone": {**render_, "draw": {"point_count": 0}}, "pointed": {**render_, "draw": {"count": 0}}}
    stage = {
        "schedule": {"steps": steps, "warmup": 0.05, "floor": 0.1},
        "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.99]},
        "data": {"batch_samples": 32, "micro_batch_sequences": 8},
        "freeze": {"vision": False}, "compute": {"precision": "fp32"}, "certify": 0,
        "checkpoints": {"every": steps, "keep_last": 1}, "log_every": 20,
    }  # fmt: skip
    asked = {"source": "scenes", "metric": "count", "blank": True, "batch_size": 64, "max_new_tokens": 96}
    return {
        "name": "pointing",
        "sources": {"scenes": {"shards": shards, "kind": "conversation"}},
        "select": {"scenes": {"heldout_fraction": 0.1}},
        "tokenizer": {"train": {"vocab_size": 512}},
        "pack": {
            arm: {"sources": ["scenes"], "context_length": 256, "tokens_per_image": 1, "render": drawn[arm]}
            for arm in ARMS
        },
        "train": {
            "model": {
                "tokens_per_image": 1,
                "vision_layer": -1,
                "vision": {"image_size": 48, "patch_size": 12, "hidden_size": 96, "layers": 3, "heads": 4,
                           "intermediate_size": 384},
                "connector": {"kind": "shuffle_mlp"},
                "language": {"hidden_size": 96, "layers": 2, "heads": 4, "key_value_heads": 2,
                             "intermediate_size": 256},
            },
            "stages": {f"{arm}{seed}": {"pack": arm, "seed": seed, **stage} for seed in seeds for arm in ARMS},
        },
        "evaluate": {
            f"{arm}{seed}": {**asked, "stage": f"{arm}{seed}", "render": drawn[arm]} for seed in seeds for arm in ARMS
        },
    }  # fmt: skip


def results(run: Path, seed: int) -> list[dict[str, Any]]:
    """Of a seed one row an arm, in per cent."""
    rows = []
    for arm in ARMS:
        found = json.loads((run / "evaluation" / f"{arm}{seed}" / "results.json").read_text())["results"][0]
        row: dict[str, Any] = {"seed": seed, "answer": arm, "questions": found["found"]["questions"]}
        for name in ("found", "blank"):
            row[name] = round(100 * found[name]["value"], 1)
            row[f"{name}, 95 %"] = f"{100 * found[name]['low']:.1f} to {100 * found[name]['high']:.1f}"
        rows.append(row)
    return rows


def compared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean difference over seeds in points of per cent, with Student's interval where there are two or more."""
    of = {arm: [row["found"] for row in rows if row["answer"] == arm] for arm in ARMS}
    differences = [pointed - alone for alone, pointed in zip(of["alone"], of["pointed"], strict=True)]
    seeds = len(differences)
    half = math.nan
    if seeds > 1:
        half = float(stats.t.ppf(0.975, seeds - 1)) * statistics.stdev(differences) / math.sqrt(seeds)
    mean = statistics.fmean(differences)
    return {"seeds": seeds, "alone": statistics.fmean(of["alone"]), "pointed": statistics.fmean(of["pointed"]),
            "difference": mean, "low": mean - half, "high": mean + half}  # fmt: skip


if __name__ == "__main__":
    main()
