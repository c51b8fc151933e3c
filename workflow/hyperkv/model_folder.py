"""A model folder without any download: a config.json, a tokenizer whose every token is one word, and weights if wanted.

    python -m workflow.hyperkv.model_folder --model config/models/tiny-llama.json --out DIR [--random-weights]

Without weights vLLM serves it with `--load-format dummy`: right shapes, right speed, meaningless text. Random
weights need transformers and torch, which the engine's environment has.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .cli import run_stage
from .errors import UserError
from .geometry import load_geometry

CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def main() -> None:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.model_folder", description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="a config.json, as in config/models")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    parser.add_argument("--random-weights", action="store_true", help="write random weights, seed 0")
    arguments = parser.parse_args()
    write_model_folder(arguments.model, arguments.out)
    if arguments.random_weights:
        write_random_weights(arguments.out)


def write_model_folder(model: Path, folder: Path) -> None:
    """Write config.json and the tokenizer's files. Raises UserError for a config that is none."""
    load_geometry(model)
    config = json.loads(model.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": config,
        "tokenizer.json": word_tokenizer(config["vocab_size"]),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"],
            "unk_token": word_of(0),
        },
        "generation_config.json": {"_from_model_config": False},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content) + "\n")


def word_of(token: int) -> str:
    """The word of a token id in `word_tokenizer`: its base-36 digits, and for token 0 a word of no text.

    vLLM refuses a text with more characters than the longest context has, times those of the longest word; that
    does not count the blanks, so token 0 is long.
    """
    return np.base_repr(token, 36).lower() if token else "<unknown-word>"


def word_tokenizer(vocabulary: int) -> dict[str, Any]:
    """A tokenizers.json document: words between blanks, one token each; its chat template joins with blanks."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word_of(token): token for token in range(vocabulary)},
            "unk_token": word_of(0),
        },
    }


def write_random_weights(folder: Path) -> None:
    """Random weights of the config's shape and dtype, the same every time. Raises UserError without the libraries."""
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        raise UserError(f"random weights need the engine's environment ({error})") from error
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config)
    model.to(config.dtype).save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(run_stage("model_folder", main))
