"""What every store offers: started, probed, measured and ended the same way."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from ...plugin.lmcache_striped.deadline import Endpoint
from ...plugin.lmcache_striped.secret import Secret
from ..base.errors import StoreError, UserError
from ..base.folders import cannot_write
from ..machine.counters import ProcessCounters, block_device_bytes
from ..machine.page_cache import drop_page_cache
from ..machine.processes import LOOPBACK
from .held import HeldByEngine
from .owned_keys import Owned, refuse_owned
from .placed.place import Network, Place

GRACE_S = 1.0  # how long a failed request waits to learn that the server died
DIRECT = ("direct", "direct_mp")  # connectors of a server that may say where its values lie


@dataclass(frozen=True)
class StoreConfig:
    """Everything a store needs to start.

    directory: where it may put files, which start makes; one that is there must be empty. capacity_bytes: bound of a RAM store, None for
    no bound. value_bytes: largest value it will hold. settings: the store's own keys, in its own terms.
    port: TCP port, 0 for any free one. log: file for a server's output. environment: variables of
    a server. ignored_settings: keys of `settings` that a server may not know. program: a server's program, None
    for the store's own choice. processes: how many servers share the work. unix: a server listens on a unix socket
    as well, and that is its endpoint. host: the address that a server listens on. patched: Kvrocks compiled with kvrocks.patches. password: what a server asks for. bound_bytes:
    what its client keeps in it at most, in values of stripe_bytes; None for no bound. place: where it is there already, so that nothing of
    this is for its start.
    """

    directory: Path
    value_bytes: int
    log: Path
    capacity_bytes: int | None = None
    port: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    ignored_settings: tuple[str, ...] = ()
    program: Path | None = None
    processes: int = 1
    unix: bool = False
    host: str = LOOPBACK
    patched: bool = False
    password: Secret | None = None
    bound_bytes: int | None = None
    stripe_bytes: int | None = None
    place: Place | None = None

    @classmethod
    def of(
        cls,
        scenario: Mapping[str, Any],
        directory: Path,
        value_bytes: int,
        log: Path,
        capacity_bytes: int | None,
    ) -> StoreConfig:
        """A scenario's own store, by the keys of its slice of the config."""
        return cls(
            directory,
            value_bytes,
            log,
            capacity_bytes,
            scenario["port"],
            scenario["settings"],
            scenario["environment"],
            tuple(scenario["ignored_settings"]),
            processes=scenario.get("processes", 1),
            unix=scenario.get("socket") == "unix",
            patched=scenario.get("patched", False),
            password=Secret.of(scenario),
            bound_bytes=scenario.get("bound_bytes"),
            stripe_bytes=scenario.get("stripe_bytes"),
            place=Place.of(scenario),
        )


@dataclass(frozen=True)
class Counters:
    """A store's totals since it started; subtract two to get a cell's share. Unknown is None, never 0.

    served_bytes, taken_bytes: as the store counts them (values, or RESP bytes where the store counts those).
    hits, misses: GETs. Process figures come from /proc of the process that does the store's I/O. details: what
    only this store tells, such as stalls and memtable bytes; some are totals, some are states.
    """

    served_bytes: int | None
    taken_bytes: int | None
    hits: int | None
    misses: int | None
    process: ProcessCounters
    details: dict[str, float | int] = field(default_factory=dict)

    def minus(self, earlier: Counters) -> dict[str, float | int | None]:
        """This snapshot less an earlier one, as a flat dict (rss_bytes stays the later value)."""
        now, then = _flat(self), _flat(earlier)
        return {
            name: value
            if name == "rss_bytes"
            else None
            if None in (value, then[name])
            else value - then[name]
            for name, value in now.items()
        }


def _flat(counters: Counters) -> dict[str, Any]:
    flat = asdict(counters)
    del flat["details"]
    return flat | flat.pop("process")


@dataclass(frozen=True)
class Look:
    """How figures show a store: a colour (#rrggbb), and matplotlib's markers of its first and its second scenario."""

    colour: str
    marker: str
    second_marker: str


