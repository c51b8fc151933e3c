"""The file of tokens that a workload of kind text is read from: made once of conversations and a tokenizer (tokenize_texts.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...base.digests import canonical_digest
from ...base.errors import UserError
from .sharegpt import read

_TEMPLATES = ("chat_template.jinja", "chat_template.json")


def with_tokens(workload: Mapping[str, Any], served: str | None) -> dict[str, Any]:
    """A workload of kind text with the folder of its tokenizer and its file of tokens; another one as it is.

    served: the folder of the model that is served, None for one without a tokenizer for texts. Raises UserError without either.
    """
    if workload["kind"] != "text":
        return dict(workload)
    folder = workload.get("tokenizer") or served
    if folder is None:
        raise UserError(
            "config: workload.tokenizer: kind text needs a model's own tokenizer and chat template, and one that is made of a shape "
            "has none; name a model's folder here or in vllm.model_dir, or set model: config/models/smollm2-135m.json"
        )
    own = [workload["file"], folder, workload.get("max_conversations")]
    name = re.sub(r"[^A-Za-z0-9_-]", "_", Path(workload["file"]).stem)[:60]
    return {**workload, "tokenizer": folder, "tokens": f"results/texts/{name}-{canonical_digest(own)}.jsonl"}


def options(workload: Mapping[str, Any]) -> list[str]:
    """The options of tokenize_texts for such a workload."""
    most = workload.get("max_conversations")
    told = ["--file", workload["file"], "--tokenizer", workload["tokenizer"]]
    return [*told, "--most", str(most)] if most else told


def check_texts(file: str, key: str, folder: str | None, folder_key: str) -> None:
    """That conversations are of ShareGPT's form, and a model's folder has a chat template.

    folder: None for one that a rule makes. Raises UserError, one line that begins with the key.
    """
    if not Path(file).exists():
        raise UserError(f"{key}: there is no file {file}")
    read(Path(file), f"{key}: {file}")
    if folder is not None:
        _check_template(Path(folder), folder_key)


def _check_template(folder: Path, key: str) -> None:
    settings = folder / "tokenizer_config.json"
    if not settings.exists():
        raise UserError(f"{key}: {folder} has no tokenizer_config.json; name the folder of a whole model")
    if (
        not any((folder / name).exists() for name in _TEMPLATES)
        and "chat_template" not in settings.read_text()
    ):
        raise UserError(
            f"{key}: {folder} has no chat template, neither in tokenizer_config.json nor as {_TEMPLATES[0]}; name the folder of "
            "a model that chats, such as an Instruct one"
        )
