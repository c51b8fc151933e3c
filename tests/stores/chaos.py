"""A store whose values are read from its own files while it is killed, compacted and overwritten: no wrong byte is served.

    python -m tests.stores.chaos kvrocks --program FILE --client direct --rounds 1000 --seed 7

A round is one event under load: a kill -9 and a restart, a compaction, everything deleted, a folder wiped whose file numbers
begin anew. One writer sets and deletes, readers ask LOCATE and read the place; what does not prove itself, or has gone, they
ask for by GET. What they then have is one value, whole, of that key, and not from before what was acknowledged. Client
`located` keeps values as they are and reads them here; `direct` is the product's connector, with its stripes.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import cyclopts
import numpy as np
import redis

from tests.plugin.native import compiled_library
from tests.soak.values import Values
from tests.stores.located import Place, locate
from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.registry import make_store
from workflow.hyperkv.stores.server import ServerStore
from workflow.plugin.lmcache_striped.stripes import parts_of, stripe_key

KEYS = 24
READERS = 2
SIZES = (20_000, 65_537, 262_144, 300_001)
EVENTS = {"kill": 6, "compact": 3, "flush": 1, "wipe": 1}
SETTINGS = {
    "rocksdb.enable_blob_files": "yes",
    "rocksdb.compression": "no",
    "rocksdb.write_buffer_size": 1,
    "rocksdb.level0_file_num_compaction_trigger": 2,
    "rocksdb.blob_garbage_collection_age_cutoff": 100,
    "rocksdb.blob_file_size": 1 << 20,
    "rocksdb.max_total_wal_size": 16,
    "rocksdb.wal_ttl_seconds": 0,
    "rocksdb.wal_size_limit_mb": 0,
}
_READS_PER_ROUND = 8
_ROUND_S = 5.0
_FAILURES = (StoreError, redis.RedisError, OSError)


STRIPE_BYTES = 20_000


class Client(Protocol):
    """What the load needs of a store."""

    def put(self, index: int, value: np.ndarray) -> None: ...

    def get(self, indexes: Sequence[int]) -> list[bytes | None]: ...

    def delete(self, index: int) -> None: ...

    def close(self) -> None: ...


Opened = Callable[["Load", ServerStore], Client]


class Located:
    """Values as they are, read from the places that LOCATE says."""

    def __init__(self, load: Load, store: ServerStore):
        self._load, self._folder = load, store.config.directory
        self._redis = store.client(timeout_s=10.0)

    def put(self, index: int, value: np.ndarray) -> None:
        self._redis.set(self._load.values.key(index), value.tobytes())

    def delete(self, index: int) -> None:
        self._redis.delete(self._load.values.key(index))

    def get(self, indexes: Sequence[int]) -> list[bytes | None]:
        life = self._load.life
        keys = [self._load.values.key(index) for index in indexes]
        answers = zip(indexes, keys, locate(self._redis, keys), strict=True)
        return [self._value(index, key, answer, life) for index, key, answer in answers]

    def _value(self, index: int, key: bytes, answer: Place | bytes | None, life: int) -> bytes | None:
        if isinstance(answer, Place):
            with contextlib.suppress(FileNotFoundError):
                found = answer.read(self._folder)
                if self._load.proves(index, found):
                    self._load.count("from files")
                    return found
                self._load.count("unproved")
                if self._load.is_alive(life):
                    self._load.found(f"key {index}: {answer} was told, and its bytes are not the value")
            self._load.count("asked again")
        return None if answer is None else self._redis.get(key)

    def close(self) -> None:
        self._redis.close()


class Direct:
    """Values as chunks of the product's connector, whose loads are from files. library: its compiled code."""

    def __init__(self, load: Load, store: ServerStore, library: Path):
        self._load = load
        self._redis = store.client(timeout_s=10.0)
        self._connector = make_connector("direct", store, 2, 10.0, stripe_bytes=STRIPE_BYTES, library=library)

    def put(self, index: int, value: np.ndarray) -> None:
        self._connector.put([self._load.values.key(index)], [value])

    def delete(self, index: int) -> None:
        key, parts = self._load.values.key(index), parts_of(self._load.values.size, STRIPE_BYTES)
        self._redis.delete(*[stripe_key(key, part.index) for part in parts])

    def get(self, indexes: Sequence[int]) -> list[bytes | None]:
        buffers = [np.zeros(self._load.values.size, np.uint8) for _ in indexes]
        before = self._connector.file_counts.from_files
        found = self._connector.get([self._load.values.key(index) for index in indexes], buffers)
        if self._connector.file_counts.from_files > before:
            self._load.count("from files")
        return [buffer.tobytes() if hit else None for hit, buffer in zip(found, buffers, strict=True)]

    def close(self) -> None:
        self._redis.close()
        counts = self._connector.file_counts
        self._load.count("stripes from files", counts.from_files)
        self._load.count("stripes asked again", counts.retried)
        with contextlib.suppress(StoreError, OSError):
            self._connector.close()


