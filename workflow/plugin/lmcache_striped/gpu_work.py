"""What the engine has to compute before a new prompt, and how long that takes. Times are the caller's."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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
_LOST = 4  # prompts in a row whose saves did not come, and saves are taken to be lost
_TOGETHER = 0.5  # of a prompt's own seconds after another: in less it was computed beside it
_REMEMBERED_S = 60.0


@dataclass(eq=False)
class Prompt:
    """A prompt from its lookup to its last save.

    key: of the last chunk that is not found, whose save ends it; None when all was found. left: whether chunks are there that were not
    found. new_tokens: to compute behind context_tokens; all_tokens: if nothing had been found. ready_s: when what was found is loaded.
    compute_s: of the new tokens alone, by the curve. held_s: of the GPU for the load. predicted_s: from the lookup until it is computed.
    """

    key: Hashable | None
    since_s: float
    found: int
    new_tokens: float
    context_tokens: float
    all_tokens: float
    queue_s: float
    load_s: float
    compute_s: float
    predicted_s: float
    ready_s: float
    held_s: float = 0.0
    left: bool = False
    loaded_s: float | None = None

    @property
    def loaded_tokens(self) -> float:
        """Of what was found."""
        return self.all_tokens - self.new_tokens


@dataclass(frozen=True)
class Queue:
    """The engine's steps from now on until it has nothing to compute: the one under way and those that prompts wait for.

    end_s: when each ends, in seconds from now. tokens: computed in each. waiting: prompts that wait for another.
    """

    end_s: np.ndarray
    tokens: np.ndarray
    waiting: float

    def before(self, ready_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of prompts that are ready in so many seconds: when what is before each has been computed, and the tokens that are
        computed in the same step: that of all prompts that are ready when it begins."""
        steps = len(self.end_s)
        if not steps:
            return ready_s, np.zeros_like(ready_s)
        step = 1 + np.searchsorted(self.end_s[:-1], ready_s)
        end_s = np.append(self.end_s, self.end_s[-1])[step]
        return np.maximum(end_s, ready_s), np.append(self.tokens, 0.0)[step]


