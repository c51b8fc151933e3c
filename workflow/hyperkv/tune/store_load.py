"""The load of one trial: the chunks of a prompt set and got at once, round after round, on a fresh store of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...plugin.lmcache_striped.base import Connector
from ..base.errors import StoreError
from ..cells.cell import CellSpec
from ..cells.point import point_keys
from ..connectors.registry import alone, make_connector, options_of
from ..records.evidence import served_from_ram
from ..records.kinds.tune import Round
from ..stores.base import Counters, Store, StoreConfig
from ..stores.registry import make_store
from ..workloads.payload import Payload, aligned_buffer, slots

_KTOKENS = 1000


def measured_rounds(
    spec: Mapping[str, Any], scenario: Mapping[str, Any], logs: Path
) -> Generator[Round, None, None]:
    """The rounds of a trial; the store ends with the iterator.

    spec: of the stage. scenario: the sweep's, with the trial's values. Tokens beyond the last whole chunk take no part.
    The cost is get_weight x GET + the rest x SET, in seconds per 1,000 tokens: a smaller number format costs less.

    Raises StoreError (or UserError) for what makes a trial fail: errors, wrong or missing bytes, a dead server, and for
    tier ssd bytes that came from memory.
    """
    cell = CellSpec({**spec["sweep"], "scenario": scenario}, 1, 1, logs)
    value_bytes = cell.geometry.chunk_bytes(scenario["chunk_tokens"])
    count = max(1, spec["prompt_tokens"] // scenario["chunk_tokens"])
    payload, buffers = Payload(value_bytes), slots(aligned_buffer(count * value_bytes), value_bytes)
    others = max(1, -(-(spec["warm_up_bytes"] or count * value_bytes) // value_bytes))
    with contextlib.ExitStack() as stack:
        directory = cell.with_folder(stack).directory / scenario["store"]
        log = logs / f"tune-{scenario['name']}.log"
        config = StoreConfig.of(scenario, directory, value_bytes, log, scenario["capacity_bytes"])
        store = stack.enter_context(make_store(scenario["store"], config))
        connector = stack.enter_context(_connected(store, scenario))
        load = _Load(spec, scenario, store, connector, payload)
        load.set(point_keys("warm-up", 0, others))
        for number in range(1, spec["rounds"] + 1):
            yield load.round(point_keys("round", number, count), buffers, others)


class _Load:
    """SETs and GETs of batches of chunks, with what they must prove."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        scenario: Mapping[str, Any],
        store: Store,
        connector: Connector,
        payload: Payload,
    ):
        self._spec, self._scenario = spec, scenario
        self._store, self._connector, self._payload = store, connector, payload

    def round(self, keys: Sequence[bytes], buffers: Sequence[Any], others: int) -> Round:
        """Set the chunks, let others push them out of the write buffer, get them, and say what that took."""
        set_s = self.set(keys)
        if self._scenario["tier"] == "ssd":
            self.set(point_keys(f"after {keys[0].hex()}", 0, others))
            if self._scenario["page_cache"] == "evict":
                self._store.evict_page_cache()
        before = self._store.counters()
        get_s, found = self._timed(lambda: self._connector.get(keys, buffers))
        after = self._store.counters()
        self._prove(keys, found, buffers)
        moved = len(keys) * self._payload.value_bytes
        share = _device_share(before, after, moved)
        if self._scenario["tier"] == "ssd":
            self._prove_device(share)
        weight, ktokens = self._spec["get_weight"], len(keys) * self._scenario["chunk_tokens"] / _KTOKENS
        return Round(
            cost_s_per_ktokens=(weight * get_s + (1 - weight) * set_s) / ktokens,
            set_gbps=moved / set_s / 1e9,
            get_gbps=moved / get_s / 1e9,
            device_share=share,
        )

    def set(self, keys: Sequence[bytes]) -> float:
        """Seconds that setting the keys' values took."""
        values = [self._payload.value(key) for key in keys]
        return self._timed(lambda: self._connector.put(keys, values))[0]

    def _timed(self, work: Any) -> tuple[float, Any]:
        started = time.perf_counter()
        with self._store.explaining():
            result = work()
        return time.perf_counter() - started, result

    def _prove(self, keys: Sequence[bytes], found: Sequence[bool], buffers: Sequence[Any]) -> None:
        if wrong := self._payload.wrong(keys, found, buffers):
            raise StoreError(f"store {self._store.name}: {wrong} of {len(keys)} chunks were missing or wrong")
        if errors := self._store.counters().details.get("background_errors"):
            raise StoreError(f"store {self._store.name}: it reports {errors} background errors")

    def _prove_device(self, share: float | None) -> None:
        least = self._spec["sweep"]["evidence"]["device_share_min"]
        if share is None or share < least:
            reason = served_from_ram(share, least, "got")
            raise StoreError(f"store {self._store.name}: {reason}; raise tune.warm_up_bytes")


def _connected(store: Store, scenario: Mapping[str, Any]) -> Connector:
    name = alone(scenario["connector"])
    options = options_of(name, scenario)
    return make_connector(name, store, scenario["connections"], scenario["timeout_s"], **options)


def _device_share(before: Counters, after: Counters, moved: int) -> float | None:
    read = after.minus(before)["device_read_bytes"]
    return None if read is None else read / moved
