"""Half `stores`: a writer, readers, and a store that is killed, again and again; every byte that is read is judged.

A session is one store, one client and one data folder with a row of faults. What is promised of a value whose SET was
acknowledged (power is never cut, so that what the kernel has taken over counts as kept):

    while the server lives          it, or a later one, is read
    files, and a log (WAL)          the same after any end of the process: SIGKILL, SIGTERM, a full disk
    no log                          the same after a clean end (SIGTERM, status 0); after SIGKILL any earlier one, or a miss;
                                    of Kvrocks nothing when its disk was full: it ends with status 0 though it could not flush
    valkey                          nothing after an end; what is read then was written afterwards

A SET that failed or was cut off may be done at any time until the server ends, so that until then its key's promise is
what it was before. A miss is allowed, but for what is promised and was not being overwritten. Whatever is read is one
value, whole, of that key.

Client `direct` reads stripes from the files of a store that says where they lie, while compactions move them. With a bound (clients
`…-bounded`) less is kept than is saved, so that a miss is always allowed, and what is checked after
every fault is that nothing is in the store that nobody counts.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import random
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import redis

from tests.plugin.native import compiled_library, missing
from tests.soak import machine
from tests.soak.clients import STRIPE_BYTES, Client, Opened, opened_by
from tests.soak.invariants import traces_in
from tests.soak.report import Chosen, Finding, Report, Round
from tests.soak.values import Values
from workflow.hyperkv.base.errors import StoreDied, StoreError, UserError
from workflow.hyperkv.stores.base import Store, StoreConfig
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.pieces import READS
from workflow.plugin.lmcache_striped.stripes import parts_of, stripe_key

FAULTS_PER_SESSION = 12
_COUNTS = (
    *("kills", "writer kills", "ends", "hung ends", "stops", "full disks", "sets"),
    *("values", "bytes", "wrong", "older", "misses", "file stripes"),
)
_KEYS = 24
_READERS = 2
_SIZES = (4_096, 65_537, 262_144, 300_001)
_BYTES_PER_S = 60e6
_SMALL_DISK_MIB = 128
_END_S = 20.0
_ROOM_BYTES = 16 << 20  # a store that finds less need not start
_FAULTS = {"kill server": 12, "kill writer": 3, "end server": 2, "stop and go on": 2, "full disk": 2}
_CLIENTS = ("redis", "resp", "striped", "striped-native", "striped-2", "striped-bounded")
_OF_FILES = ("direct", "direct-native", "direct-native-bounded")
_BOUND_KEYS = 10
_CHURN = {  # compactions that move values from file to file
    "rocksdb.level0_file_num_compaction_trigger": 2,
    "rocksdb.blob_garbage_collection_age_cutoff": 100,
}


@dataclass(frozen=True)
class Subject:
    """A store and the client that reaches it. wal: whether it keeps a log, None where there is no such thing."""

    store: str
    client: str
    program: Path | None = None
    patched: bool = False
    wal: bool | None = None

    @property
    def label(self) -> str:
        """The store's name for counts."""
        return f"{self.store}{'-patched' if self.patched else ''}"

    @property
    def durable(self) -> bool:
        """Whether what was acknowledged survives the end of the process."""
        return self.store == "files" or bool(self.wal)

    @property
    def processes(self) -> int:
        """Servers that share the work."""
        return 2 if self.client == "striped-2" else 1

    @property
    def bounded(self) -> bool:
        """Whether its writer keeps to a bound."""
        return self.client.endswith("-bounded")

    @property
    def reads_files(self) -> bool:
        """Whether its readers read the server's files."""
        return self.client in _OF_FILES

    def __str__(self) -> str:
        log = {None: "", True: " with a log", False: " without a log"}[self.wal]
        return f"{self.label}{log} by {self.client}"


def subjects(kvrocks: Path | None, patched: Path | None, native: bool) -> list[Subject]:
    """Every store that runs here with every client that reaches it."""
    found = [Subject("files", "alone"), Subject("files", "inprocess")]
    for client in (*_CLIENTS, *_OF_FILES):
        if "native" in client and not native:
            continue
        locating = client in _OF_FILES
        if not locating:
            found.append(Subject("valkey", client))
        for wal in (True, False):
            found.append(Subject("rocksdb", client, wal=wal))
            if kvrocks is not None and not locating:
                found.append(Subject("kvrocks", client, kvrocks, wal=wal))
            if patched is not None:
                found.append(Subject("kvrocks", client, patched, patched=True, wal=wal))
    return found