class GpuWork:
    """Prompts between their lookups and the saves of their chunks. Not for several threads.

    Prompts that are ready when a step begins are computed in it together. How long that takes is the curve's figure for their
    tokens times a pace, which is learned while prompts wait for each other; without
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
        self._beside = 0.0
        self._told: tuple[int, float] | None = None
        self._lost = 0

    @property
    def known(self) -> bool:
        """Whether seconds can be told."""
        return self.curve is not None or self._learned.seen >= _ENOUGH

    def compute_s(self, new: Any, context: Any, beside: Any = 0) -> Any:
        """Seconds to compute so many tokens behind so many others and beside those of other prompts, see Curve; without the pace."""
        if self.curve is None:
            return self._learned.seconds(new) - self._learned.fixed * (np.asarray(beside) > 0)
        return self.curve.seconds(new, context, beside)

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

    def queue(self, now: float) -> Queue:
        """What a prompt finds before it. Those that the engine has and has not looked up yet wait behind it."""
        self._expire(now)
        prompts = self._prompts.values()
        queue = self._steps(
            now, [(each.ready_s, each.new_tokens, each.context_tokens, each.held_s) for each in prompts]
        )
        if self._told is None or now - self._told[1] >= _FRESH_S:
            return queue
        return replace(queue, waiting=queue.waiting + max(0, self._told[0] - len(prompts)))

    def queue_of_all(self, now: float) -> Queue:
        """What it would find if nothing were loaded for those that the engine has."""
        prompts = self._prompts.values()
        return self._steps(
            now,
            [
                (each.since_s, each.all_tokens, each.context_tokens - each.loaded_tokens, 0.0)
                for each in prompts
            ],
        )

    def first_s(
        self, queue: Queue, load_s: np.ndarray, new: np.ndarray, context: np.ndarray, blocking: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Seconds until so many tokens behind so many others, for which loads of these seconds come first, are computed behind this
        queue, and those of the GPU to compute them. blocking: the load begins when the GPU is free."""
        behind_s, beside = queue.before(load_s * (not blocking))
        compute_s = self.pace * self.compute_s(new, context, beside)
        return behind_s + load_s * blocking + compute_s, compute_s

    def taken_s(
        self, queue: Queue, load_s: np.ndarray, new: np.ndarray, context: np.ndarray, blocking: bool
    ) -> np.ndarray:
        """Seconds of the GPU for the same by which others are held up: beside the tokens that are in the same step, or another prompt as
        long as the longest of these, since more may be ready when it begins."""
        _, beside = queue.before(load_s * (not blocking))
        return load_s * blocking + self.pace * self.compute_s(new, context, np.maximum(beside, new.max()))

    def _steps(self, now: float, prompts: list[tuple[float, float, float, float]]) -> Queue:
        """prompts: when each is ready, its new tokens and those before them, and seconds in which its load keeps the GPU."""
        ready, begins, count = deque(sorted(prompts)), now, 0
        end_s: list[float] = []
        tokens: list[float] = []
        while ready and ready[0][0] <= begins:
            begins = begins if end_s else max(ready[0][0], self._free_s)
            together, pairs, held_s = 0.0, 0.0, 0.0
            while ready and ready[0][0] <= begins:
                _, new, context, held = ready.popleft()
                together, pairs, held_s = together + new, pairs + new * (context + new / 2), held_s + held
                count += 1
            step_s = held_s + float(self.compute_s(together, pairs / together - together / 2))
            begins = max(begins + self.pace * step_s, now)
            end_s.append(begins - now)
            tokens.append(together)
        return Queue(np.array(end_s), np.array(tokens), float(max(count - 1, 0)))

    def saved(self, key: Hashable, now: float) -> Prompt | None:
        """A chunk was saved; the prompt whose last one it is, which so is computed."""
        prompt = self._by_key.pop(key, None)
        if prompt is not None:
            self._lost = 0
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
            return
        if prompt.compute_s <= 0:
            return
        beside = self._beside if waited and took_s < _TOGETHER * prompt.compute_s else 0.0
        self._beside = beside + prompt.new_tokens
        if waited:
            own_s = float(self.compute_s(prompt.new_tokens, prompt.context_tokens, beside))
            self._learn_pace(own_s + prompt.held_s, took_s)
        elif alone and not prompt.found:
            late_s = min(max(took_s - prompt.compute_s, 0.0), _MOST_LAG_S)
            self.lag_s += _GAIN * (late_s - self.lag_s)
            self._learn_pace(prompt.compute_s, prompt.compute_s)
        elif alone:
            late_s = took_s - prompt.held_s - prompt.compute_s * self.pace - self.lag_s
            self._late.append((max(late_s, 0.0) / prompt.found, prompt.found))
            chunks = sum(found for _, found in self._late)
            least_s = sorted(self._late)[len(self._late) // _OF_LEAST][0]
            self._extra_s = least_s * chunks / (chunks + _TELLING)

    def _learn_pace(self, predicted_s: float, took_s: float) -> None:
        if predicted_s <= 0:  # by a flat curve tokens beside others take no time, and so tell nothing
            return
        count, predicted, took = (
            _KEPT * old + new for old, new in zip(self._sums, (1.0, predicted_s, took_s), strict=True)
        )
        self._sums = (count, predicted, took)
        prior = _PRIOR * predicted / count
        self.pace = min(max((took + prior) / (predicted + prior), _PACES[0]), _PACES[1])

    def _expire(self, now: float) -> None:
        """Leave out prompts whose saves should have come long ago, and those of which no save will come and which should be done.

        While no save comes at all, none is waited for: each that was would make those behind it seem later, and these be waited for longer.
        """
        for prompt in list(self._prompts.values()):
            if now > self._gone_s(prompt):
                del self._prompts[id(prompt)]
                self._lost += prompt.key is not None

    def _gone_s(self, prompt: Prompt) -> float:
        if prompt.predicted_s <= 0:
            return prompt.since_s + _REMEMBERED_S
        is_awaited = prompt.key is not None and self._lost < _LOST
        return prompt.since_s + (1.0 + 3 * prompt.predicted_s if is_awaited else prompt.predicted_s)
