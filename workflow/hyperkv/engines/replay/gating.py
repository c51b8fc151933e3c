"""The plugin's gate in engine `replay`: what it is asked and told of a request's lookup, load and saves, by the engine's clock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ....plugin.lmcache_striped.gate import Gate
from ....plugin.lmcache_striped.gate_counts import GateCounts
from ....plugin.lmcache_striped.store_work import Load as Loading
from ...models.gpu import GpuModel
from .request import Request
from .tiers import NOBODY, Load, Look, Tiers, Told

_CURVE_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def curve_points(gpu: GpuModel, step_tokens: int) -> list[tuple[int, float]]:
    """The modelled GPU's prefill curve for a Gate: tokens and seconds of prompts on an idle engine, in steps of `step_tokens`."""
    return [(tokens, _prefill_s(gpu, tokens, step_tokens)) for tokens in _CURVE_TOKENS]


def _prefill_s(gpu: GpuModel, tokens: int, step_tokens: int) -> float:
    starts = range(0, tokens, step_tokens)
    return sum(gpu.step_s([(min(step_tokens, tokens - start), start)], []) for start in starts)


class Gating:
    """A gate before the last of `tiers`; what the tiers above it have is loaded whatever it says."""

    def __init__(self, gate: Gate, tiers: Tiers, chunk_tokens: int):
        self._gate, self._tiers, self._chunk_tokens = gate, tiers, chunk_tokens
        self._probe: tuple[Loading, bool] | None = None

    @property
    def counts(self) -> GateCounts:
        """What was decided, and how well it was predicted."""
        return self._gate.counts

    @property
    def told(self) -> str:
        """For a record: what is known of store and engine."""
        return self._gate.told

    def look(self, request: Request, keys: Sequence[bytes], decoding: int) -> Look:
        """Look for a request's chunks; the request is told what is fetched of them. What is found, by tier, and the seconds that took."""
        looked = self._tiers.look(keys)
        *above, present = looked.by_tier
        before = sum(above)
        first = request.hbm_hit_tokens // self._chunk_tokens
        hit = max(request.hbm_hit_tokens, (first + before) * self._chunk_tokens)
        own = keys[before:]
        found = 0
        if own:
            self._gate.engine_runs(decoding)
            found = self._gate.decide(own, present, request.prompt_tokens - hit, hit).found
        told = NOBODY
        if found:
            loading = self._gate.load_waits(own[:found], found * self._tiers.chunk_bytes)
            told = Told(partial(self._gate.load_begins, loading), partial(self._gate.load_ends, loading))
        request.fetch = self._tiers.fetch(keys, (*above, found), told)
        return Look(looked.seconds, request.fetch.found)

    def load(self, request: Request, keys: Sequence[bytes]) -> Load:
        """Load what `look` has found."""
        assert request.fetch is not None
        return self._tiers.load_fetched(keys, request.fetch)

    def saves_until(self, end_s: float) -> None:
        """A save has begun, and nothing is loaded before its end."""
        self._gate.busy_until(end_s)

    def ended(self, request: Request, load: Load) -> None:
        """What was found was loaded, as far as it was still there."""
        assert request.fetch is not None
        request.fetch.told.ended(load.present == sum(request.fetch.found))

    def unsaved(self, keys: Sequence[bytes]) -> list[bytes]:
        """Of chunks that were computed those that have to be saved: the others are there, and were left."""
        left = self._gate.saves(keys, len(keys) * self._tiers.chunk_bytes)
        return [key for key, was_left in zip(keys, left, strict=True) if not was_left]

    def probe(self) -> float:
        """Begin to load a few chunks that were left, if the gate wants it; the seconds it takes, 0 for none."""
        keys = [key for key in self._gate.to_probe() if isinstance(key, bytes)]
        if not keys:
            return 0.0
        loading = self._gate.load_waits(keys, len(keys) * self._tiers.chunk_bytes)
        self._gate.load_begins(loading)
        load = self._tiers.load_last(keys)
        self._probe = loading, load.present == len(keys)
        return load.seconds

    def probed(self) -> None:
        """These seconds have passed."""
        assert self._probe is not None
        self._gate.load_ends(*self._probe)
