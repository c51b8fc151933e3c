"""What the gate has decided, and how what it predicted compares with what happened; told in lines of a log and read from them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

LOAD, PROMPT = "load", "prompt"
_COMPARED, _RECENT = 1 << 16, 32
_MOST_CAUTION = 0.5
_FAR = 3.0
_DECIDED = re.compile(r"striped: gate found (\d+) of (\d+) chunks")
_TOOK = re.compile(rf"striped: gate: ({LOAD}|{PROMPT}) predicted ([0-9.]+) s, took ([0-9.]+) s")


@dataclass(frozen=True)
class GateCounts:
    """Lookups, and the chunks of them that were there, found, and left to be computed.

    Errors are |predicted - taken| / taken, as median and 90th percentile, None where nothing was compared: of loads, from the lookup
    until what it found was loaded; of prompts, from the lookup until the rest was computed as well.
    """

    lookups: int = 0
    present_chunks: int = 0
    found_chunks: int = 0
    load_error: float | None = None
    load_error_p90: float | None = None
    prompt_error: float | None = None
    prompt_error_p90: float | None = None

    @property
    def left_chunks(self) -> int:
        """Chunks that were there and were not found."""
        return self.present_chunks - self.found_chunks

    @classmethod
    def of(
        cls,
        decided: Sequence[tuple[int, int]],
        took: Sequence[tuple[str, float, float]],
    ) -> GateCounts:
        """decided: (found, present) of each lookup. took: LOAD or PROMPT, what was predicted and what it took, in seconds."""
        errors: dict[str, list[float]] = {LOAD: [], PROMPT: []}
        for kind, predicted_s, taken_s in took:
            if taken_s > 0:
                errors[kind].append(abs(predicted_s - taken_s) / taken_s)
        return cls(
            len(decided),
            sum(present for _, present in decided),
            sum(found for found, _ in decided),
            *_middle_and_p90(errors[LOAD]),
            *_middle_and_p90(errors[PROMPT]),
        )


class Compared:
    """What was predicted, and what it took. took: LOAD or PROMPT, predicted seconds, seconds taken. caution: how far off loads are in
    the median of their seconds, since small ones are far off and cost nothing, those of probes too, at most _MOST_CAUTION."""

    def __init__(self) -> None:
        self.took: deque[tuple[str, float, float]] = deque(maxlen=_COMPARED)
        self.caution = 0.0
        self._loads: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._prompts: deque[float] = deque(maxlen=_RECENT)
        self._later_s: deque[float] = deque(maxlen=_RECENT)

    def add(self, kind: str, predicted_s: float, taken_s: float) -> None:
        """One more."""
        self.took.append((kind, predicted_s, taken_s))
        if kind == PROMPT:
            self._prompts.append(taken_s / predicted_s)
            self._later_s.append(taken_s - predicted_s)
        else:
            self.loaded(predicted_s, taken_s)

    def loaded(self, predicted_s: float, taken_s: float) -> None:
        """One more load, of a request or by the side, without which caution would keep to what there was before all was left."""
        if taken_s > 0:
            self._loads.append((abs(predicted_s - taken_s) / taken_s, predicted_s))
            half_s = sum(seconds for _, seconds in self._loads) / 2
            passed_s = 0.0
            for error, seconds in sorted(self._loads):
                passed_s += seconds
                if passed_s >= half_s:
                    self.caution = min(error, _MOST_CAUTION)
                    break

    def late(self, first_s: np.ndarray, bound_s: float) -> np.ndarray:
        """How likely first tokens that are predicted after so many seconds come after bound_s, by how far off recent ones were."""
        later_s = np.sort(self._later_s) if self._later_s else np.zeros(1)
        return 1 - np.searchsorted(later_s, bound_s - first_s, side="right") / len(later_s)

    @property
    def far_off(self) -> float | None:
        """How many times as long as predicted first tokens take in the median, where that is _FAR times or less than a _FARth."""
        if len(self._prompts) < _RECENT:
            return None
        times = median(self._prompts)
        return None if 1 / _FAR <= times <= _FAR else times


def decided_line(found: int, present: int, rest: str) -> str:
    """For a log, and `told_by`."""
    return f"gate found {found} of {present} chunks{rest}"


def took_line(kind: str, predicted_s: float, taken_s: float) -> str:
    """For a log, and `told_by`. kind: LOAD or PROMPT."""
    return f"gate: {kind} predicted {predicted_s:.4f} s, took {taken_s:.4f} s"


def told_by(lines: Iterable[str]) -> GateCounts | None:
    """What a log's lines tell; None when no lookup went through a gate."""
    decided: list[tuple[int, int]] = []
    took: list[tuple[str, float, float]] = []
    for line in lines:
        if found := _DECIDED.search(line):
            decided.append((int(found[1]), int(found[2])))
        elif found := _TOOK.search(line):
            took.append((found[1], float(found[2]), float(found[3])))
    return GateCounts.of(decided, took) if decided else None


def _middle_and_p90(errors: Sequence[float]) -> tuple[float | None, float | None]:
    if not errors:
        return None, None
    return median(errors), sorted(errors)[int(0.9 * (len(errors) - 1) + 0.5)]
