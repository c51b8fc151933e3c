"""The gate's keys among those of the plugin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError, above_zero
from .gate import OBJECTIVES, OFF

KEYS = ("gate", "gate_curve", "gate_metrics", "gate_chunk_tokens", "gate_slo_s")


@dataclass(frozen=True)
class GateSettings:
    """objective: of gate.py's OBJECTIVES. curve: a file, JSON [[tokens, seconds], ...], how long the engine computes prompts of so many
    tokens; read again when it changes. metrics: the address of vLLM's metrics. chunk_tokens: LMCache's chunk, which its server does
    not tell. slo_s: the first token's bound that objective throughput keeps to, None for none.
    """

    objective: str = OFF
    curve: Path | None = None
    metrics: str | None = None
    chunk_tokens: int | None = None
    slo_s: float | None = None


NO_GATE = GateSettings()


def gate_from(values: Mapping[str, Any], prefix: str) -> GateSettings:
    """Settings from `<prefix>.gate` and the rest of KEYS. Raises UserError naming the key."""
    if f"{prefix}.load_queue_bytes" in values:
        raise UserError(
            f"{prefix}.load_queue_bytes is not a key any more; gate, ttft or throughput, weighs each load against computing"
        )
    objective, curve, metrics, tokens, slo_s = (values.get(f"{prefix}.{key}") for key in KEYS)
    objective = objective or OFF
    if objective not in OBJECTIVES:
        raise UserError(f"{prefix}.gate: {objective!r} is wrong; allowed are {', '.join(OBJECTIVES)}")
    if tokens is not None and (not str(tokens).isdecimal() or int(tokens) == 0):
        raise UserError(f"{prefix}.gate_chunk_tokens: {tokens!r} is wrong; it must be a whole number above 0")
    return GateSettings(
        objective,
        None if curve is None else Path(str(curve)),
        None if metrics is None else str(metrics),
        None if tokens is None else int(tokens),
        None if slo_s is None else above_zero(f"{prefix}.gate_slo_s", slo_s, what="seconds"),
    )


def warm_bytes() -> int:
    """How much of what was saved or loaded last is likely in the page cache: half of what the system could give it, 0 where it does not say."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 0
    found = re.search(r"MemAvailable: *(\d+) kB", text)
    return int(found[1]) << 9 if found else 0