class Load:
    """A writer and readers of one store, and what they found. wal: whether the store keeps a log."""

    def __init__(self, store: ServerStore, seed: int, wal: bool, opened: Opened):
        self.values = Values(seed, SIZES[seed % len(SIZES)])
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.life = 0  # even while a server lives
        self._store, self._seed, self._wal, self._opened = store, seed, wal, opened
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._clear = threading.Event()
        self._started = np.zeros(KEYS, np.int64)
        self._floor = np.zeros(KEYS, np.int64)

    def count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self.counts[name] += by

    def found(self, text: str) -> None:
        with self._lock:
            self.findings.append(text)

    def is_alive(self, life: int) -> bool:
        """Whether the server still lives that lived when `life` was read."""
        return life == self.life and life % 2 == 0

    def proves(self, index: int, received: bytes) -> bool:
        """Whether bytes are a value of this key, whole, whatever its generation."""
        if len(received) != self.values.size:
            return False
        data = np.frombuffer(received, np.uint8)
        return self.values.judge(index, data, 0, sys.maxsize)[1] is None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Writer and readers are at work meanwhile."""
        work = [(self._write, 0), *((self._read, number) for number in range(1, READERS + 1))]
        threads = [threading.Thread(target=self._until_stopped, args=pair) for pair in work]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(60)
                if thread.is_alive():
                    self.found("a thread hangs")

    def _until_stopped(self, work, number: int) -> None:
        rng, client = random.Random(f"{self._seed} {number}"), None
        while not self._stopping.is_set():
            try:
                client = client or self._opened(self, self._store)
                work(client, rng)
            except _FAILURES:
                if client is not None:
                    client.close()
                client = None
                self._stopping.wait(0.002)
            except BaseException as error:
                self.found(f"{type(error).__name__}: {error}")
                return
        if client is not None:
            client.close()

    def _write(self, client: Client, rng: random.Random) -> None:
        index, life = rng.randrange(KEYS), self.life
        if self._clear.is_set():
            with self._store.client() as control:
                control.flushall()
            self._clear.clear()
            self._raise_floor(slice(None), self._started + 1, life)
        elif rng.random() < 0.1:
            client.delete(index)
            self._raise_floor(index, self._started[index] + 1, life)
            self.count("deletions")
        else:
            self._started[index] += 1
            client.put(index, self.values.value(index, int(self._started[index])))
            self._raise_floor(index, self._started[index], life)
            self.count("sets")

    def _raise_floor(self, index, generation, life: int) -> None:
        """What was acknowledged holds while this server lives, and of one with a log afterwards."""
        with self._lock:
            if self.is_alive(life):
                self._floor[index] = generation

    def _read(self, client: Client, rng: random.Random) -> None:
        indexes = rng.sample(range(KEYS), rng.randrange(1, 5))
        with self._lock:
            floor = self._floor.copy()
        found = client.get(indexes)
        with self._lock:
            newest = self._started.copy()
        for index, value in zip(indexes, found, strict=True):
            self.count("misses" if value is None else "hits")
            if value is not None:
                data = np.frombuffer(value, np.uint8)
                _, reason = self.values.judge(index, data, int(floor[index]), int(newest[index]))
                if reason is not None:
                    self.found(reason)
        self.count("reads")

    # Events

    def event(self, name: str) -> None:
        """One event, and then some reads."""
        getattr(self, "_" + name)()
        self.count(name)
        wanted, deadline = self.counts["reads"] + _READS_PER_ROUND, time.monotonic() + _ROUND_S
        while self.counts["reads"] < wanted and time.monotonic() < deadline and not self.findings:
            time.sleep(0.005)

    @contextlib.contextmanager
    def _end_of_a_life(self, floor: np.ndarray | int | None) -> Iterator[None]:
        """No server lives meanwhile. floor: what holds afterwards; None for what held before."""
        with self._lock:
            self.life += 1
            if floor is not None:
                self._floor[:] = floor
        yield
        with self._lock:
            self.life += 1

    def _kill(self) -> None:
        with self._end_of_a_life(None if self._wal else 0):
            self._store.kill()
            self._store.restart()

    def _wipe(self) -> None:
        with self._end_of_a_life(0):
            self._store.kill()
            self._store.stop()
            shutil.rmtree(self._store.config.directory)
            with self._lock:
                self._floor[:] = self._started + 1
            self._store.start()

    def _compact(self) -> None:
        with contextlib.suppress(redis.ResponseError), self._store.client() as control:
            control.execute_command("COMPACT")  # the rocksdb server compacts by itself alone

    def _flush(self) -> None:
        self._clear.set()


def chaos(
    store: ServerStore,
    rounds: int,
    seed: int,
    wal: bool,
    opened: Opened = Located,
    say: Callable[[str], None] = lambda _: None,
) -> Load:
    """So many rounds on a started store, fewer when something is found."""
    rng, load = random.Random(seed), Load(store, seed, wal, opened)
    with load.running():
        for number in range(rounds):
            load.event(rng.choices([*EVENTS], [*EVENTS.values()])[0])
            if load.findings:
                break
            if (number + 1) % 50 == 0:
                say(f"{number + 1} rounds: {dict(load.counts)}")
    return load


def direct(library: Path) -> Opened:
    """Clients by the product's connector."""
    return lambda load, store: Direct(load, store, library)


