"""What the engine has to compute before a new prompt, and how long that takes. Times are the caller's."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from .estimates import Curve, Line

_ENOUGH = 4  # prompts that tell how long computing takes where no curve does
_KEPT = 0.9
_PRIOR = 1.0  # prompts that took what was predicted, as a beginning
_PACES = (0.5, 2.0)
_MOST_LAG_S = 0.3
_GAIN = 0.2
_RECENT, _OF_LEAST = 16, 4  # others that came between make it longer, nothing makes it shorter
_DOUBTED = 0.97  # of what passes behind a load, for every prompt that so was computed instead
_TELLING = 32  # chunks that count half for what passes behind a load
_FRESH_S = 1.0
_REMEMBERED_S = 60.0


@dataclass(eq=False)
class Prompt:
    """A prompt from its lookup to its last save.

    key: of the last chunk that is not found, whose save ends it; None when all was found. left: whether chunks are there that were not
    found. ready_s: when what was found is loaded.
    compute_s: of the rest, by the curve. predicted_s: from the lookup until it is computed.
    """

    key: Hashable | None
    since_s: float
    found: int
    new_tokens: float
    queue_s: float
    load_s: float
    compute_s: float
    predicted_s: float
    ready_s: float
    left: bool = False
    loaded_s: float | None = None


class GpuWork:
    """Prompts between their lookups and the saves of their chunks. Not for several threads.

    How long a prompt takes to compute is the curve's figure times a pace, which is learned while prompts wait for each other; without
    a curve it is learned from the first prompts. What passes between a first token and its save (lag) and between a load and
    the computing of the rest (extra) is learned from prompts that wait for no other.
    """

    def __init__(self) -> None:
        self.curve: Curve | None = None
        self.pace = 1.0
        self._learned = Line(
            follows=False
        )  # of prompts that are computed in one step the first seems to take it all
        self.lag_s = 0.0
        self._prompts: dict[int, Prompt] = {}
        self._by_key: OrderedDict[Hashable, Prompt] = OrderedDict()
        self._sums = (0.0, 0.0, 0.0)
        self._extra_s = 0.0
        self._late: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._free_s = float("-inf")
        self._told: tuple[int, float] | None = None

    @property
    def known(self) -> bool:
        """Whether seconds can be told."""
        return self.curve is not None or self._learned.seen >= _ENOUGH

    def compute_s(self, new: Any, context: Any) -> Any:
        """Seconds to compute so many tokens behind so many others, numbers or arrays, without the pace."""
        return self._learned.seconds(new) if self.curve is None else self.curve.seconds(new, context)

    def extra_s(self, chunks: Any) -> Any:
        """Seconds between the end of a load of so many chunks and the computing of the rest."""
        return self._extra_s * chunks

    def begins(self, prompt: Prompt) -> None:
        """A lookup was answered."""
        self._prompts[id(prompt)] = prompt
        if prompt.key is not None:
            self._by_key[prompt.key] = prompt
            self._by_key.move_to_end(prompt.key)
            while next(iter(self._by_key.values())).since_s < prompt.since_s - _REMEMBERED_S:
                self._by_key.popitem(last=False)

    def engine_waits(self, requests: int, now: float) -> None:
        """The engine says how many requests wait. Prompts that should be done and are more than these are done."""
        self._told = (requests, now)
        late = [prompt for prompt in self._prompts.values() if prompt.since_s + prompt.predicted_s < now]
        for prompt in late[: max(0, len(self._prompts) - requests)]:
            del self._prompts[id(prompt)]

    def queue(self, now: float) -> tuple[float, float]:
        """Seconds until the GPU is free for a prompt that is ready now, and how many requests wait for it.

        Those that the engine has and has not looked up yet wait behind it.
        """
        self._expire(now)
        end, waiting = now, 0
        for prompt in sorted(self._prompts.values(), key=_ready_s):
            if prompt.ready_s > end:
                break
            work_s = prompt.compute_s * self.pace
            if not waiting:
                work_s = max(work_s - max(now - max(prompt.ready_s, self._free_s), 0.0), 0.0)
            end, waiting = end + work_s, waiting + 1
        behind = max(waiting - 1, 0)
        unseen = 0
        if self._told is not None and now - self._told[1] < _FRESH_S:
            unseen = max(0, self._told[0] - len(self._prompts))
        return end - now, float(behind + unseen)

    def saved(self, key: Hashable, now: float) -> Prompt | None:
        """A chunk was saved; the prompt whose last one it is, which so is computed."""
        prompt = self._by_key.pop(key, None)
        if prompt is not None:
            self._prompts.pop(id(prompt), None)
            self._observe(prompt, now)
            self._forget_before(prompt)
        return prompt

    def _forget_before(self, prompt: Prompt) -> None:
        """Prompts are computed in the order in which they are ready: those before this one have been, too, though LMCache, whose buffer
        may have been full, saved their last chunk later or not at all."""
        for other in [other for other in self._prompts.values() if other.ready_s < prompt.ready_s]:
            if not other.found or other.loaded_s is not None:
                del self._prompts[id(other)]
                if other.key is not None and self._by_key.get(other.key) is other:
                    del self._by_key[other.key]

    def _observe(self, prompt: Prompt, now: float) -> None:
        if prompt.left and not prompt.found:
            self._extra_s *= _DOUBTED
        if prompt.found and prompt.loaded_s is None:
            self._free_s = max(self._free_s, now)
            return
        ready_s = prompt.ready_s if prompt.found else prompt.since_s
        waited = self._free_s > ready_s + self.lag_s
        took_s = now - max(ready_s, self._free_s)
        alone = not waited and prompt.queue_s <= 0
        self._free_s = max(self._free_s, now)
        if self.curve is None:
            if not prompt.found:
                self._learned.observe(prompt.new_tokens, took_s)
        elif prompt.compute_s <= 0:
            return
        elif waited:
            self._learn_pace(prompt.compute_s, took_s)
        elif alone and not prompt.found:
            late_s = min(max(took_s - prompt.compute_s, 0.0), _MOST_LAG_S)
            self.lag_s += _GAIN * (late_s - self.lag_s)
            self._learn_pace(prompt.compute_s, prompt.compute_s)
        elif alone:
            late_s = took_s - prompt.compute_s * self.pace - self.lag_s
            self._late.append((max(late_s, 0.0) / prompt.found, prompt.found))
            chunks = sum(found for _, found in self._late)
            least_s = sorted(self._late)[len(self._late) // _OF_LEAST][0]
            self._extra_s = least_s * chunks / (chunks + _TELLING)

    def _learn_pace(self, predicted_s: float, took_s: float) -> None:
        count, predicted, took = (
            _KEPT * old + new for old, new in zip(self._sums, (1.0, predicted_s, took_s), strict=True)
        )
        self._sums = (count, predicted, took)
        prior = _PRIOR * predicted / count
        self.pace = min(max((took + prior) / (predicted + prior), _PACES[0]), _PACES[1])

    def _expire(self, now: float) -> None:
        """Leave out prompts whose saves should have come long ago, and those of which no save will come and which should be done."""
        for prompt in [prompt for prompt in self._prompts.values() if now > _gone_s(prompt)]:
            del self._prompts[id(prompt)]


def _gone_s(prompt: Prompt) -> float:
    if prompt.predicted_s <= 0:
        return prompt.since_s + _REMEMBERED_S
    return prompt.since_s + (1.0 + 3 * prompt.predicted_s if prompt.key is not None else prompt.predicted_s)


def _ready_s(prompt: Prompt) -> float:
    return prompt.ready_s
