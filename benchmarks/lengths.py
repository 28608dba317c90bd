"""Lengths measured into tables, and plans from them, beside a plain loop with the same tokenizer over the captions.

    python -m benchmarks.lengths                                # 100,000 captions of the demo's words, one process
    python -m benchmarks.lengths --rows 1000000 --tokenizer Qwen/Qwen2.5-1.5B
    python -m benchmarks.lengths --templates --rows 5000        # conversations in several chat templates

Captions are drawn of two thousand made-up words, 4 to 40 each; without `--tokenizer` one of 8,000 entries is trained on
them. All times are processor seconds of one process. "Plan again" is with another length of sequences, from the same
tables. Conversations of two to six turns are encoded beside a loop of `apply_chat_template` over them, which gives the
same ids and no loss mask; the process that renders their templates is counted.
"""

import argparse
import dataclasses
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.common import show, write_result
from mmcorpus.curation.store.shards import Shard, commit_shard, list_shards, open_tar, read_rows
from mmcorpus.filters import rendering
from mmcorpus.packing import PlanConfig, PlanSource, load_tokenizer, make_plan, measure_lengths, train_tokenizer
from mmcorpus.packing.chat import CHATML
from mmcorpus.packing.samples import encode_rows
from mmcorpus.packing.tokens import encode_captions

A_SHARD = 10_000
TEMPLATES = {
    "ChatML": CHATML,
    "Llama 3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
        "m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    ),
    "Mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
    "Gemma": (
        "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    ),
}
SYLLABLES = [a + b for a in "bcdfgklmnprstv" for b in "aeiou"]
WORDS = ["".join(random.Random(n).choices(SYLLABLES, k=1 + n % 4)) for n in range(2000)]
CONTROLS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<s>")


def write_captions(root: str, rows: int) -> None:
    """Shards of captions without images, which nothing here reads."""
    rng = random.Random(0)
    for number in range(-(-rows // A_SHARD)):
        shard, count = Shard(root=root, name=f"{number:05d}"), min(A_SHARD, rows - number * A_SHARD)
        with open_tar(shard.tar):
            pass
        told = {
            "uid": [f"{rng.getrandbits(128):032x}" for _ in range(count)],
            "key": [f"{number:05d}{place:04d}" for place in range(count)],
            "caption": [" ".join(rng.choices(WORDS, k=rng.randint(4, 40))) for _ in range(count)],
            "status": ["success"] * count,
            "error_message": pa.nulls(count, pa.string()),
        }
        commit_shard(shard, pa.table(told))


def processor_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and its seconds, those of the process that renders templates among them."""
    start = time.process_time() + _renderer_seconds()
    result = work()
    return result, time.process_time() + _renderer_seconds() - start


def _renderer_seconds() -> float:
    process = rendering._process
    if process is None:
        return 0.0
    times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def measure(rows: int, tokenizer: str | None) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as root:
        shards = f"{root}/shards"
        write_captions(shards, rows)
        first = read_rows(list_shards(shards)[0], ["uid", "caption"])
        name = tokenizer or train_tokenizer(first["caption"].to_pylist(), 8000, f"{root}/tokenizer")
        loaded = load_tokenizer(name)
        uids = pa.concat_tables([read_rows(shard, ["uid"]) for shard in list_shards(shards)])["uid"]
        selection = pa.table({"uid": uids, "count": pa.repeat(pa.scalar(1, pa.int32()), len(uids))})
        source = PlanSource(shards=shards, selection=selection, kind="pair", lengths=f"{root}/lengths")
        config = PlanConfig()

        def loop() -> int:
            captions = (read_rows(shard, ["caption"])["caption"].to_pylist() for shard in list_shards(shards))
            return sum(len(sample.input_ids) for own in captions for sample in encode_captions(loaded, own))

        def lengths() -> Any:
            return measure_lengths(shards, "pair", tokenizer=name, config=config, out=f"{root}/lengths")

        def plan(config: PlanConfig) -> Any:
            return make_plan(config, tokenizer=name, sources={"web": source}, out=f"{root}/plan.parquet")

        tokens, in_loop = processor_seconds(loop)
        _, measured = processor_seconds(lengths)
        report, planned = processor_seconds(lambda: plan(config))
        _, again = processor_seconds(lambda: plan(dataclasses.replace(config, context_length=2048)))
    steps = {"plain loop": in_loop, "lengths": measured, "plan": planned, "plan again": again}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return [
        {
            "step": step,
            "rows": rows,
            "tokens a row": tokens / rows,
            "cpu_us": 1e6 * seconds / rows,
            "rows/s": rows / seconds,
            "of the loop": in_loop / seconds if step == "lengths" else None,
            "of bound": report.of_bound if step == "plan" else None,
            "peak (GB)": peak,
        }
        for step, seconds in steps.items()
    ]


def measure_templates(rows: int) -> list[dict[str, Any]]:
    """Rows as the planner encodes them, by template; `of the loop` is the loop's time over ours."""
    rng = random.Random(0)

    def said() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(4, 60)))

    talks = [
        [{"role": role, "content": said()} for _ in range(rng.randint(1, 3)) for role in ("user", "assistant")]
        for _ in range(rows)
    ]
    texts = [json.dumps(talk) for talk in talks]
    measured = []
    with tempfile.TemporaryDirectory() as root:
        loaded = load_tokenizer(train_tokenizer([said() for _ in range(5000)], 8000, f"{root}/tokenizer"))
        loaded.add_special_tokens({"additional_special_tokens": list(CONTROLS), "bos_token": "<s>"})
        for name, template in TEMPLATES.items():
            loaded.chat_template = template
            loaded.save_pretrained(f"{root}/own")
            own = load_tokenizer(f"{root}/own")
            config = PlanConfig(chat_template="chatml" if name == "ChatML" else "tokenizer")

            def loop(own: Any = own) -> list[Any]:
                return [own.apply_chat_template(json.loads(text), return_dict=False) for text in texts]

            def batched(own: Any = own) -> Any:
                return own.apply_chat_template([json.loads(text) for text in texts], return_dict=False)

            def ours(own: Any = own, config: PlanConfig = config) -> list[Any]:
                return encode_rows(own, "conversation", texts, config, [()] * len(texts))

            ours()  # the first time the renderer is started
            encoded, seconds = processor_seconds(ours)
            ids, in_loop = processor_seconds(loop)
            _, at_once = processor_seconds(batched)
            assert [row.tokens.input_ids.tolist() for row in encoded] == ids, f"{name}: other ids"
            measured.append(
                {
                    "template": name,
                    "rows": rows,
                    "tokens a row": sum(map(len, ids)) / rows,
                    "cpu_us": 1e6 * seconds / rows,
                    "loop's cpu_us": 1e6 * in_loop / rows,
                    "of the loop": in_loop / seconds,
                    "of the loop, all rows in one call": at_once / seconds,
                }
            )
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--templates", action="store_true", help="conversations in chat templates, instead of captions")
    parser.add_argument("--tokenizer", help="a Hugging Face name or a folder")
    arguments = parser.parse_args()
    if arguments.templates:
        rows = measure_templates(arguments.rows)
        show("Conversations in chat templates", rows)
    else:
        rows = measure(arguments.rows, arguments.tokenizer)
        show("Lengths and plans", rows)
    path = write_result("lengths", {"rows": rows, "arguments": vars(arguments)})
    print(json.dumps({"written": str(path)}))


if __name__ == "__main__":
    main()