class State:
    """What writer, readers and checks share across processes: generations per key, counts and a flag.

    started: of the last SET begun. acked: of the last one acknowledged. floor: the oldest that may be read. doubtful:
    whether a SET of this server's life may still be done although it failed.
    """

    def __init__(self, keys: int):
        rows = np.frombuffer(mmap.mmap(-1, 8 * (4 * keys + 2)), dtype=np.int64)
        self.started, self.acked, self.floor, self.doubtful = rows[:-2].reshape(4, keys)
        self._flags = rows[-2:]

    @property
    def stopping(self) -> bool:
        return bool(self._flags[0])

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._flags[0] = value

    @property
    def puts(self) -> int:
        """SETs acknowledged so far, of all keys."""
        return int(self._flags[1])

    def begin(self, key: int) -> int:
        """A SET begins; its generation."""
        self.started[key] += 1
        return int(self.started[key])

    def done(self, key: int) -> None:
        """The SET begun last was acknowledged."""
        self.acked[key] = self.started[key]
        if not self.doubtful[key]:
            self.floor[key] = self.acked[key]
        self._flags[1] += 1

    def writer_ended(self) -> None:
        """No writer runs: what it had begun and not seen acknowledged may still be done."""
        self.doubtful[self.started > self.acked] = 1

    def must_be_there(self) -> np.ndarray:
        """Keys whose last SET was acknowledged, with nothing in doubt since the server's start."""
        return (self.floor > 0) & (self.started == self.acked) & (self.doubtful == 0)

    def server_ended(self, kept: bool, volatile: bool, whole: bool = True) -> None:
        """The server ended. kept: what was promised still is. volatile: nothing from before can come back. whole: there is
        no other server that goes on, with SETs that may still be done."""
        if whole:
            self.doubtful[:] = 0
        if volatile and whole:
            self.floor[:] = self.started + 1
            self.started += 1
            self.acked[:] = 0
        elif not kept:
            self.floor[:] = 0
            self.acked[:] = 0


