"""A tiny vision-language model with random weights that rates images at random, to try servers with, on any machine.

    python -m mmcorpus.curation.synthetic.tiny_model data/tiny-vlm

A LLaVA (SigLIP and Qwen2) of some 200,000 parameters that Hugging Face and vLLM load. Its weights are random, but the
tokens that end its prompt lead to digits and digits lead to the end of an answer, so that most answers are numbers,
which ones depending on image and prompt, and some are nonsense, as a judge's answers are.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any, Final

PATCH: Final = 8
HEAD: Final = 32
CONTEXT: Final = 4096
_SPECIAL: Final = ("<pad>", "<|im_start|>", "<|im_end|>", "<image>")
_ATTENTION: Final = 6.0
"""The weight of the image and the text, as a multiple of a random one."""
_PULL: Final = 70.0
"""Added by the prompt's end and by digits to the two dimensions that decide the next token."""


def write_tiny_model(folder: str, *, seed: int = 0, image_size: int = 32, hidden: int = 64, layers: int = 2) -> str:
    """Write the model, its tokenizer and its processor into a folder that vLLM serves; returns the folder.

    The same arguments give the same answers. With other sizes than the defaults fewer answers are numbers.

    Args:
        image_size: pixels a side; an image takes (image_size / 8)² tokens.
        hidden: width of both parts, a multiple of 64.
        layers: of each part.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        Qwen2Config,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    os.makedirs(folder, exist_ok=True)
    tokenizer = _tokenizer()
    pad, _, end, image = (tokenizer.convert_tokens_to_ids(token) for token in _SPECIAL)
    sizes: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // HEAD,
    }
    vision = SiglipVisionConfig(image_size=image_size, patch_size=PATCH, vision_use_head=False, **sizes)
    language = Qwen2Config(
        vocab_size=len(tokenizer),
        **sizes,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        eos_token_id=end,
        bos_token_id=None,
        pad_token_id=pad,
        initializer_range=0.25,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=language,
        image_token_index=image,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config).float().eval()
    _lead_to_numbers(model, tokenizer, end)
    weights = {_served_name(name): tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config.architectures = ["LlavaForConditionalGeneration"]
    config.dtype = "float32"
    config.save_pretrained(folder)
    with open(os.path.join(folder, "generation_config.json"), "w") as file:
        json.dump({"eos_token_id": end, "pad_token_id": pad}, file)
    LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": image_size, "width": image_size}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=_template(),
        image_token="<image>",
        num_additional_image_tokens=0,
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _template() -> str:
    """The chat template."""
    return Path(__file__).with_suffix(".jinja").read_text("utf-8").removesuffix("\n")


def _tokenizer() -> Any:
    """Byte-level BPE over our own prompts; each digit is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from mmcorpus.filters.mllm import METRICS, read_rubric

    rubric = read_rubric()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([rubric.prompt(metric, "a photograph") for metric in METRICS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<image>"],
        chat_template=_template(),
        model_max_length=CONTEXT,
    )


def _lead_to_numbers(model: Any, tokenizer: Any, end: int) -> None:
    """Keep two dimensions of the residual stream from the layers; the last token of the prompt and digits set them, and
    the outputs of digits and of the answer's end read them."""
    import torch

    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    last = tokenizer.encode("<|im_start|>assistant\n")[-1]
    embeddings, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.mul_(_ATTENTION)
            layer.self_attn.o_proj.weight[:2] = 0.0
            layer.mlp.down_proj.weight[:2] = 0.0
        embeddings[:, :2] = outputs[:, :2] = 0.0
        embeddings[last, 0] = _PULL
        embeddings[digits, 0], embeddings[digits, 1] = _PULL * 0.4, _PULL * 0.8
        outputs[digits, 0], outputs[end, 1] = 2.0, 2.4


def _served_name(name: str) -> str:
    """A weight's name as vLLM reads it, which is that of earlier releases of transformers."""
    name = name.removeprefix("model.")
    name = name.replace("vision_tower.", "vision_tower.vision_model.") if "vision_model." not in name else name
    if name.startswith("language_model."):
        name = name.replace("language_model.", "language_model.model.", 1)
    return f"language_model.{name}" if name.startswith("lm_head") else name


def main() -> None:
    """The command in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the model goes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(write_tiny_model(arguments.folder, seed=arguments.seed))


if __name__ == "__main__":
    main()
