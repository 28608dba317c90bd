"""Checkpoints of ours as others know them, and theirs as ours: export to Hugging Face and vLLM, import of releases.

`export.py` writes a folder that transformers and vLLM load, `imports.py` reads Open-Qwen2VL's and LLaVA's layouts,
`checkpoint.py` knows how our own checkpoints are laid out, `tensors.py` carries weights over one at a time. For models
that have no class of Hugging Face's and vLLM's: `own.py`, `vllm_model.py` and `image_side.py`. docs/serving.md.
"""