class Session:
    """One store with one client in one folder, from its start to its end."""

    def __init__(self, subject: Subject, number: int, rng: random.Random, folder: Path, library: Path | None):
        self.subject, self._rng, self._folder = subject, rng, folder
        self._values = Values(number, rng.choice(_SIZES))
        self._state = State(_KEYS)
        word = subject.client.removesuffix("-2").removesuffix("-bounded")
        options = {"read": rng.choice(READS)} if subject.reads_files else {}
        self._open: Opened = opened_by(word, library, **options)
        self._bound_bytes = _BOUND_KEYS * (self._values.size + (1 << 14)) if subject.bounded else None
        self._open_writer: Opened = opened_by(word, library, self._bound_bytes, **options)
        self._timeout_s = rng.choice([0.3, 20.0])
        self._small = machine.can_mount() and rng.random() < 0.35
        self._problems = folder / "problems"
        self._lock = threading.Lock()
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))

    def run(self, faults: int, deadline: float) -> None:
        """So many faults, fewer when time is up."""
        self._folder.mkdir(parents=True)
        with contextlib.ExitStack() as stack:
            disk = self._folder / "disk"
            if self._small:
                stack.enter_context(machine.small_disk(disk, _SMALL_DISK_MIB))
            self._disk = disk
            store = make_store(self.subject.store, self._config(disk))
            try:
                stack.enter_context(store)
                for _ in range(faults):
                    if time.monotonic() > deadline or len(self.findings) > 20:
                        break
                    self._episode(store)
                    self._take_problems()
            except (StoreError, UserError) as error:
                if self._small and shutil.disk_usage(disk).free < _ROOM_BYTES:
                    self.counts["no room"] += 1
                else:
                    self._found("starts", f"{self.subject}: {error}")
            self._take_problems()
        for log in self._folder.glob("*.log"):
            self.findings += traces_in(log.read_text(errors="replace"), f"{self.subject}: the server's log")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _config(self, disk: Path) -> StoreConfig:
        settings: dict[str, Any] = {}
        if self.subject.wal is not None:
            settings = {
                "rocksdb.write_buffer_size": self._rng.choice([1, 4, 16]),
                "rocksdb.max_write_buffer_number": self._rng.choice([2, 4]),
                "rocksdb.enable_blob_files": self._rng.choice(["yes", "no"]),
                "rocksdb.write_options.disable_wal": "no" if self.subject.wal else "yes",
                "rocksdb.max_total_wal_size": 16,
                "rocksdb.wal_ttl_seconds": 0,
                "rocksdb.wal_size_limit_mb": 0,
                "rocksdb.compression": "no",
            }
        if self.subject.reads_files:
            settings |= {"rocksdb.enable_blob_files": "yes"} | self._rng.choice([{}, _CHURN])
        if self.subject.store == "rocksdb":
            settings["direct_io"] = "no" if self._small else self._rng.choice(["yes", "no"])
        return StoreConfig(
            disk / "data",
            self._values.size,
            self._folder / "server.log",
            settings=settings,
            program=self.subject.program,
            patched=self.subject.patched,
            processes=self.subject.processes,
        )

    # One fault

    def _episode(self, store: Store) -> None:
        allowed = {
            name: weight
            for name, weight in _FAULTS.items()
            if self.subject.store != "files" or name in ("kill writer", "full disk")
        }
        fault = self._rng.choices([*allowed], [*allowed.values()])[0]
        with self._at_work(store) as writer:
            self._wait_for_puts(self._rng.randrange(1, 20))
            time.sleep(self._rng.random() * 0.15)
            recover = getattr(self, "_" + fault.replace(" ", "_"))(store, writer)
        recover()
        if self.subject.bounded:
            self._must = np.zeros(_KEYS, bool)
        self._check(store)
        if self.subject.bounded and not self._small:
            self._check_counted(store)

    @contextlib.contextmanager
    def _at_work(self, store: Store) -> Iterator[multiprocessing.Process]:
        """A writer and readers while the block runs; they have ended afterwards."""
        before = self._state.puts
        self._state.stopping = False
        context = multiprocessing.get_context("fork")
        writer = context.Process(target=self._write, args=(store, self._rng.random()), daemon=True)
        writer.start()
        readers = [
            threading.Thread(target=self._read, args=(store, self._rng.random())) for _ in range(_READERS)
        ]
        for reader in readers:
            reader.start()
        try:
            yield writer
        finally:
            self._state.stopping = True
            writer.join(30 + 2 * self._timeout_s)
            if writer.is_alive():
                self._found("ends", f"{self.subject}: the writer hangs")
                writer.kill()
                writer.join()
            for reader in readers:
                reader.join(30 + 2 * self._timeout_s)
                if reader.is_alive():
                    self._found("ends", f"{self.subject}: a reader hangs")
            self._state.writer_ended()
            self.counts["sets"] += self._state.puts - before

    def _wait_for_puts(self, more: int) -> None:
        wanted = self._state.puts + more
        deadline = time.monotonic() + 2.0
        while self._state.puts < wanted and time.monotonic() < deadline:
            time.sleep(0.002)

    def _server_of(self, store: Store) -> Any:
        return self._rng.choice(store.stores) if self.subject.processes > 1 else store

    def _kill_server(self, store: Store, _: multiprocessing.Process) -> Any:
        server = self._server_of(store)
        server.kill()
        self.counts["kills"] += 1
        return lambda: self._restarted(store, [server], self.subject.durable)

    def _end_server(self, store: Store, _: multiprocessing.Process) -> Any:
        server = self._server_of(store)
        clean = self._terminated(server)
        kept = (clean and not (self._small and self.subject.store == "kvrocks")) or self.subject.durable
        if not clean and not self._small and self.subject.store != "kvrocks":
            self._found("ends", f"{self.subject}: SIGTERM: it did not end with status 0")
        return lambda: self._restarted(store, [server], kept)

    def _terminated(self, server: Any) -> bool:
        """SIGTERM, and whether it ended well. One that hangs is killed: a finding, but for Kvrocks, which is not ours."""
        self.counts["ends"] += 1
        with contextlib.suppress(StoreDied):
            os.kill(server.pid(), signal.SIGTERM)
        try:
            server.check_alive(_END_S)
        except StoreDied as died:
            return "status 0" in str(died)
        self.counts["hung ends"] += 1
        if self.subject.store != "kvrocks":
            self._found("ends", f"{self.subject}: SIGTERM did not end it within {_END_S:.0f} s")
        server.kill()
        return False

    def _restarted(self, store: Store, servers: list[Any], kept: bool) -> None:
        """Start servers of the store again on their data. kept: see State.server_ended."""
        volatile = self.subject.store == "valkey"
        self._must = self._state.must_be_there() & (kept and not volatile)
        for server in servers:
            server.restart()
        self._state.server_ended(kept and not volatile, volatile, len(servers) == self.subject.processes)

    def _kill_writer(self, store: Store, writer: multiprocessing.Process) -> Any:
        writer.kill()
        writer.join()
        self.counts["kills" if self.subject.store == "files" else "writer kills"] += 1
        self._state.writer_ended()
        return self._left_alone

    def _left_alone(self) -> None:
        self._must = self._state.must_be_there()
        if self.subject.store == "files":
            self._state.server_ended(True, False)

    def _stop_and_go_on(self, store: Store, _: multiprocessing.Process) -> Any:
        server = self._server_of(store)
        os.kill(server.pid(), signal.SIGSTOP)
        time.sleep(self._rng.choice([0.05, 0.2, 0.6]))
        os.kill(server.pid(), signal.SIGCONT)
        time.sleep(self._rng.random() * 0.1)
        self.counts["stops"] += 1
        return self._left_alone

    def _full_disk(self, store: Store, writer: multiprocessing.Process) -> Any:
        """A disk without room where the folder has one of its own, else a limit on the size of files."""
        self.counts["full disks"] += 1
        limited = writer.pid if self.subject.store == "files" else self._server_of(store).pid()
        if self._small:
            filler = machine.fill(self._disk)
        else:
            with contextlib.suppress(psutil.Error):
                psutil.Process(limited).rlimit(psutil.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        time.sleep(0.1 + self._rng.random() * 0.4)
        if self._small:
            filler.unlink()
        if self.subject.store == "files":
            return self._left_alone
        kill = self._rng.random() < 0.5

        def recover() -> None:
            servers = store.stores if self.subject.processes > 1 else [store]
            if kill:
                for server in servers:
                    server.kill()
                self.counts["kills"] += len(servers)
            ended_well = [not kill and self._terminated(server) for server in servers]
            kept = (all(ended_well) and self.subject.store != "kvrocks") or self.subject.durable
            self._restarted(store, servers, kept)

        return recover

    # Writer, readers, and the check when nothing runs

    def _write(self, store: Store, seed: float) -> None:
        """In a process of its own: SETs of one to four keys, as fast as they may come, until told to stop."""
        machine.end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        rng, state, client = random.Random(seed), self._state, None
        begun, sent = time.monotonic(), 0
        while not state.stopping:
            keys = rng.sample(range(_KEYS), rng.randrange(1, 5))
            try:
                client = client or self._open_writer(store, self._timeout_s)
                values = [self._values.value(key, state.begin(key)) for key in keys]
                client.put([self._values.key(key) for key in keys], values)
            except StoreError as error:
                self._note_error(error)
                for key in keys:
                    state.doubtful[key] = state.doubtful[key] or state.started[key] > state.acked[key]
                client = self._closed(client)
                time.sleep(0.005)
                continue
            except BaseException as error:
                self._note("error_lines", f"SET: {type(error).__name__}: {error}")
                return
            for key in keys:
                state.done(key)
            sent += self._values.size * len(keys)
            time.sleep(max(0.0, begun + sent / _BYTES_PER_S - time.monotonic()))
        self._closed(client)

    def _read(self, store: Store, seed: float) -> None:
        rng, client = random.Random(seed), None
        buffers = [np.zeros(self._values.size, np.uint8) for _ in range(4)]
        while not self._state.stopping:
            keys = rng.sample(range(_KEYS), rng.randrange(1, 5))
            try:
                client = client or self._open(store, self._timeout_s)
                self._judge_read(client, keys, buffers)
            except StoreError as error:
                self._note_error(error)
                client = self._closed(client)
                time.sleep(0.005)
            except BaseException as error:
                self._note("error_lines", f"GET: {type(error).__name__}: {error}")
                return
        self._closed(client)

    def _judge_read(self, client: Client, keys: list[int], buffers: list[np.ndarray]) -> list[bool]:
        oldest = [int(self._state.floor[key]) for key in keys]
        hits = client.get([self._values.key(key) for key in keys], buffers[: len(keys)])
        newest = [int(self._state.started[key]) for key in keys]
        with self._lock:
            self.counts["misses"] += len(hits) - sum(hits)
            for key, hit, buffer, low, high in zip(keys, hits, buffers, oldest, newest, strict=False):
                if not hit:
                    continue
                self.counts["values"] += 1
                self.counts["bytes"] += buffer.size
                generation, reason = self._values.judge(key, buffer, low, high)
                if reason is not None:
                    self.counts["older" if generation is not None and generation < low else "wrong"] += 1
                    self._found("bytes" if generation is None else "promise", f"{self.subject}: {reason}")
        return hits

    def _check(self, store: Store) -> None:
        """Every key, while nothing else runs. What must be there and is not is a finding."""
        buffers = [np.zeros(self._values.size, np.uint8) for _ in range(4)]
        client = None
        try:
            client = self._open(store, 20.0)
            for start in range(0, _KEYS, 4):
                keys = [*range(start, start + 4)]
                hits = self._judge_read(client, keys, buffers)
                for key, hit in zip(keys, hits, strict=True):
                    if self._must[key] and not hit:
                        self._found(
                            "promise",
                            f"{self.subject}: key {key}: a miss, and generation {self._state.acked[key]} was acknowledged",
                        )
        except StoreError as error:
            self._found("serves", f"{self.subject}: after the fault: {error}")
        finally:
            self._closed(client)

    def _check_counted(self, store: Store) -> None:
        """What the bound's next keeper counts is at most the bound, and all that is in the store."""
        client = None
        try:
            client = self._open_writer(store, 20.0)
            held, counts = {*client.bound.keys()}, client.bound.counts
            if counts.used_bytes > self._bound_bytes:
                self._found("bound", f"{self.subject}: {counts.told}")
            parts = parts_of(self._values.size, STRIPE_BYTES)
            others = [stripe_key(key, part.index) for key in self._keys() - held for part in parts]
            with store.client() as control:
                uncounted = control.exists(*others) if others else 0
            if uncounted:
                self._found("bound", f"{self.subject}: {uncounted} values are there that nobody counts")
        except (StoreError, redis.RedisError) as error:
            self._found("serves", f"{self.subject}: the bound after the fault: {error}")
        finally:
            self._closed(client)

    def _keys(self) -> set[bytes]:
        return {self._values.key(key) for key in range(_KEYS)}

    def _closed(self, client: Client | None) -> None:
        if client is not None:
            if (files := getattr(client, "file_counts", None)) is not None:
                with self._lock:
                    self.counts["file stripes"] += files.from_files
            with contextlib.suppress(StoreError, OSError):
                client.close()

    # Findings, from this process and the writer's

    def _found(self, invariant: str, text: str) -> None:
        self.findings.append(Finding(invariant, text))

    def _note_error(self, error: StoreError) -> None:
        if "\n" in str(error).strip():
            self._note("error_lines", f"an error of several lines: {error}")

    def _note(self, invariant: str, text: str) -> None:
        line = f"{invariant}\t{self.subject}: {' '.join(text.split())}\n"
        descriptor = os.open(self._problems, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)

    def _take_problems(self) -> None:
        if self._problems.exists():
            for line in dict.fromkeys(self._problems.read_text().splitlines()):
                self._found(*line.split("\t", 1))
            self._problems.unlink()


def soak_stores(report: Report, folder: Path, seconds: float, chosen: Chosen) -> None:
    """Sessions, each subject in turn in an order of the seed, until the time is over, or as many kills have been."""
    folder.mkdir(parents=True, exist_ok=True)
    library = None if missing() else compiled_library(folder)
    every = subjects(chosen.kvrocks, chosen.kvrocks_patched, library is not None)
    kills, only = chosen.kills, chosen.round
    begun = time.monotonic()
    deadline = begun + (seconds if kills is None else 24 * 3600)
    number = 0 if only is None else only
    while time.monotonic() < deadline:
        turn, place = divmod(number, len(every))
        subject = random.Random(f"{report.seed} turn {turn}").sample(every, len(every))[place]
        if only is None and chosen.fault not in str(subject):
            number += 1
            continue
        session = Session(
            subject,
            (report.seed << 20) + number,
            random.Random(f"{report.seed} stores {number}"),
            folder / f"round-{number}",
            library,
        )
        started = time.monotonic()
        session.run(FAULTS_PER_SESSION, deadline)
        report.count(subject.label, session.counts)
        shown = [name for name in _COUNTS if name not in ("writer kills", "bytes")]
        note = ", ".join(f"{session.counts[name]} {name}" for name in shown if session.counts[name])
        report.add(Round("stores", number, str(subject), session.findings, note, time.monotonic() - started))
        number += 1
        if only is not None or (kills is not None and report.total("kills") >= kills):
            return
