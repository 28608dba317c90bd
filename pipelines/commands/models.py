"""`mmcorpus export-model`, `import-model`, `chat`: a checkpoint to where others use it, theirs to here, and a page."""

import os
from typing import Annotated, get_args

import typer

from mmcorpus.pipelines.commands.common import DeviceOption, UsageError, a_folder, say

CheckpointArgument = Annotated[
    str, typer.Argument(metavar="CKPT", help="A checkpoint, or a training folder (its latest).")
]


def export_model(
    checkpoint: CheckpointArgument,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new folder for the model.", callback=a_folder)],
    dtype: Annotated[
        str, typer.Option("--dtype", help="Of the weights: `fp32` as they are, `bf16` or `fp16` half as large.")
    ] = "fp32",
) -> None:
    """Write a checkpoint as a folder that transformers and vLLM load, with chat template and processor in it.

    **Examples**

        mmcorpus export-model runs/demo/training/sft exports/demo

        mmcorpus export-model training/sft exports/model --dtype bf16
    """
    from mmcorpus.training.exchange.export import export_model as run
    from mmcorpus.training.tensors import Dtype

    if dtype not in get_args(Dtype):
        raise UsageError(f"--dtype is {dtype!r}; give one of {', '.join(get_args(Dtype))}")
    exported = run(checkpoint, out, dtype=dtype)  # type: ignore[arg-type]
    say(f"{exported.architecture}, {exported.images}, {exported.size / 1e6:,.1f} MB")
    if exported.own_class:
        say("transformers and vLLM need mmcorpus beside them to load it: docs/serving.md says how")
    say(f"Model: {exported.folder}")


def import_model(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A released checkpoint: a folder, URL or hub id.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new folder for the checkpoint.", callback=a_folder)],
    vision: Annotated[
        str | None, typer.Option("--vision", help="The encoder's hub id or folder, in place of what the release names.")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="The decoder's hub id or folder: its config and tokenizer.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", metavar="FILE", help="A chat template in place of the release's own.")
    ] = None,
) -> None:
    """Make a checkpoint of a released one, in prismatic-vlms' layout (Open-Qwen2VL) or LLaVA's (MLM-Filter).

    **Examples**

        mmcorpus import-model weizhiwang/Open-Qwen2VL models/open-qwen2vl

        mmcorpus import-model weizhiwang/mlm-filter-qwen2.5-1.5b-gpt4o models/mlm-filter
    """
    from mmcorpus.training.exchange.imports import import_model as run

    imported = run(source, out, vision=vision, language=language, template=template)
    say(
        f"{imported.parameters / 1e6:,.1f} M parameters in {imported.layout}'s layout, "
        f"{imported.config.tokens_per_image} tokens an image"
    )
    say(f"Checkpoint: {imported.checkpoint}")


def chat(
    checkpoint: Annotated[
        str | None, typer.Argument(metavar="CKPT", help="A checkpoint, or a training folder (its latest).")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="Ask a served model in its place: `http://host:8000/v1`."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The server's model; its first by default.")] = None,
    key_variable: Annotated[
        str | None, typer.Option("--key-variable", help="The environment variable with the server's API key.")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; by default for this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8090,
    device: DeviceOption = None,
) -> None:
    """Serve a page on this machine to show a model a picture and ask about it; Ctrl-C ends it.

    **Examples**

        mmcorpus chat runs/demo/training/sft

        mmcorpus chat --server http://127.0.0.1:8000/v1
    """
    from mmcorpus.pipelines.chat import answerers
    from mmcorpus.pipelines.chat.server import ChatServer

    if (checkpoint is None) == (server is None):
        raise UsageError("give a checkpoint, or --server with the base URL of a model server")
    if server is None and (model or key_variable):
        raise UsageError("--model and --key-variable belong to --server")
    if key_variable is not None and key_variable not in os.environ:
        raise UsageError(f"--key-variable: the environment has no {key_variable}")
    if server is not None:
        answerer = answerers.server(server, model, os.environ[key_variable] if key_variable else None)
    else:
        assert checkpoint is not None
        answerer = answerers.checkpoint(checkpoint, device)
    with ChatServer(answerer, host, port) as page:
        say(f"{answerer.name}: {answerer.about}")
        if not page.local:
            say(f"Whoever reaches {host} can ask: there is no password")
        say(f"Chat: {page.url} (Ctrl-C ends it)")
        page.serve_forever()
