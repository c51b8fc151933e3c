"""Stripes for a serving engine: a store that fails is a cache that misses, and nothing ever waits for a save.

Lookups, loads and saves have connections of their own, so that none queues behind another kind.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .connector import StripedConnector
from .deadline import Endpoint
from .direct import DEPTH, MOST_DEPTH, FileSettings
from .errors import StoreError, UserError
from .file_counts import FileCounts
from .gate_settings import KEYS as GATE_KEYS
from .gate_settings import NO_GATE, GateSettings, gate_from
from .native import INSTALLED
from .pieces import READS
from .save_queue import SaveCounts, SaveQueue
from .save_share import SaveShare
from .second_use import SAVES, SecondUse, told
from .secret import KEYS as SECRET_KEYS
from .secret import Secret
from .shape import KEYS as DEVICE_KEYS
from .shape import Device, Shape, device_from
from .stripes import STRIPE_BYTES, STRIPES_IN_FLIGHT

T = TypeVar("T")
LOADS_OF_FILES = 2
_HOSTS = {"module_path", "class_name"}  # keys beside ours that LMCache reads itself


@dataclass(frozen=True)
class CacheSettings:
    """Where the servers are and how they are used.

    connections: for loads, to each server. save_connections: for saves, None for as many; fewer leave more of the
    processor to the engine while it saves. stripes_in_flight: on each of them. timeout_s: of every call, see
    deadline.py. retry_s: after a failure the store is left alone for so long, and everything is a miss. save_queue_bytes:
    bound of what waits to be saved or is being saved; more is dropped. save: at which use a chunk is saved, see second_use.py.
    gate: how much lookups find, see gate_settings.py; of StripedL2 and inside LMCache. library: what loads, see native.py; None for
    Python. dirs: the servers' data folders in their order, whose files are read here where the servers answer LOCATE; read,
    read_threads, read_depth: how, see FileSettings of direct.py. loads: how many go on at once, each over connections of its own; None
    for one, or LOADS_OF_FILES with dirs, so that one's questions go on beside another's reads. device: see shape.py.
    """

    endpoints: tuple[Endpoint, ...]
    connections: int = 4
    save_connections: int | None = None
    stripe_bytes: int = STRIPE_BYTES
    stripes_in_flight: int = STRIPES_IN_FLIGHT
    timeout_s: float = 3.0
    retry_s: float = 10.0
    save_queue_bytes: int = 1 << 30
    gate: GateSettings = NO_GATE
    library: Path | None = None
    dirs: tuple[Path, ...] = ()
    read: str = "auto"
    read_threads: int | None = None
    read_depth: int = DEPTH
    loads: int | None = None
    device: Device = field(default_factory=Device)
    save: str = "first_use"

    @property
    def loads_at_once(self) -> int:
        """How many loads go on at once."""
        return self.loads or (LOADS_OF_FILES if self.dirs else 1)

    @property
    def files(self) -> FileSettings | None:
        """How the servers' files are read; None where they are not."""
        return FileSettings(self.dirs, self.read, self.read_threads, self.read_depth) if self.dirs else None

    @property
    def loads_by(self) -> str:
        """For a log: what loads, and where."""
        client = "Python" if self.library is None else f"compiled code, {self.library}"
        files = f", files in {', '.join(map(str, self.dirs))} ({self.read})" if self.files else ""
        shaped = f", held to be {self.device}" if self.device.is_stated else ""
        return f"{len(self.endpoints)} servers, {self.connections} connections to each, loads by {client}{files}{shaped}"


@dataclass(frozen=True)
class CacheCounts:
    """Since the start. loaded, missed: chunks asked for; damaged: of the missed, those that were there and not whole.

    failures: calls that the store failed; skipped: calls made while it was left alone. saves: see SaveCounts. files: see
    FileCounts. first_uses: chunks that were not saved for want of a second use.
    """

    loaded: int
    missed: int
    damaged: int
    failures: int
    skipped: int
    saves: SaveCounts
    files: FileCounts | None
    first_uses: int


