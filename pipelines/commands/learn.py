"""`mmcorpus plan`, `pack`, `train`, `generate`: from a selection to a model that answers, each step on its own."""

import os
import time
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from mmcorpus.pipelines.commands.common import (
    BudgetOption,
    Cluster,
    CpusOption,
    DeviceOption,
    SettingsOption,
    UsageError,
    a_folder,
    budget_of,
    counted,
    fail_if,
    named,
    read_config,
    say,
)
from mmcorpus.pipelines.commands.data import every_sample, kind_held, shards_for

if TYPE_CHECKING:
    from mmcorpus.training import ModelConfig

SourceOption = Annotated[
    list[str],
    typer.Option(
        "--source",
        metavar="NAME=SHARDS",
        help="A source's name and the folder of its shards, or data that is indexed first; repeatable.",
    ),
]
TokenizerOption = Annotated[str, typer.Option("--tokenizer", help="A Hugging Face name, or a folder.")]


def plan(
    source: SourceOption,
    tokenizer: TokenizerOption,
    out: Annotated[str, typer.Option("--out", help="The plan's parquet.")],
    selection: Annotated[
        list[str] | None,
        typer.Option(
            "--selection",
            metavar="NAME=FILE",
            help="A source's selection (.parquet, .npy, .txt); repeatable. Every sample of a source without.",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="NAME=KIND",
            help="`pair`, `conversation`, `document` or `text`; repeatable. By default what its first shard holds, "
            "pairs if it has captions beside conversations.",
        ),
    ] = None,
    annotations: Annotated[
        list[str] | None,
        typer.Option(
            "--annotations",
            metavar="NAME=PARQUET",
            help="A source's images with several captions, as `mmcorpus dedup --set annotations=true` writes them.",
        ),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths",
            help="Folder for how long each sample is, measured on Ray, once: later plans with the same tokenizer, "
            "template and layout read it there.",
        ),
    ] = None,
    ledger: Annotated[
        str | None, typer.Option("--ledger", help="Folder of the ledger: what became of each sample.")
    ] = None,
    settings: SettingsOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Decide which samples share a sequence, from their tokens and numbers of images alone: nothing is decoded.

    **Examples**

        mmcorpus plan --source web=data/shards --selection web=basic.parquet --tokenizer Qwen/Qwen2.5-1.5B
        --out plan.parquet

        mmcorpus plan --source chat=chat/shards --selection chat=chat.parquet --kind chat=conversation
        --tokenizer tok/ --out plan.parquet --set context_length=2048

        mmcorpus plan --source web=data/shards --selection web=basic.parquet --tokenizer tok/ --out plan.parquet
        --lengths data/lengths

        mmcorpus plan --source chat=llava/llava.json --tokenizer tok/ --out data/plan.parquet

        mmcorpus plan --source web=data/shards --selection web=unique.parquet --tokenizer tok/ --out plan.parquet
        --annotations web=data/dedup/same_image/annotations.parquet
    """
    from mmcorpus.packing.config import PlanConfig
    from mmcorpus.packing.inputs import Kind
    from mmcorpus.packing.measure import measure_lengths
    from mmcorpus.packing.plan import PlanSource, make_plan
    from mmcorpus.pipelines.stages.packing import in_order_over_ray, over_ray

    folders, selections, kinds = named(source, "--source"), named(selection, "--selection"), named(kind, "--kind")
    captions = named(annotations, "--annotations")
    unknown = sorted(set(captions) - set(folders))
    if unknown:
        raise UsageError(f"--annotations names {', '.join(unknown)}; give it for a source that --source names")
    if not set(selections) <= set(folders):
        raise UsageError(f"--source names {sorted(folders)}, --selection {sorted(selections)}; give each its source")
    wrong = {name: value for name, value in kinds.items() if name not in folders or value not in get_args(Kind)}
    if wrong:
        kinds_known = ", ".join(get_args(Kind))
        raise UsageError(f"--kind {wrong}: give NAME=KIND, of {kinds_known}, for a source that --source names")
    config = read_config(PlanConfig, settings)
    tables = {name: f"{lengths}/{name}" for name in folders if lengths is not None and name not in captions}
    unread: list[str] = []
    with Cluster(num_cpus, lazy=True) as cluster:
        for name, data in folders.items():
            asked = kinds.get(name)
            as_indexed: dict[str | None, Literal["pair", "conversation"]] = {
                "pair": "pair",
                "text": "pair",
                "conversation": "conversation",
            }
            found, failed = shards_for(data, out, name=name, kind=as_indexed.get(asked), start=cluster.start)
            folders[name], unread = found.folder, unread + failed
            kinds.setdefault(name, found.kind or kind_held(found.folder))
        for name, out_of in tables.items():
            spread = over_ray(cluster.start, out_of)
            kept = measure_lengths(
                folders[name],
                kinds[name],  # type: ignore[arg-type]
                tokenizer=tokenizer,
                config=config,
                out=out_of,
                map_fn=spread,
            )
            rows, shards, before = kept["rows"], kept["shards"], kept["kept"]
            say(f"Lengths of {name}: {rows:,} rows in {shards:,} shards, {before:,} of them measured before")
        report = make_plan(
            config,
            tokenizer=tokenizer,
            sources={
                name: PlanSource(
                    shards=folder,
                    selection=selections[name] if name in selections else every_sample(folder),
                    kind=kinds[name],  # type: ignore[arg-type]
                    annotations=captions.get(name),
                    lengths=tables.get(name),
                )
                for name, folder in folders.items()
            },
            out=out,
            ledger_root=ledger,
            map_fn=in_order_over_ray(cluster.start),
        )
    say(
        f"{report.sequences:,} sequences ({report.lower_bound:,} at least) of {report.samples:,} samples, "
        f"{report.fill:.1%} full"
    )
    say(f"{report.of_bound:.2%} of what is possible, by {report.bound}")
    say(f"{report.mixing:.0%} of the variance of lengths is within sequences")
    if captions:
        left_out = f", {report.captions_left_out:,} captions do not fit" if report.captions_left_out else ""
        say(f"{report.annotated:,} images have several captions{left_out}")
    for name, verdicts in report.verdicts.items():
        often = f"; {report.shares[name]:.1%} of the positions, each seen {report.seen[name]:.3g} times"
        most = f" ({report.most_seen[name]} at most)" if report.most_seen[name] > 1 else ""
        counts = ", ".join(f"{count:,} {rule}" for rule, count in verdicts.items())
        say(f"  {name} ({kinds[name]}): {counts}{often}{most}")
    say(f"Plan: {out}")
    fail_if(unread)


def pack(
    plan_path: Annotated[str, typer.Argument(metavar="PLAN", help="A plan's parquet.")],
    source: SourceOption,
    tokenizer: TokenizerOption,
    out: Annotated[str, typer.Option("--out", help="Folder of the packs.", callback=a_folder)],
    pickles: Annotated[
        str | None, typer.Option("--pickles", help="Write Open-Qwen2VL's layout here as well, a pickle a sequence.")
    ] = None,
    settings: SettingsOption = None,
    sample_budget: BudgetOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Write a plan's packs: tokens and the images' own bytes, in WebDataset shards with an index; on Ray, resumable.

    **Examples**

        mmcorpus pack plan.parquet --source web=data/shards --tokenizer Qwen/Qwen2.5-1.5B --out packs/

        mmcorpus pack plan.parquet --source web=data/shards --tokenizer tok/ --out packs/ --set images=reference
    """
    from mmcorpus.packing.materialise import PackConfig, write_packs
    from mmcorpus.packing.pickles import write_pickles
    from mmcorpus.pipelines.stages.packing import FEW_JOBS, over_ray

    config = read_config(PackConfig, settings)
    folders = named(source, "--source")
    with budget_of(sample_budget), Cluster(num_cpus, lazy=True) as cluster:
        for name, data in folders.items():
            folders[name] = shards_for(data, out, name=name, start=cluster.start)[0].folder
        report = write_packs(
            config,
            plan=plan_path,
            tokenizer=tokenizer,
            shards=folders,
            out=out,
            map_fn=over_ray(cluster.start, out, few=0 if config.images == "resized" else FEW_JOBS),
        )
        if pickles:
            write_pickles(out, pickles, map_fn=over_ray(cluster.start, pickles, few=0))
    say(f"{counted(report.counts)}, {report.bytes / 1e6:,.1f} MB")
    if report.stored:
        arrived, kept = (report.stored.get(name, 0) / 1e6 for name in ("arrived_bytes", "stored_bytes"))
        say(f"Images: {arrived:,.1f} MB as they arrived, {kept:,.1f} MB in the packs")
    if pickles:
        say(f"Pickles: {pickles}")
    for name, rules in report.dropped.items():
        say(f"Left out of {name}: " + ", ".join(f"{count:,} {rule}" for rule, count in rules.items()))
    say(f"Packs: {out}")
    fail_if(f"{place}: {why}" for place, why in report.damaged.items())


