"""The subcommands of `mmcorpus`, by what they are about; `pipelines/cli.py` puts them together."""

__all__: list[str] = []
