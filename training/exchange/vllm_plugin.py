"""vLLM's plugin: its servers load our exports as they load any model, where mmcorpus is installed beside vLLM.

The entry point `vllm.general_plugins` in mmcorpus's metadata names `register`; vLLM calls it in each of its processes.
"""

from mmcorpus.training.exchange import own


def register() -> None:
    """Make our exports' class known to transformers and to vLLM; may be repeated."""
    from vllm import ModelRegistry

    own.register()
    # By name: vLLM imports it where it is needed, since importing a model may touch the GPU.
    ModelRegistry.register_model(own.ARCHITECTURE, f"mmcorpus.training.exchange.vllm_model:{own.ARCHITECTURE}")
