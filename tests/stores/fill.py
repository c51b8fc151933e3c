"""A store with a bound under a conversation trace that writes many times the bound: space, writes, loads, hits, wrong bytes.

    python -m tests.stores.fill kvrocks --program FILE --times 10 --kills 4
    python -m tests.stores.fill rocksdb --unbounded          # what its loads are held against

Requests come as N clients send them (workloads/closed_loop.py): each looks its prompt up, loads what is found and offers the
rest and its answer to be saved, by the product's own cache (below an LMCache server), or its own connector for files. What is
loaded is held against what was saved. Space is what the file system gives to the store's folder, of valkey what its process has in
memory, all the time once it has been full; writes are those of the process to the device (/proc/PID/io). Hits are held against an ideal LRU of as many chunks.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import cyclopts
import numpy as np
import yaml

from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.machine.counters import process_counters
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.stores.base import Store, StoreConfig
from workflow.hyperkv.stores.registry import make_store
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.hyperkv.workloads.closed_loop import ClosedLoop
from workflow.hyperkv.workloads.factory import make_workload
from workflow.hyperkv.workloads.payload import Payload, aligned_buffer, slots
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings
from workflow.plugin.lmcache_striped.order import Entry
from workflow.plugin.lmcache_striped.save_queue import SaveQueue
from workflow.plugin.lmcache_striped.stripes import parts_of

MIB = 1 << 20
CHUNK_TOKENS = 256
_SAMPLE_S = 0.2
_QUEUE_BYTES = 256 * MIB
_WORKLOAD = {
    "kind": "multi_turn",
    "turns": [2, 28],
    "prefix_tokens": [800, 1200],
    "user_tokens": [50, 150],
    "answer_tokens": [100, 230],
}


class OfServers:
    """The product's cache over stripes."""

    def __init__(self, store: Store, stripe_bytes: int, bound_bytes: int | None):
        self.said: list[str] = []
        self.cache = StripedCache(
            CacheSettings(
                tuple(store.endpoints),
                2,
                stripe_bytes=stripe_bytes,
                timeout_s=10.0,
                retry_s=0.1,
                save_queue_bytes=_QUEUE_BYTES,
                bound_bytes=bound_bytes,
            ),
            self.said.append,
            self.said.append,
        )
        self.look, self.load, self.offer = self.cache.count_present, self.cache.load, self.cache.offer
        self.wait = self.cache.wait_saved
        if self.cache.bound is not None:
            assert self.cache.bound.wait(30), self.said

    def used_bytes(self) -> int:
        return 0 if self.cache.counts.bound is None else self.cache.counts.bound.used_bytes

    def close(self) -> None:
        self.cache.close()
        print(self.cache.counts, *self.said[-3:], sep="\n", file=sys.stderr)


class OfFiles:
    """Connector inprocess over store files, its saves behind the requests as well."""

    def __init__(self, store: Store):
        self._store = store
        self._loads, self._saves = (make_connector("inprocess", store, 2) for _ in range(2))
        self._queue = SaveQueue(self._saves.put, _QUEUE_BYTES)
        self.look, self.load, self.offer = self._loads.count_present, self._loads.get, self._queue.offer
        self.wait = self._queue.wait_empty

    def used_bytes(self) -> int:
        return self._store.used_bytes

    def close(self) -> None:
        self._queue.close()
        print(*self._store.notes(), file=sys.stderr)


class Ideal:
    """An LRU of so many chunks: a prompt's whole prefix is used, and what was missing saved, the end of it first."""

    def __init__(self, capacity: int | None):
        self.capacity = capacity
        self._held: OrderedDict[bytes, None] = OrderedDict()

    def ask(self, prompt: Sequence[bytes], saved: Sequence[bytes]) -> int:
        found = next((at for at, key in enumerate(prompt) if key not in self._held), len(prompt))
        for key in [*reversed(saved[len(prompt) :]), *reversed(prompt)]:
            self._held.pop(key, None)
            self._held[key] = None
        while self.capacity is not None and len(self._held) > self.capacity:
            self._held.popitem(last=False)
        return found


class Space:
    """What a store takes, looked at all the time while `counting`."""

    def __init__(self, taken: Callable[[], int]):
        self._taken, self._ended = taken, threading.Event()
        self.counting = False
        self.most, self._sum, self._count = 0, 0, 0
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Space:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def mean(self) -> float:
        return self._sum / max(1, self._count)

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            if self.counting:
                now = self._taken()
                self.most = max(self.most, now)
                self._sum, self._count = self._sum + now, self._count + 1


def taken(store: Store) -> int:
    """Bytes of the blocks of all files below a store's folder; of one in memory, those of its process."""
    return (
        process_counters(store.pid()).rss_bytes or 0
        if store.medium == "ram"
        else taken_on_disk(store.config.directory)
    )