def settings_from(values: Mapping[str, Any], prefix: str) -> CacheSettings:
    """Settings from keys such as `<prefix>.connections`; `<prefix>.endpoints` is `host:port` or `unix:PATH`, by commas.

    `<prefix>.password_file`, or `<prefix>.password_env`, says where every server's password is (secret.py). Loads are by
    compiled code where it was installed; `<prefix>.client`, python or native, chooses, and `<prefix>.library` names another
    build of it. `<prefix>.dirs` are folders by commas, as many as endpoints. `<prefix>.shape_read_gbps` and so on are the device.
    Raises UserError naming the key.
    """
    where = f"{prefix}.endpoints"
    text = values.get(where)
    if not text:
        raise UserError(f"{where} is missing; write host:port or unix:PATH, several separated by commas")
    if f"{prefix}.password" in values:
        raise UserError(
            f"{prefix}.password: LMCache logs its configuration; write the password into a file of mode 600 and name it in "
            f"{prefix}.password_file"
        )
    own = [item.name for item in fields(CacheSettings) if item.name != "device"]
    gate = gate_from(values, prefix)
    known = {*_HOSTS, *SECRET_KEYS, *GATE_KEYS, *DEVICE_KEYS, "client", *own}
    given_here = (key.removeprefix(f"{prefix}.") for key in values if key.startswith(f"{prefix}."))
    if unknown := sorted(key for key in given_here if key not in known and "." not in key):
        raise UserError(
            f"{prefix}.{unknown[0]}: there is no such key; there are {', '.join(sorted(known - _HOSTS))}"
        )
    password = Secret.of({key: values.get(f"{prefix}.{key}") for key in SECRET_KEYS})
    endpoints = tuple(_endpoint(word.strip(), password, where) for word in str(text).split(","))
    words = ("endpoints", "library", "dirs", "read", "gate", "save")
    numbers = [name for name in own if name not in words]
    given = {
        name: values[f"{prefix}.{name}"] for name in numbers if values.get(f"{prefix}.{name}") is not None
    }
    for name, value in given.items():
        try:
            given[name] = float(value) if name.endswith("_s") else int(value)
        except (TypeError, ValueError):
            given[name] = 0
        if given[name] <= 0:
            raise UserError(f"{prefix}.{name}: {value!r} is wrong; it must be a number above 0")
    dirs = tuple(
        Path(word.strip()) for word in str(values.get(f"{prefix}.dirs") or "").split(",") if word.strip()
    )
    if len(dirs) not in (0, len(endpoints)):
        raise UserError(
            f"{prefix}.dirs: {len(dirs)} folders for {len(endpoints)} endpoints; write one for each, in their order"
        )
    read = values.get(f"{prefix}.read") or "auto"
    if read not in READS:
        raise UserError(f"{prefix}.read: {read!r} is wrong; allowed are {', '.join(READS)}")
    save = values.get(f"{prefix}.save") or SAVES[0]
    if save not in SAVES:
        raise UserError(f"{prefix}.save: {save!r} is wrong; allowed are {', '.join(SAVES)}")
    if given.get("read_depth", DEPTH) > MOST_DEPTH:
        raise UserError(
            f"{prefix}.read_depth: {given['read_depth']} is wrong; at most {MOST_DEPTH} reads are under way in a thread"
        )
    library, device = _library(values, prefix), device_from(values, f"{prefix}.")
    return CacheSettings(
        endpoints, **given, library=library, dirs=dirs, read=read, gate=gate, save=save, device=device
    )


def _library(values: Mapping[str, Any], prefix: str) -> Path | None:
    client, named = values.get(f"{prefix}.client"), values.get(f"{prefix}.library")
    if client not in (None, "python", "native"):
        raise UserError(f"{prefix}.client: {client!r} is wrong; write python or native")
    if client == "python":
        return None
    if named is not None:
        return Path(named)
    return INSTALLED if client == "native" or INSTALLED.exists() else None


def _endpoint(word: str, password: Secret | None, where: str) -> Endpoint:
    if word.startswith("unix:"):
        return Endpoint("", 0, password, word.removeprefix("unix:"))
    host, _, port = word.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"{where}: {word!r} is wrong; write host:port or unix:PATH")
    return Endpoint(host, int(port), password)


