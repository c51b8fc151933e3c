"""Connectors with a gate: what the plugin is told of it, and where it reads what an engine knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..machine.processes import LOOPBACK
from ..records.scenario import gated

_CURVE = "gate_curve.json"


def fed(
    scenario: Mapping[str, Any], vllm_port: int, folder: Path | None, slo: Mapping[str, float | None]
) -> dict[str, Any]:
    """The scenario with what its gate is fed from: vLLM's metrics, the engine's prefill curve in `folder`, if it has one, and the
    SLO of the first token."""
    curve = None if folder is None else str(curve_in(folder))
    metrics = f"http://{LOOPBACK}:{vllm_port}/metrics"
    slo_s = None if slo["ttft_ms"] is None else slo["ttft_ms"] / 1e3
    return {**scenario, "gate_metrics": metrics, "gate_curve": curve, "gate_slo_s": slo_s}


def curve_in(folder: Path) -> Path:
    """The file of an engine's prefill curve, JSON [[tokens, seconds], ...]."""
    return folder / _CURVE


def gate_keys(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """The plugin's keys of a gate, none without one."""
    if not gated(scenario):
        return {}
    own = {name: scenario.get(name) for name in ("gate", "gate_curve", "gate_metrics", "gate_slo_s")}
    return own | {"gate_chunk_tokens": scenario["chunk_tokens"]}