def settings_of(name: str, wal: bool) -> dict[str, object]:
    """Small buffers and files, so that all moves all the time."""
    own = {"direct_io": "no"} if name == "rocksdb" else {}
    return SETTINGS | {"rocksdb.write_options.disable_wal": "no" if wal else "yes"} | own


def main(
    store: Literal["rocksdb", "kvrocks"],
    *,
    program: Path | None = None,
    client: Literal["located", "direct"] = "located",
    rounds: int = 1000,
    seed: int | None = None,
    wal: bool = False,
    dir: Path | None = None,
) -> int:
    """Exit status: 0, or 1 when something was found.

    Parameters
    ----------
    program
        a Kvrocks with patch locate-values
    wal
        the store keeps a log, so that nothing acknowledged may be lost
    dir
        folder for everything; default a temporary one
    """
    seed = random.SystemRandom().randrange(1 << 16) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="hyperkv-chaos-", dir=dir) as made:
        folder = Path(made).resolve()
        settings = settings_of(store, wal)
        config = StoreConfig(folder / "data", max(SIZES), folder / "log", settings=settings, program=program)
        print(f"chaos · seed {seed} · {store} by {client} · {rounds} rounds · {folder}", flush=True)
        opened = Located if client == "located" else direct(compiled_library(folder))
        with make_store(store, config) as started:
            load = chaos(started, rounds, seed, wal, opened, lambda text: print(text, flush=True))
    print(f"{dict(load.counts)}\n{len(load.findings)} found", *load.findings[:10], sep="\n")
    return int(bool(load.findings))


if __name__ == "__main__":
    sys.exit(cyclopts.App(name="python -m tests.stores.chaos", default_command=main)())
