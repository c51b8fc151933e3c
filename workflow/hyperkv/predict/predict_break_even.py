"""Rule predict_break_even: the GB/s a store must deliver for loading a prompt's KV to beat computing it; no GPU, no store.

python -m workflow.hyperkv.predict.predict_break_even --spec '{...}' --out results/predict/break_even.csv --text results/predict/break_even.txt

One prompt on an idle engine, all of its KV in the store (request_time.py). The engine has as many GPUs as hold the model's weights and can
share its heads. held_bytes is what of the KV the engine needs (Geometry.kv_bytes).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..base.cli import run_stage
from ..base.options import Spec
from ..models.geometry import Geometry, load_geometry
from ..models.gpu import load_gpu
from ..models.gpu_memory import gpus_for_model, gpus_for_weights, memory_gb_of
from .break_even_text import break_even_text
from .request_time import break_even_gbps, required_gbps, rest_s, times_of_full_hit


def main(*, spec: Spec, out: Path, text: Path) -> None:
    """Write both tables.

    Args:
        spec: JSON: the stage's slice of the config (config.break_even_spec).
        out: CSV file for the table.
        text: text file for the table to read.
    """
    table = break_even_table(spec)
    table.to_csv(out, index=False)
    text.write_text(break_even_text(table, remarks(spec)))


def break_even_table(spec: Mapping[str, Any]) -> pd.DataFrame:
    """One row per model x KV format x GPU x prompt length, those longer than the model's context left out (see remarks).

    A model's formats are that of spec["kv_dtype"] first, then fp8.

    Raises UserError, naming file and key, for a model or GPU that cannot be read.
    """
    return pd.DataFrame(
        row
        for model in spec["models"]
        for geometry in geometries(Path(model), spec["kv_dtype"])
        for gpu in spec["gpus"]
        for row in _rows(geometry, Path(gpu), spec)
    )


def geometries(model: Path, kv_dtype: str) -> list[Geometry]:
    """The model with KV in the format asked for and with half of bfloat16's bytes, fp8, where that is another."""
    asked = load_geometry(model, kv_dtype)
    return [asked] if asked.kv_dtype == "fp8" else [asked, load_geometry(model, "fp8")]


def remarks(spec: Mapping[str, Any]) -> list[str]:
    """What is left out of the table, and why, and what is to be known of the models' KV, a line each.

    Raises UserError as break_even_table does.
    """
    lines = []
    for model in spec["models"]:
        geometry = load_geometry(Path(model), spec["kv_dtype"])
        longer = [f"{prompt:,}" for prompt in spec["prompt_tokens"] if prompt > geometry.max_context_tokens]
        if longer:
            lines.append(
                f"{geometry.name}: left out {', '.join(longer)} tokens, longer than its context of "
                f"{geometry.max_context_tokens:,} ({geometry.context_source})."
            )
        for path in map(Path, spec["gpus"]):
            gpus, shared = _gpus(geometry, path)
            if not shared:
                lines.append(
                    f"{geometry.name}: {gpus} of {path.stem} hold its weights, and vLLM's tensor parallelism can share its "
                    f"{geometry.attention_heads or geometry.kv_heads} heads among no such number or more: counted as if it could."
                )
        lines += [f"{geometry.name}: {note}." for note in geometry.offload_notes]
    return lines


def _gpus(geometry: Geometry, path: Path) -> tuple[int | None, bool]:
    """GPUs of a file that hold a model's weights, None where that is not known, and whether vLLM can share it among them."""
    memory_gb = memory_gb_of(path)
    if memory_gb is None or geometry.weight_bytes is None:
        return None, True
    shared = gpus_for_model(geometry, memory_gb)
    return shared or gpus_for_weights(geometry, memory_gb), shared is not None


def _rows(geometry: Geometry, path: Path, spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    document = yaml.safe_load(path.read_text())
    known = _gpus(geometry, path)[0]
    gpus = known or 1
    together = load_gpu(path, geometry, gpus)
    for prompt in spec["prompt_tokens"]:
        if prompt > geometry.max_context_tokens:
            continue
        times = times_of_full_hit(together, geometry, prompt)
        required = break_even_gbps(times)
        to_gpu = required_gbps(times["kv_bytes"], times["prefill_s"], rest_s(times | {"copy_s": 0.0}))
        yield {
            "model": geometry.name,
            "gpu": together.name,
            "kv_dtype": geometry.kv_dtype,
            "prompt_tokens": prompt,
            "kv_bytes": times["kv_bytes"],
            "held_bytes": geometry.kv_bytes(prompt),
            "chunk_bytes": geometry.chunk_bytes(spec["chunk_tokens"]),
            **times,
            "required_gbps": required / gpus,
            "required_to_gpu_gbps": to_gpu / gpus,
            "gpus_for_weights": known,
            "required_node_gbps": None if known is None else required,
            "scaled_from": together.scaled_from,
            "assumption": document.get("assumption"),
            "source": document.get("source") or f"measured: {path}",
        }


if __name__ == "__main__":
    sys.exit(run_stage("predict_break_even", main))
