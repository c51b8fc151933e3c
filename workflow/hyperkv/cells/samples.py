"""From the requests of a cell to its figures: the same definitions whatever the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One request. Times in seconds from the run's start, lengths in tokens.

    hit_tokens: prompt tokens found in HBM or a tier; external_hit_tokens: those of a tier below HBM, None when
    the engine tells them for all requests together only.
    """

    arrival_s: float
    first_token_s: float
    finish_s: float
    prompt_tokens: int
    answer_tokens: int
    hit_tokens: int
    external_hit_tokens: int | None = None

    @property
    def ttft_s(self) -> float:
        """Seconds from arrival to the first token."""
        return self.first_token_s - self.arrival_s

    @property
    def itl_s(self) -> float | None:
        """Mean seconds between tokens; None for an answer of one token."""
        if self.answer_tokens < 2:
            return None
        return (self.finish_s - self.first_token_s) / (self.answer_tokens - 1)


def window_values(
    samples: Sequence[Sample],
    window_s: float,
    slo: Mapping[str, float | None] | None = None,
    gpus: int = 1,
) -> dict[str, float | None]:
    """The cell's figures over the requests that arrived in the measured window, which ends at `window_s`.

    slo: ttft_ms and itl_ms, None for no bound; goodput counts the answers completed in the window that keep
    them, None without an SLO. gpus: that served them; RPS/GPU and goodput are per GPU. Names and units: columns.yaml.
    """
    window = [sample for sample in samples if sample.arrival_s < window_s]
    finished = [sample for sample in window if sample.finish_s <= window_s]
    busy_s = sum(sample.finish_s - sample.arrival_s for sample in window)
    prompt = sum(sample.prompt_tokens for sample in window)
    ttft_ms = [1e3 * sample.ttft_s for sample in window]
    itl_ms = [1e3 * sample.itl_s for sample in window if sample.itl_s is not None]
    external = [tokens for sample in window if (tokens := sample.external_hit_tokens) is not None]
    return {
        "requests": len(window),
        "window_s": window_s,
        "rps_per_gpu": len(finished) / window_s / gpus if window_s else None,
        "goodput_rps": _goodput(finished, window_s, slo, gpus),
        "tps_per_user": sum(sample.answer_tokens for sample in window) / busy_s if busy_s else None,
        "ttft_p50_ms": _percentile(ttft_ms, 50),
        "ttft_p95_ms": _percentile(ttft_ms, 95),
        "itl_p50_ms": _percentile(itl_ms, 50),
        "hit_rate": sum(sample.hit_tokens for sample in window) / prompt if prompt else None,
        "external_hit_rate": sum(external) / prompt if prompt and len(external) == len(window) else None,
    }


def _goodput(
    finished: Sequence[Sample], window_s: float, slo: Mapping[str, float | None] | None, gpus: int
) -> float | None:
    if not slo or not window_s or all(bound is None for bound in slo.values()):
        return None
    return sum(_keeps(sample, slo) for sample in finished) / window_s / gpus


def _keeps(sample: Sample, slo: Mapping[str, float | None]) -> bool:
    bounds = ((sample.ttft_s, slo.get("ttft_ms")), (sample.itl_s or 0.0, slo.get("itl_ms")))
    return all(bound is None or 1e3 * value <= bound for value, bound in bounds)


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def closed_loop_window_s(conversations: Mapping[Any, Sequence[Sample]]) -> float:
    """When the first client had nothing left to send, in seconds: the end of the measured window.

    conversations: the requests of each conversation. Conversations begin in some order, one per client at a
    time; the window ends with the first one that ends after the last one began.
    """
    spans = [
        (min(s.arrival_s for s in requests), max(s.finish_s for s in requests))
        for requests in conversations.values()
        if requests
    ]
    if not spans:
        return 0.0
    last_start = max(start for start, _ in spans)
    return min(end for _, end in spans if end > last_start)
