"""A GPU that was not measured, derived from one that was by published figures: a file for config/gpus.

python -m workflow.hyperkv.models.derive_gpu --gpu l4
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..base.cli import run_stage
from ..base.errors import UserError
from .gpu import SIZES

PUBLISHED = Path("config/published_gpus.yaml")
GPUS = Path("config/gpus")
BASE = "h100"
_HEAD = (
    "# Written by `python -m workflow.hyperkv.models.derive_gpu --gpu {gpu}` from config/published_gpus.yaml and "
    "config/gpus/{base}.yaml.\n"
)


def main(*, gpu: str, out: Path | None = None) -> None:
    """Write the file of one GPU.

    Args:
        gpu: a key of config/published_gpus.yaml.
        out: the file; config/gpus/GPU.yaml.
    """
    if gpu == BASE and out is None:
        raise UserError(f"{GPUS / f'{BASE}.yaml'} was measured, and the others are derived from it")
    text = render(gpu)
    (out or GPUS / f"{gpu}.yaml").write_text(text)


def render(gpu: str, base: str = BASE) -> str:
    """The GPU file's text. Raises UserError for a GPU that has no published figures."""
    document = derived(gpu, base, published(), yaml.safe_load((GPUS / f"{base}.yaml").read_text()))
    return _HEAD.format(gpu=gpu, base=base) + yaml.safe_dump(document, sort_keys=False, width=110)


def published() -> dict[str, Any]:
    """Published figures by GPU: memory_gb, dense_bf16_tflops, memory_gbps, host_link_gbps, name, source."""
    return yaml.safe_load(PUBLISHED.read_text())


def derived(gpu: str, base: str, figures: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """The document of `gpu`: what computing takes scales with dense BF16, what reading takes with memory bandwidth.

    measured: the document of `base`. A step with a prompt takes no less than launching it did there and than reading
    the weights does here. Raises UserError for a GPU that has no published figures.
    """
    if gpu not in figures:
        raise UserError(f"{PUBLISHED}: no GPU {gpu!r}; it has {', '.join(figures)}")
    own, other = figures[gpu], figures[base]
    compute = own["dense_bf16_tflops"] / other["dense_bf16_tflops"]
    memory = own["memory_gbps"] / other["memory_gbps"]
    link = own["host_link_gbps"] / other["host_link_gbps"]
    return {
        "name": f"{own['name']} (derived)",
        "assumption": (
            f"not measured: config/gpus/{base}.yaml with compute x {compute:.3g} (dense BF16 {own['dense_bf16_tflops']} "
            f"/ {other['dense_bf16_tflops']} TFLOP/s), memory x {memory:.3g} ({own['memory_gbps']} / "
            f"{other['memory_gbps']} GB/s), host link x {link:.3g} ({own['host_link_gbps']} / {other['host_link_gbps']} GB/s)"
        ),
        "source": f"{own['source']}; {other['source']}",
        "memory_gb": own["memory_gb"],
        "host_device_gbps": _rounded(measured["host_device_gbps"] * link),
        "scale_from": measured["scale_from"],
        **{key: measured[key] for key in ("expert_efficiency",) if key in measured},
        "models": {name: _model(entry, compute, memory) for name, entry in measured["models"].items()},
    }


def _model(entry: Mapping[str, float], compute: float, memory: float) -> dict[str, float]:
    read_s = entry["decode_base_s"] / memory
    return {
        **{key: entry[key] for key in SIZES},
        "prefill_tokens_per_s": _rounded(entry["prefill_tokens_per_s"] * compute),
        "prefill_attention_s_per_token2": _rounded(entry["prefill_attention_s_per_token2"] / compute),
        "prefill_min_s": _rounded(max(entry["prefill_min_s"], read_s)),
        "decode_base_s": _rounded(read_s),
        "decode_per_sequence_s": _rounded(entry["decode_per_sequence_s"] / compute),
        "decode_per_context_token_s": _rounded(entry["decode_per_context_token_s"] / memory),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


if __name__ == "__main__":
    sys.exit(run_stage("derive_gpu", main))