def train(
    packs: Annotated[str, typer.Argument(metavar="PACKS", help="A folder of packs, ours or Open-Qwen2VL's.")],
    out: Annotated[str, typer.Option("--out", help="Gets metrics.jsonl and checkpoints/.", callback=a_folder)],
    kind: Annotated[str, typer.Option("--kind", help="`pretrain` or `sft`: whose defaults to take.")] = "pretrain",
    init: Annotated[
        str | None, typer.Option("--init", metavar="CHECKPOINT", help="Go on from this checkpoint or training folder.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="KEY=VALUE", help="A key of the model's config; without --init."),
    ] = None,
    heldout: Annotated[str | None, typer.Option("--heldout", help="Packs to evaluate on.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="The tokenizer of Open-Qwen2VL's packs; the model's by default.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", help="Processes on this machine; one a GPU if not given.")
    ] = None,
    device: DeviceOption = None,
    settings: SettingsOption = None,
) -> None:
    """Train a vision-language model on packs, or go on where the same command stopped. Needs no Ray.

    Open-Qwen2VL's pickles and JSON packs are taken as they are, without a plan: OUT/packs holds them as ours.

    Trains on all GPUs of this machine, a process each. Several machines: torchrun starts this same command on each.

    **Examples**

        mmcorpus train packs/pretrain --out training/pretrain --model vision=google/siglip-so400m-patch14-384
        --model language=Qwen/Qwen2.5-1.5B-Instruct

        mmcorpus train packs/sft --kind sft --init training/pretrain --out training/sft --set
        optimizer.learning_rate=1e-5

        torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500
        -m mmcorpus.pipelines.cli train packs/pretrain --out training/pretrain --set compute.parallel=shard
    """
    from mmcorpus.training import ModelConfig, SFTConfig, StageConfig
    from mmcorpus.training.launch import launch

    if kind not in ("pretrain", "sft"):
        raise UsageError(f"--kind is {kind!r}; give pretrain or sft")
    if init and model:
        raise UsageError("--init brings its model along; leave out --model")
    stage = read_config(SFTConfig if kind == "sft" else StageConfig, settings, {"kind": kind})
    parts = None if init else read_config(ModelConfig, model)
    packed, evaluated = (
        _packs_of_others(path, f"{out.rstrip('/')}/{name}", tokenizer, init, parts) if path else path
        for path, name in ((packs, "packs"), (heldout, "packs.heldout"))
    )
    report = launch(
        processes,
        stage,
        packed or packs,
        out,
        model=parts,
        init=init,
        heldout_packs=evaluated,
        device=device,
    )
    totals = report.totals
    heldout_text = f", held-out loss {totals.heldout_loss:.4f}" if totals.heldout_loss is not None else ""
    say(f"{totals.step:,} steps, loss {totals.loss or float('nan'):.4f}{heldout_text}")
    say(f"Checkpoint: {report.checkpoint}")


def _packs_of_others(root: str, out: str, tokenizer: str | None, init: str | None, model: "ModelConfig | None") -> str:
    """The folder to train from: `root`, or where Open-Qwen2VL's packs that lie there were written as ours.

    Of several processes the first does that; the others wait for the manifest, and end with it if it fails.
    """
    from mmcorpus.curation.store.storage import exists, join
    from mmcorpus.packing.foreign import find_foreign, import_packs
    from mmcorpus.training.checkpoint import resolve_checkpoint

    if not find_foreign(root):
        return root
    if tokenizer is None and init is not None:
        tokenizer = join(resolve_checkpoint(init), "tokenizer")
    if tokenizer is None and model is not None and isinstance(model.language, str):
        tokenizer = model.language
    if tokenizer is None:
        raise UsageError(f"{root} holds Open-Qwen2VL's packs: say with --tokenizer which tokenizer they are of")
    if int(os.environ.get("RANK", "0")) == 0:
        import_packs(root, out, tokenizer=tokenizer)
    while not exists(join(out, "manifest.json")):
        time.sleep(1.0)
    return out


def generate(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint, or a training folder (its latest).")],
    image: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files; local or remote.")],
    prompt: Annotated[
        str, typer.Option("--prompt", help="A question (SFT), or how the caption begins; images stand at <image>.")
    ] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Stop after so many tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    layout: Annotated[
        str | None, typer.Option("--layout", help="Other crops than in training: {kind: molmo, max_crops: 36}.")
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Answer about an image, or several, with a trained checkpoint.

    **Examples**

        mmcorpus generate runs/demo/training/sft clock.jpg --prompt 'What time does the clock show?'

        mmcorpus generate runs/demo/training/pretrain photo.jpg

        mmcorpus generate training/sft a.jpg b.jpg --prompt 'Is <image> brighter than <image>?'
    """
    from mmcorpus.training import generate as run
    from mmcorpus.training.evaluation.config import EvaluationConfig

    shown = read_config(EvaluationConfig, [f"layout={layout}"]).layout if layout else None
    answer = run(
        checkpoint,
        image,
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        device=device,
        layout=shown,
    )
    say(answer or "(the model ended its answer at once)")
