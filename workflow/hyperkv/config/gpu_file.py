"""Files of config/gpus, checked before the DAG is built (config/gpus/README.md says how one's own GPU is described)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from ..base.coercion import check_keys, coerced
from ..base.config_files import read_mapping, there
from ..base.errors import UserError
from .schema_errors import depth, explain

SCHEMA_PATH = Path("workflow/schemas/gpu.schema.yaml")
GPUS = Path("config/gpus")
SIZES = ("active_parameters", "attention_width", "layers", "kv_bytes_per_token")


@cache
def gpu_schema() -> dict[str, Any]:
    """The JSON Schema of a GPU's file."""
    return {"$defs": {}} | yaml.safe_load(SCHEMA_PATH.read_text())


def check_gpu(path: Path, key: str) -> None:
    """That a GPU's file is there and can be what `key` of the config names.

    Raises UserError, one line with key, file, the file's own key, and what it must be.
    """
    where = f"config: {key}: {path}"
    document = read_mapping(
        path, key, f"{there(GPUS, '.yaml')}; {GPUS}/README.md says how to describe another"
    )
    if isinstance(document.get("fit"), dict):
        raise UserError(
            f"{where} is what calibrate wrote; put its fit.coefficients under models.NAME of a file as {GPUS}/README.md says"
        )
    try:
        check_keys(document)
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix('config: ')}") from None
    document = coerced(document, gpu_schema(), gpu_schema())
    errors = Draft202012Validator(gpu_schema()).iter_errors(document)
    if (error := min(errors, key=depth, default=None)) is not None:
        raise UserError(f"{explain(error, gpu_schema(), where)}; {GPUS}/README.md has an example")
    for name, figures in document["models"].items():
        token_s, step_s = 1 / figures["prefill_tokens_per_s"], figures.get("decode_base_s", 0)
        if step_s and token_s > step_s:
            raise UserError(
                f"{where}: models.{name}.prefill_tokens_per_s: {figures['prefill_tokens_per_s']:g} is wrong; a prompt's token "
                f"would take longer ({token_s:.3g} s) than a step that reads all weights (decode_base_s {step_s:g}); it is in "
                f"tokens per second, not per ms"
            )
    reference = document.get("scale_from")
    if reference is None:
        return
    if reference not in document["models"]:
        raise UserError(
            f"{where}: scale_from: {reference!r} is not in models; choose {' or '.join(document['models'])}"
        )
    for size in SIZES:
        if size not in document["models"][reference]:
            raise UserError(f"{where}: models.{reference}.{size} is missing; scale_from needs it")