class Store(HeldByEngine, ABC):
    """A store's lifetime. A context manager: start on entry, everything ended on exit.

    What is said of a store without starting it are class attributes and class methods; whoever has its name asks these
    (registry.store_class). name: the word in config. medium: "ram" or "ssd", where values are meant to live, which is the
    tier that it serves. look: in figures. connectors: what reaches it. is_server: whether the workflow starts a process for
    it. bound_key: the scenario's key that bounds its memory, None for a store that memory does not bound.
    owned_keys: those of its settings that the workflow sets or counts on. takes_password. presets: folder of its presets.
    can_be_patched: whether a scenario may say `patched`. reads_page_cache: whether page_cache says anything of it.
    has_jemalloc: whether MALLOC_CONF does. is_cluster: whether keys are where their hash slots are. programs: modules that it runs as programs, below workflow.hyperkv.
    """

    name: str
    medium: str
    look: ClassVar[Look]
    connectors: ClassVar[tuple[str, ...]]
    is_server: ClassVar[bool] = False
    bound_key: ClassVar[str | None] = None
    owned_keys: ClassVar[tuple[Owned, ...]] = ()
    takes_password: ClassVar[bool] = False
    presets: ClassVar[Path | None] = None
    can_be_patched: ClassVar[bool] = False
    reads_page_cache: ClassVar[bool] = False
    has_jemalloc: ClassVar[bool] = False
    is_cluster: ClassVar[bool] = False
    programs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: StoreConfig):
        self.check_settings(config.settings, f"store {self.name}: settings")
        self.config = replace(config, settings=self.bounded(config)) if config.bound_bytes else config

    @classmethod
    def require_told(cls, name: str) -> None:
        """That the class says of itself what every store must. name: the store's word. Raises UserError."""
        missing = [key for key in ("name", "medium", "look", "connectors") if not hasattr(cls, key)]
        missing += [f"{method}()" for method in sorted(cls.__abstractmethods__)]
        if missing:
            raise UserError(
                f"store {name}: {cls.__name__} has no {', '.join(missing)}; stores/base.py says what these are"
            )
        if cls.name != name or cls.medium not in ("ram", "ssd"):
            raise UserError(
                f"store {name}: {cls.__name__} says name {cls.name!r} and medium {cls.medium!r}; the name must be {name}, the medium ram or ssd"
            )

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        """What can be said of `settings` without starting the store. Raises UserError that begins with `where`."""
        refuse_owned(settings, cls.owned_keys, where)

    @classmethod
    def bounded(cls, config: StoreConfig) -> dict[str, Any]:
        """Its settings where its client keeps bound_bytes in it: those with which what was deleted gives its space back."""
        return config.settings

    @classmethod
    def has_setting(cls, key: str) -> bool:
        """Whether the store may know a key of `settings`; a server itself says so at its start."""
        return False

    @classmethod
    def built_files(cls, patched: bool) -> tuple[Path, Path] | None:
        """The record of its program and the program, where rules make these; else None."""
        return None

    @classmethod
    def settings_in_ram(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with which its files may lie on a tmpfs."""
        return dict(settings)

    @classmethod
    def pushing_bytes(cls, settings: Mapping[str, Any]) -> int:
        """Bytes that push_out_writes saves, for each process."""
        return 0

    @classmethod
    def keeps_once(cls, settings: Mapping[str, Any]) -> bool:
        """Whether a value is written once and stays there: else a store that compacts holds it twice for a while."""
        return False

    @classmethod
    def exposure(cls, settings: Mapping[str, Any], password: bool) -> str | None:
        """A line when `settings` let others reach the store and there is no password, else None."""
        return None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Start empty and ready. Raises UserError or StoreError."""

    @abstractmethod
    def stop(self) -> None:
        """End every process and free the memory; files stay."""

    @abstractmethod
    def restart(self) -> None:
        """End and start again with the data kept (a RAM store keeps nothing)."""

    @abstractmethod
    def check_alive(self, grace_s: float = 0.0) -> None:
        """Raises StoreDied when the store can no longer answer.

        grace_s: seconds to wait for its end; a killed server closes its sockets a moment before it is gone.
        """

    def explain(self, error: StoreError) -> StoreError:
        """The error to raise for a failed request: it names this store. Raises StoreDied when the store is gone."""
        self.check_alive(GRACE_S)
        name = f"store {self.name}"
        message = str(error)
        return StoreError(message if message.startswith(name) else f"{name}: {message}")

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """A StoreError of the block is raised as `explain` has it."""
        try:
            yield
        except StoreError as error:
            raise self.explain(error) from error

    @abstractmethod
    def counters(self) -> Counters:
        """The store's totals now."""

    @abstractmethod
    def pid(self) -> int:
        """The process that does this store's I/O."""

    @property
    def servers(self) -> Sequence[Any]:
        """The server processes, each a ServerStore; none for a store without."""
        return []

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where its servers listen, always in the same order. Valid after start."""
        return []

    @property
    def network(self) -> Network | None:
        """What the network to its servers was found to give at its start; None for a store of this machine."""
        return None

    def require_room(self, saved_bytes: int) -> None:
        """That servers which are there already hold so much more. Raises UserError."""

    def block_bytes(self, folder: Path) -> tuple[int, int] | None:
        """(read, written) bytes since boot of the device that its files are on: here the one under `folder`; None when nobody tells."""
        return None if self.config.place is not None else block_device_bytes(folder)

    def final_counters(self) -> ProcessCounters | None:
        """Totals of the process that the last stop or restart ended, None when there was none."""
        return None

    def notes(self) -> list[str]:
        """What a reader of the results must know about this store's configuration, a line each."""
        return []

    def evict_page_cache(self) -> None:
        """Take this store's files out of the page cache. Nothing to do for RAM and for direct I/O."""

    def push_out_writes(self) -> None:
        """Save other values until those saved before have left the write buffers for files. Raises StoreError.

        Does nothing for a store that has none, nor for rocksdb, whose write buffers a scenario is to keep small.
        """

    def make_cold(self) -> bool:
        """Restart with the data kept and drop the page cache. True when the system let the cache be dropped."""
        self.restart()
        return drop_page_cache()


def new_directory(directory: Path) -> None:
    """Make `directory`, which its user alone can enter; one that is there must be empty. Raises UserError naming it."""
    try:
        with contextlib.suppress(OSError):
            directory.rmdir()
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(0o700)
    except OSError as error:
        raise cannot_write(directory, "data_dir", error.strerror) from error
