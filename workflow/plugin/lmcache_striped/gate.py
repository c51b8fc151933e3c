"""How much of what is there a lookup finds: as much as is worth loading, since the rest can be computed.

For every number k of leading chunks the first token is predicted: max(seconds until the GPU is free, seconds to load k) + seconds to
compute the rest. Objective `ttft` takes the k whose first token is earliest, with a price on the GPU's seconds for those who come
meanwhile, of those that are earlier than computing everything, of the prompts before it too; `throughput` adds the GPU's seconds once more for
every request that waits, with an SLO for every one that is being answered, too, and an answer for a late first token, and the store's for every
load before it; `off` finds all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .estimates import Curve
from .gate_counts import LOAD, PROMPT, Compared, GateCounts, decided_line, took_line
from .gpu_work import GpuWork, Prompt
from .remembered import Remembered
from .store_work import Load, StoreWork

OFF, TTFT, THROUGHPUT = OBJECTIVES = ("off", "ttft", "throughput")
_LEAST_GAIN = 0.02  # of the seconds to compute all, for a load to be worth it
_PROBE_BYTES = (32 << 20, 8 << 20)  # by turns: probes of one size would not tell what is fixed
_PROBE_SHARE, _PROBED = 0.03, 64
_PROMISE_S, _UNTOLD_S = 1.0, 5.0
_COME_MEANWHILE = 0.6  # requests that come while one is computed, and wait for it
_DECIDED = 1 << 16
_CAME = 32  # lookups that tell how often they come
_RUNS_S = 10.0  # for which the engine's figure of requests that are answered holds


@dataclass(frozen=True)
class Decision:
    """What one lookup finds. present, found: leading chunks that are there, and those of them that are loaded.

    Predicted seconds, None where they are not known: until the GPU is free (queue_s); from the lookup until what is found is
    loaded (load_s, 0 for nothing); of the GPU for the rest (compute_s); from the lookup to the first token (first_token_s), when all is
    computed, of those before it too (recompute_s), and when all that is there is loaded (load_all_s). waiting: requests that wait for the GPU.
    """

    present: int
    found: int
    queue_s: float | None = None
    load_s: float | None = None
    compute_s: float | None = None
    first_token_s: float | None = None
    recompute_s: float | None = None
    load_all_s: float | None = None
    waiting: float = 0.0

    @property
    def told(self) -> str:
        """For a log, see gate_counts.py."""
        if self.first_token_s is None:
            return decided_line(self.found, self.present, "")
        return decided_line(
            self.found,
            self.present,
            f", load {self.load_s:.4f} s, first token {self.first_token_s:.4f} s, all computed {self.recompute_s:.4f} s, "
            f"all loaded {self.load_all_s:.4f} s",
        )


class Gate:
    """The decision, with what it knows of store and engine. Does no I/O; safe to use from several threads.

    objective: of OBJECTIVES. chunk_tokens: tokens of a chunk; chunk_bytes: its size where that is known before a load or save.
    clock: seconds. points: the engine's prefill curve, see Curve. warm_bytes: see StoreWork. blocking: a load
    begins when the GPU is free and keeps it, instead of going on while others are computed. slo_s: the first token's bound that
    objective throughput keeps to, None for none. tell: is told in a line of decisions and
    of what came of them; warn, once, of what is not known.

    In order: `decide`, which promises what it finds; then `load_waits`, `load_begins` and `load_ends` for what is loaded, and
    `saves` for what was computed. A promise whose load does not come is given up. Chunks that were left are there already when they
    come to be saved, until they are looked up again.
    """

    def __init__(
        self,
        objective: str,
        chunk_tokens: int,
        clock: Callable[[], float] = time.monotonic,
        points: Sequence[Sequence[float]] | None = None,
        chunk_bytes: int = 0,
        warm_bytes: int = 0,
        blocking: bool = False,
        slo_s: float | None = None,
        tell: Callable[[str], None] | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ):
        self.objective, self.chunk_tokens, self._blocking = objective, chunk_tokens, blocking
        self._slo_s, self._running, self._runs_s = slo_s, 0, float("-inf")
        self._clock, self._tell, self._warn = clock, tell, warn
        self._warned = self._warned_off = False
        self._store, self._gpu = StoreWork(chunk_bytes, warm_bytes), GpuWork()
        self._lock, self._compared = threading.Lock(), Compared()
        self._left, self._found = Remembered(), Remembered()
        self._unloaded: deque[Hashable] = deque(maxlen=_PROBED)
        self._decided: deque[tuple[int, int]] = deque(maxlen=_DECIDED)
        self._came: deque[float] = deque(maxlen=_CAME)
        self._probe_from_s, self._probes = float("-inf"), 0
        self._untold_s: float | None = None
        if points is not None:
            self.set_curve(points)

    def set_curve(self, points: Sequence[Sequence[float]]) -> None:
        """The engine's prefill curve from now on, (tokens, seconds) of whole prompts. Raises UserError."""
        curve = Curve(points)
        with self._lock:
            self._gpu.curve = curve

    def engine_waits(self, requests: int) -> None:
        """The engine's own figure: so many requests wait."""
        with self._lock:
            self._gpu.engine_waits(requests, self._clock())

    def engine_runs(self, requests: int) -> None:
        """The engine's own figure: so many are being answered, whose next tokens wait for whatever is computed."""
        self._running, self._runs_s = requests, self._clock()

    def decide(
        self, keys: Sequence[Hashable], present: int, tokens: float | None = None, context_tokens: int = 0
    ) -> Decision:
        """How many of the first `present` chunks are found, of those with these keys that were looked for.

        tokens: of the prompt from the first of them on, None for half a chunk more than they have. context_tokens: before
        them, which are there.
        """
        if self.objective == OFF:
            return Decision(present, present)
        tokens = (len(keys) + 0.5) * self.chunk_tokens if tokens is None else tokens
        now, unknown = self._clock(), False
        with self._lock:
            self._store.expire(now)
            if not self._gpu.known:
                unknown, self._warned = not self._warned, True
                decision = Decision(present, present)
            elif not self._store.known:
                decision = Decision(present, present if self._must_try(present, now) else 0)
            else:
                decision = self._best(keys[:present], tokens, context_tokens, now)
            self._note(decision, keys, tokens, context_tokens, now)
        if unknown:
            self._warn(
                "gate: how long computing takes is not known yet, so all that is there is loaded; gate_curve tells it at once"
            )
        if self._tell is not None:
            self._tell(decision.told)
        return decision

    def has_found(self, keys: Sequence[Hashable]) -> bool:
        """Whether lookups of the last minute have found all of these, one at least, and none has been loaded since."""
        with self._lock:
            now = self._clock()
            return bool(keys) and all(self._found.has(key, now) for key in keys)

    def load_waits(self, keys: Sequence[Hashable], size: int) -> Load:
        """These chunks, of `size` bytes together, wait to be loaded."""
        with self._lock:
            return self._store.waits(keys, size, self._clock())

    def load_begins(self, load: Load) -> None:
        """The load is under way."""
        with self._lock:
            self._store.begins(load, self._clock())

    def load_ends(self, load: Load, whole: bool = True) -> None:
        """The load has ended. whole: whether every chunk came; otherwise it says nothing of the store's speed."""
        told = None
        with self._lock:
            now, prompt = self._clock(), load.lookup
            self._store.ends(load, now, whole)
            self._found.forget(load.keys)
            self._probe_from_s = now
            if isinstance(prompt, Prompt):
                self._unloaded.clear()
                prompt.loaded_s = now
                if not self._blocking:
                    prompt.ready_s = now
                if whole and prompt.predicted_s > 0:
                    told = (LOAD, prompt.load_s, now - (load.since_s if self._blocking else prompt.since_s))
                    self._compared.add(*told)
            elif whole and load.predicted_s > 0:
                self._compared.loaded(load.predicted_s, load.served_s)
        self._tell_took(told)

    def busy_until(self, end_s: float) -> None:
        """The store loads nothing before this time of the clock, for another reason than a load."""
        with self._lock:
            self._store.busy_until_s = end_s

    def saves(self, keys: Sequence[Hashable], size: int = 0) -> list[bool]:
        """These chunks, of `size` bytes together, were computed and are to be saved. Of each, whether it was left a moment ago, and
        so is there already."""
        found, told = [], []
        with self._lock:
            now = self._clock()
            if keys and size:
                self._store.chunk_bytes = size // len(keys)
            for key in keys:
                found.append(self._left.has(key, now))
                prompt = self._gpu.saved(key, now)
                if prompt is not None and prompt.predicted_s > 0:
                    told.append((PROMPT, prompt.predicted_s + self._gpu.lag_s, now - prompt.since_s))
                    self._compared.add(*told[-1])
            self._store.touch([key for key, there in zip(keys, found, strict=True) if not there])
        for line in told:
            self._tell_took(line)
        if told and not self._warned_off and (times := self._compared.far_off) is not None:
            self._warned_off = True
            self._warn(
                f"gate: first tokens take {times:.2g} times what is predicted; is gate_curve this engine's?"
            )
        return found

    def to_probe(self) -> list[Hashable]:
        """Chunks that were left since the last load and are worth one by the side, to learn how fast the store is by now; mostly none.

        They take at most _PROBE_SHARE of the store's time, and are asked for while nothing else is loaded. The first ones are asked
        for at once, so that no request pays for a store whose speed is not known.
        """
        with self._lock:
            now = self._clock()
            if not self._unloaded or not self._store.chunk_bytes or not self._store.idle:
                return []
            most = _PROBE_BYTES[self._probes % len(_PROBE_BYTES)]
            keys = list(self._unloaded)[-max(1, most // self._store.chunk_bytes) :]
            pause_s = (
                float(self._store.seconds_by_count(keys)[-1]) / _PROBE_SHARE
                if self._store.known
                else _UNTOLD_S
            )
            if now < self._probe_from_s + pause_s:
                return []
            self._probe_from_s, self._probes = now, self._probes + 1
            return keys

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk; 0 until one was loaded or saved."""
        return self._store.chunk_bytes

    @property
    def counts(self) -> GateCounts:
        """What has been decided, and how well it was predicted."""
        with self._lock:
            return GateCounts.of(list(self._decided), list(self._compared.took))

    @property
    def told(self) -> str:
        """For a log: what is known of store and engine."""
        with self._lock:
            gbps, pace = self._store.gbps, self._gpu.pace
        store = "unknown" if gbps is None else f"{gbps:.2f} GB/s"
        return f"gate {self.objective}: store {store}, computing takes {pace:.2f} times the curve's seconds"

    def _must_try(self, present: int, now: float) -> bool:
        """Whether a load is to tell how fast the store is, since no probe has done so for a while."""
        if present and self._untold_s is None:
            self._untold_s = now
        if self._untold_s is None or now <= self._untold_s + _UNTOLD_S or not self._store.idle:
            return False
        self._untold_s = now
        return True

    def _best(self, keys: Sequence[Hashable], tokens: float, context: int, now: float) -> Decision:
        store, gpu = self._store, self._gpu
        counts = np.arange(len(keys) + 1)
        queue = gpu.queue(now)
        wait_s, slower = store.wait_s(now)
        own_s = slower * store.seconds_by_count(keys)
        load_s = (0.0 if self._blocking else wait_s) + own_s + gpu.extra_s(counts)
        load_s[0] = 0.0
        loaded = counts * self.chunk_tokens
        rest = np.maximum(tokens - loaded, 1), context + loaded, self._blocking
        first_s, compute_s = gpu.first_s(queue, load_s, *rest)
        bound_s = first_s[0]
        if self.objective != THROUGHPUT:
            bound_s = max(bound_s, gpu.first_s(gpu.queue_of_all(now), 0 * load_s, *rest)[0][0])
        best = 0
        if len(keys):
            cautious_s = load_s * (1 + self._compared.caution)
            price, _ = gpu.first_s(queue, cautious_s, *rest)
            taken_s = gpu.taken_s(queue, cautious_s, *rest)
            if self.objective == THROUGHPUT:
                price = self._with_gpu_time(price, queue.waiting, taken_s) + store.loads * own_s
            else:
                earlier = price <= bound_s - _LEAST_GAIN * compute_s[0]
                earlier[0] = True
                price = np.where(earlier, price + _COME_MEANWHILE * taken_s, np.inf)
            best = int(price.argmin())
            if price[best] > price[0] - _LEAST_GAIN * compute_s[0]:
                best = 0
        before_s = queue.before(np.zeros(1))[0][0]
        told = (before_s, load_s[best], compute_s[best], first_s[best], bound_s, first_s[-1], queue.waiting)
        return Decision(len(keys), best, *map(float, told))

    def _with_gpu_time(self, first_s: np.ndarray, waiting: float, taken_s: np.ndarray) -> np.ndarray:
        """First tokens with a price on the GPU's time, which all have to wait for who are held up by it: requests that wait, and with
        an SLO those that are being answered. One that may be late costs as much of the seconds of an answer as it is likely to be."""
        if self._slo_s is None:
            return first_s + waiting * taken_s
        now, came = self._clock(), self._came
        held_up = waiting + (self._running if now < self._runs_s + _RUNS_S else 0)
        answer_s = (held_up + 1) * (now - came[0]) / len(came) if came else 0.0
        late_s = self._compared.late(first_s, self._slo_s) * max(answer_s, self._slo_s)
        return first_s + held_up * taken_s + late_s

    def _note(
        self, decision: Decision, keys: Sequence[Hashable], tokens: float, context: int, now: float
    ) -> None:
        """Remember what was found, what was left, and the prompt that is to be computed."""
        found, present, gpu = decision.found, decision.present, self._gpu
        new, before = max(tokens - found * self.chunk_tokens, 1), context + found * self.chunk_tokens
        load_s, first_s = decision.load_s or 0.0, decision.first_token_s or 0.0
        prompt = Prompt(
            key=keys[-1] if found < len(keys) else None,
            since_s=now,
            found=found,
            left=found < present,
            new_tokens=new,
            context_tokens=before,
            all_tokens=tokens,
            queue_s=decision.queue_s or 0.0,
            load_s=load_s - float(gpu.extra_s(found)),
            compute_s=float(gpu.compute_s(new, before)) if gpu.known else 0.0,
            held_s=load_s if self._blocking else 0.0,
            predicted_s=first_s,
            ready_s=now if self._blocking else now + load_s,
        )
        gpu.begins(prompt)
        self._came.append(now)
        if found:
            self._store.promise(keys[:found], now + _PROMISE_S + 2 * load_s, prompt)
        self._found.add(keys[:found], now)
        self._left.forget(keys)
        self._left.add(keys[found:present], now)
        self._unloaded.extend(keys[found:present][:_PROBED])
        self._decided.append((found, present))

    def _tell_took(self, took: tuple[str, float, float] | None) -> None:
        if took is not None and self._tell is not None:
            self._tell(took_line(*took))
