"""Loads while saves go on, with and without a share for saves, against loads alone: p99, GB/s, on a store of this machine.

    python -m workflow.hyperkv.profile.bench_saves [--store rocksdb] [--data-dir results/data] [--rounds 5]

A round has a fresh store and the three ways in turn, each with as many loads, one after the other, of chunks drawn at random; the files
leave the page cache before each, outside its time. Saves of new chunks are offered all the while at `save-gbps`, and what the queue has
no room for is dropped. Between two ways the store ends what it has to write. Rounds begin with another way each; ratios are medians
of what two ways of one round gave.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ...plugin.lmcache_striped.cache import CacheSettings, StripedCache
from ...plugin.lmcache_striped.save_share import SaveShare
from ..base.cli import run_stage
from ..base.config_files import read_mapping
from ..base.errors import UserError
from ..base.options import Count, Positive
from ..cells.point import point_keys
from ..connectors.registry import LIBRARY
from ..machine.own_folder import own_folder
from ..stores.base import Store, StoreConfig
from ..stores.registry import make_store, store_class
from ..workloads.payload import Payload, aligned_buffer, slots

_TUNED = Path("config/kvrocks/tuned.yaml")
_WAYS = ("no saves", "saves", "saves with a share")
_SMALL = {"rocksdb.write_buffer_size": 64}
_QUEUE_BYTES = 256 << 20
_TIMEOUT_S = 30.0
_OFFERS_PER_S = 50


class AllAtOnce(SaveShare):
    """No share: saves go on as they come."""

    def wait(self, size: int) -> float:
        return 0.0


@dataclass(frozen=True)
class Way:
    """What a round gave in one way. loads_s: seconds of each load. save_gbps: of what was saved meanwhile. dropped: share of offers."""

    loads_s: list[float]
    load_gbps: float
    save_gbps: float
    dropped: float

    @property
    def p99_s(self) -> float:
        return float(np.percentile(self.loads_s, 99))


@dataclass(frozen=True)
class Setting:
    """What is moved. A load is of `together` chunks, of `count` that are there."""

    chunk_bytes: int
    together: int
    count: int
    loads: int
    save_gbps: float
    connections: int


def main(
    *,
    store: str = "rocksdb",
    data_dir: Path = Path("results/data"),
    program: Path | None = None,
    chunk_bytes: Count = 8 << 20,
    together: Count = 4,
    count: Count = 32,
    loads: Count = 60,
    save_gbps: Positive = 0.3,
    connections: Count = 4,
    rounds: Count = 5,
) -> None:
    """Measure and print.

    Args:
        store: valkey, rocksdb or kvrocks.
        data_dir: where its files are.
        program: a server's program.
        together: chunks of a load.
        count: chunks that are there.
        loads: of each way in a round.
        save_gbps: rate at which chunks are offered.
    """
    if not store_class(store).is_server:
        raise UserError(f"bench_saves: --store: {store} has no server; choose valkey, rocksdb or kvrocks")
    setting = Setting(chunk_bytes, together, count, loads, save_gbps, connections)
    found: dict[str, list[Way]] = {way: [] for way in _WAYS}
    for number in range(rounds):
        with own_folder(data_dir, f"saves beside loads of {store}", "--data-dir") as folder:
            with make_store(store, config_of(store, folder, chunk_bytes, program)) as one:
                for way in _WAYS[number % 3 :] + _WAYS[: number % 3]:
                    found[way].append(measured(one, setting, way, number))
    print(table(found, f"{store}, {data_dir}, {setting.together * chunk_bytes >> 20} MiB a load"), flush=True)


def config_of(store: str, folder: Path, chunk_bytes: int, program: Path | None) -> StoreConfig:
    """A server in `folder` with preset `tuned`, whose small write buffers leave what is there in files."""
    tuned = read_mapping(_TUNED, "bench", "it is a preset")
    own = {"valkey": {}, "kvrocks": tuned["settings"] | _SMALL, "rocksdb": tuned["settings"] | _SMALL}[store]
    settings = {key: value for key, value in own.items() if store == "kvrocks" or key != "workers"}
    environment = tuned["environment"] if store == "kvrocks" else {}
    log = folder / f"{store}.log"
    return StoreConfig(
        folder / store, chunk_bytes, log, settings=settings, environment=environment, program=program
    )


def measured(store: Store, setting: Setting, way: str, number: int) -> Way:
    """One way of a round. Raises UserError when a chunk that was saved before does not come back."""
    keys = point_keys("there", number, setting.count)
    payload = Payload(setting.chunk_bytes)
    buffers = slots(aligned_buffer(setting.together * setting.chunk_bytes), setting.chunk_bytes)
    rng, values = np.random.default_rng(number), [payload.value(key) for key in keys]
    with _cache(store, setting, way) as cache:
        if not all(cache.present(keys)):
            cache.offer(keys, values, lambda _: None)
            _settle(store, cache)
        loads_s: list[float] = []
        with _saving(cache, values, setting, way, number) as saves:
            for _ in range(setting.loads):
                drawn = [keys[index] for index in rng.choice(setting.count, setting.together, replace=False)]
                store.evict_page_cache()
                begun = time.perf_counter()
                if not all(cache.load(drawn, buffers)):
                    raise UserError(f"bench_saves: store {store.name} did not give back what it was given")
                loads_s.append(time.perf_counter() - begun)
        _settle(store, cache)
    moved = setting.loads * setting.together * setting.chunk_bytes
    return Way(loads_s, moved / sum(loads_s) / 1e9, saves.gbps, saves.dropped)


class Saves:
    """Chunks of some values offered at a rate until it is stopped, each under a key of its own."""

    def __init__(self, cache: StripedCache, values: Sequence[np.ndarray], setting: Setting, name: str):
        self._cache, self._values, self._setting, self._name = cache, values, setting, name
        self._stop = threading.Event()
        self._saved_bytes = self._offered = self._refused = 0
        self._begun = time.perf_counter()
        self.gbps = self.dropped = 0.0
        self._thread = threading.Thread(target=self._work)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        elapsed_s = time.perf_counter() - self._begun
        self._stop.set()
        self.gbps = self._saved_bytes / elapsed_s / 1e9
        self._thread.join()
        self.dropped = self._refused / max(1, self._offered)

    def _work(self) -> None:
        size = self._setting.chunk_bytes
        while not self._stop.wait(1 / _OFFERS_PER_S):
            due = self._setting.save_gbps * 1e9 * (time.perf_counter() - self._begun) // size
            while self._offered < due:
                (key,) = point_keys(self._name, self._offered, 1)
                value = self._values[self._offered % len(self._values)]
                self._offered += 1
                self._refused += not self._cache.offer([key], [value], self._ended)

    def _ended(self, saved: bool) -> None:
        self._saved_bytes += self._setting.chunk_bytes if saved else 0


@contextmanager
def _saving(
    cache: StripedCache, values: Sequence[np.ndarray], setting: Setting, way: str, number: int
) -> Iterator[Saves]:
    saves = Saves(cache, values, setting, f"{way} {number}")
    if way == _WAYS[0]:
        yield saves
        return
    saves.start()
    try:
        yield saves
    finally:
        saves.stop()


@contextmanager
def _cache(store: Store, setting: Setting, way: str) -> Iterator[StripedCache]:
    settings = CacheSettings(
        tuple(store.endpoints),
        connections=setting.connections,
        timeout_s=_TIMEOUT_S,
        save_queue_bytes=max(_QUEUE_BYTES, setting.count * setting.chunk_bytes),
        library=LIBRARY if LIBRARY.exists() else None,
    )
    share = SaveShare() if way == _WAYS[2] else AllAtOnce()
    cache = StripedCache(settings, share=share)
    try:
        yield cache
    finally:
        cache.close()


def _settle(store: Store, cache: StripedCache) -> None:
    """Wait until nothing is being saved, and the store's memory is on its device."""
    cache.wait_saved(_TIMEOUT_S)
    store.push_out_writes()
    deadline = time.monotonic() + _TIMEOUT_S
    while store.counters().details.get("memtables_to_flush", 0) and time.monotonic() < deadline:
        time.sleep(0.05)


def table(found: Mapping[str, list[Way]], what: str) -> str:
    """Medians of every way, and its p99 over that of loads alone in the same round."""
    alone = found[_WAYS[0]]
    rows = []
    for way, rounds in found.items():
        over = statistics.median(each.p99_s / first.p99_s for each, first in zip(rounds, alone, strict=True))
        figures = {
            "p50 ms": statistics.median(statistics.median(each.loads_s) for each in rounds) * 1e3,
            "p99 ms": statistics.median(each.p99_s for each in rounds) * 1e3,
            "p99 / alone": over,
            "load GB/s": statistics.median(each.load_gbps for each in rounds),
            "save GB/s": statistics.median(each.save_gbps for each in rounds),
            "dropped": statistics.median(each.dropped for each in rounds),
        }
        rows.append({"loads with": way} | {name: f"{value:.3g}" for name, value in figures.items()})
    head = f"{what}, median of {len(alone)} rounds"
    return f"{head}\n{tabulate(rows, headers='keys', disable_numparse=True)}\n"


if __name__ == "__main__":
    sys.exit(run_stage("bench_saves", main))