class StripedCache:
    """Lookups, loads and saves that never raise StoreError. Safe to use from several threads.

    report: is told in a line when the store fails and when chunks are damaged; warn, why files are not read; note, of each load
    how much of it came from files. share: what saves take while loads come.
    """

    def __init__(
        self,
        settings: CacheSettings,
        report: Callable[[str], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
        note: Callable[[str], None] = lambda _: None,
        *,
        share: SaveShare | None = None,
    ):
        self.settings = settings
        self.report, self._warn, self._note = report, warn, note
        self.shape = Shape(settings.device, note)
        self._lookups = self._connector(1)
        self._loads = [
            self._connector(settings.connections, settings.files) for _ in range(settings.loads_at_once)
        ]
        self._free: queue.SimpleQueue[StripedConnector] = queue.SimpleQueue()
        for connector in self._loads:
            self._free.put(connector)
        self._share = share or SaveShare()
        self._stores = self._connector(
            settings.save_connections or settings.connections, turn=self._share.wait
        )
        self._saves = SaveQueue(self._save, settings.save_queue_bytes, self._share.together)
        self._uses = SecondUse() if settings.save == "second_use" else None
        self._lock = threading.Lock()
        self._alone_until = 0.0
        self._loaded = self._missed = self._failures = self._skipped = 0

    def _connector(
        self,
        connections: int,
        files: FileSettings | None = None,
        turn: Callable[[int], float] | None = None,
    ) -> StripedConnector:
        chosen = self.settings
        return StripedConnector(
            chosen.endpoints,
            connections,
            chosen.timeout_s,
            chosen.stripe_bytes,
            chosen.stripes_in_flight,
            connect=False,
            library=chosen.library,
            files=files,
            report=self._warn,
            turn=turn,
            shape=self.shape,
        )

    def close(self) -> None:
        """Drop the saves that wait, end the one under way and close every connection."""
        self._share.close()
        self._saves.close()
        for connector in (self._lookups, *self._loads, self._stores):
            connector.close()

    @property
    def counts(self) -> CacheCounts:
        """What has happened so far."""
        with self._lock:
            return CacheCounts(
                self._loaded,
                self._missed,
                sum(connector.damaged_chunks for connector in self._loads),
                self._failures,
                self._skipped,
                self._saves.counts,
                FileCounts.sum_of([connector.file_counts for connector in self._loads]),
                0 if self._uses is None else self._uses.first_uses,
            )

    def count_present(self, keys: Sequence[bytes]) -> int:
        """How many leading chunks are there; 0 when the store fails."""
        return self._tried(lambda: self._lookups.count_present(keys), 0)

    def present(self, keys: Sequence[bytes]) -> list[bool]:
        """Whether each chunk is there; none is when the store fails."""
        return self._tried(lambda: self._lookups.present(keys), [False] * len(keys))

    def load(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        """Fill buffers[i] (uint8, the chunk's size); False where the chunk is missing, damaged or the store fails.

        A buffer of which False is said holds anything.
        """
        connector = self._free.get()
        try:
            return self._load(connector, keys, buffers)
        finally:
            self._free.put(connector)

    def _load(
        self, connector: StripedConnector, keys: Sequence[bytes], buffers: Sequence[np.ndarray]
    ) -> list[bool]:
        damaged, read, begun = connector.damaged_chunks, connector.file_counts, time.monotonic()
        with self._share.load(sum(buffer.size for buffer in buffers)) as loaded:
            found = self._tried(lambda: connector.get(keys, buffers), [False] * len(keys))
            loaded(sum(buffer.size for buffer, hit in zip(buffers, found, strict=True) if hit))
        with self._lock:
            self._loaded += found.count(True)
            self._missed += found.count(False)
        if connector.damaged_chunks > damaged:
            self.report(f"{connector.damaged_chunks - damaged} of {len(keys)} chunks are damaged")
        if read is not None and (now := connector.file_counts) is not None:
            self._note(f"{now.since(read).told}, in {(time.monotonic() - begun) * 1e3:.1f} ms")
        return found

    def worth_saving(self, keys: Sequence[bytes]) -> list[bool]:
        """Which chunks to offer: all, or those that come for the second time. To be asked once for each chunk that comes."""
        if self._uses is None:
            return [True] * len(keys)
        found = self._uses.again(keys)
        if first := found.count(False):
            self._note(told(first))
        return found

    def offer(
        self, keys: Sequence[bytes], values: Sequence[np.ndarray], done: Callable[[bool], None]
    ) -> bool:
        """Save the chunks later, and call `done` then, with whether they were saved; False, and nothing more, when they are dropped."""
        return self._saves.offer(keys, values, done)

    def wait_saved(self, timeout_s: float) -> bool:
        """Wait until no save is waiting or under way; False when that takes longer."""
        return self._saves.wait_empty(timeout_s)

    def _save(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        def save() -> bool:
            self._stores.put(keys, values)
            return True

        try:
            saved = self._tried(save, False)
        except Exception as error:  # the thread of saves must go on: whose memory they hold waits for it
            self.report(f"a save failed: {type(error).__name__}: {error}")
            raise StoreError(str(error)) from error
        if not saved:
            raise StoreError("the store failed, or is left alone")

    def _tried(self, work: Callable[[], T], otherwise: T) -> T:
        with self._lock:
            if time.monotonic() < self._alone_until:
                self._skipped += 1
                return otherwise
        try:
            return work()
        except StoreError as error:
            with self._lock:
                self._failures += 1
                self._alone_until = time.monotonic() + self.settings.retry_s
            self.report(f"the store failed and is left alone for {self.settings.retry_s:g} s: {error}")
            return otherwise