def taken_on_disk(folder: Path) -> int:
    """Bytes of the blocks of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(place, name)).st_blocks * 512
    return total


def requests(seed: int, clients: int) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Keys of the chunks of a prompt, and of it and its answer, in the order in which requests come, without end."""
    for number in range(1 << 20):
        conversations = make_workload({**_WORKLOAD, "conversations": 10 * clients}, seed + number)
        keys = [chain_keys(each.tokens, CHUNK_TOKENS, b"%d" % number) for each in conversations]
        loop = ClosedLoop([len(each.turns) for each in conversations], clients, clients)
        alive = list(range(clients))
        while alive:
            for client in alive.copy():
                if (sent := loop.send(client)) is None:
                    alive.remove(client)
                    continue
                turn = conversations[sent[0]].turns[sent[1]]
                whole = keys[sent[0]][: turn.answer_end // CHUNK_TOKENS]
                yield whole[: (turn.prompt_end - 1) // CHUNK_TOKENS], whole
                loop.answered(client)


def fill(
    store: Store,
    open_client: Callable[[], OfServers | OfFiles],
    bound_bytes: int,
    chunk_bytes: int,
    stored_bytes: int,
    written_bytes: int,
    clients: int,
    kills: int,
    seed: int,
    bounded: bool,
) -> dict[str, float]:
    """What a run gives. written_bytes: of chunks saved, when it ends."""
    payload, rng = Payload(chunk_bytes, seed), random.Random(seed)
    kill_at = sorted(rng.uniform(0.2, 1.0) * written_bytes for _ in range(kills))
    ideal = Ideal(bound_bytes // stored_bytes if bounded else None)
    pid = store.pid()
    written, started = 0, process_counters(pid).device_write_bytes or 0
    saved = wrong = asked = found_chunks = ideal_chunks = lost = 0
    per_gb: list[float] = []
    full: list[float] = []
    client = open_client()
    buffers = slots(aligned_buffer(256 * chunk_bytes), chunk_bytes)
    with Space(partial(taken, store)) as space:
        begun = time.monotonic()
        for prompt, whole in requests(seed, clients):
            space.counting = space.counting or saved > bound_bytes * 1.2
            if kill_at and saved > kill_at[0]:
                kill_at.pop(0)
                written += (process_counters(pid).device_write_bytes or 0) - started
                store.kill()
                store.restart()
                pid, started = store.pid(), 0
                lost += 1
            since = time.perf_counter()
            there = client.look(prompt)
            loaded = client.load(prompt[:there], buffers[:there]) if there else []
            seconds = time.perf_counter() - since
            hits = next((at for at, hit in enumerate(loaded) if not hit), len(loaded))
            wrong += sum(
                hit and not payload.matches(key, buffer)
                for key, hit, buffer in zip(prompt[:there], loaded, buffers[:there], strict=True)
            )
            if hits:
                per_gb.append(seconds / (hits * chunk_bytes) * 1e9)
            expected = ideal.ask(prompt, whole)
            if saved > bound_bytes * 1.2 or not bounded:
                asked, found_chunks, ideal_chunks = (
                    asked + len(prompt),
                    found_chunks + hits,
                    ideal_chunks + expected,
                )
                if bounded:
                    full.append(client.used_bytes() / bound_bytes)
            missing = whole[hits:]
            if missing and client.offer(missing, [payload.value(key) for key in missing], lambda _: None):
                saved += len(missing) * chunk_bytes
            client.wait(60)
            if saved >= written_bytes:
                break
        client.wait(60)
        elapsed = time.monotonic() - begun
    written += (process_counters(pid).device_write_bytes or 0) - started
    client.close()
    return {
        "saved_gb": saved / 1e9,
        "seconds": elapsed,
        "space_over_bound_most": space.most / bound_bytes,
        "space_over_bound_mean": space.mean / bound_bytes,
        "full_mean": float(np.mean(full)) if full else 0.0,
        "full_least": min(full, default=0.0),
        "write_amplification": written / saved,
        "load_s_per_gb_p50": float(np.percentile(per_gb, 50)),
        "load_s_per_gb_p99": float(np.percentile(per_gb, 99)),
        "hit_share": found_chunks / max(1, asked),
        "ideal_hit_share": ideal_chunks / max(1, asked),
        "wrong_chunks": wrong,
        "kills": lost,
    }


def main(
    store: Literal["files", "valkey", "rocksdb", "kvrocks"],
    *,
    program: Path | None = None,
    bound_mib: int = 1024,
    chunk_kib: int = 4096,
    stripe_kib: int = 1024,
    times: float = 10.0,
    clients: int = 12,
    kills: int = 0,
    seed: int = 1,
    unbounded: bool = False,
    set_: list[str] | None = None,
    dir: Path | None = None,
) -> int:
    """Exit status: 0, or 1 when a wrong byte was loaded.

    Parameters
    ----------
    program
        a Kvrocks with patch compaction-by-keys
    times
        how many times the bound is written
    unbounded
        the same load on the store without a bound
    set_
        KEY=VALUE of the store's settings, on top
    """
    bound, chunk, stripe = bound_mib * MIB, chunk_kib << 10, stripe_kib << 10
    settings = dict(word.split("=", 1) for word in set_ or [])
    preset = yaml.safe_load(Path("config/kvrocks/tuned.yaml").read_text()) if store == "kvrocks" else {}
    stored = Entry(bytes(16), chunk, 0 if store == "files" else len(parts_of(chunk, stripe))).stored_bytes
    with tempfile.TemporaryDirectory(prefix="hyperkv-fill-", dir=dir) as made:
        folder = Path(made).resolve()
        config = StoreConfig(
            folder / "data",
            chunk,
            folder / "log",
            port=free_port(),
            settings=preset.get("settings", {}) | settings,
            environment=preset.get("environment", {}),
            program=program,
            bound_bytes=None if unbounded else bound,
            stripe_bytes=stripe,
        )
        with make_store(store, config) as started:

            def opened() -> OfServers | OfFiles:
                return (
                    OfFiles(started) if store == "files" else OfServers(started, stripe, config.bound_bytes)
                )

            found = fill(
                started, opened, bound, chunk, stored, int(times * bound), clients, kills, seed, not unbounded
            )
    print(json.dumps({"store": store, "bounded": not unbounded} | {k: round(v, 4) for k, v in found.items()}))
    return int(found["wrong_chunks"] > 0)


if __name__ == "__main__":
    sys.exit(cyclopts.App(name="python -m tests.stores.fill", default_command=main)())
