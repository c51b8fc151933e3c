"""Store `kvrocks`: Apache Kvrocks, RocksDB on SSD over RESP, as the reference project runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import redis

from ...base.errors import StoreError, UserError
from ...base.own_command import snakemake_command
from ...machine.machine_code import lacking, needs_of, unmet
from ...machine.page_cache import CachedFiles
from ...machine.processes import LOOPBACK
from .. import reach
from ..applied import told_by
from ..base import DIRECT, Counters, Look, StoreConfig
from ..rocksdb.bounded import bounded_of, in_blob_files
from ..server import ServerStore
from .config import BY_KEYS, OWNED, PATCHED_PROGRAM, PROGRAM, complete, rendered

_REACHABLE = {LOOPBACK, "0.0.0.0", "localhost"}
_MALLOC_MARK = b"oversize_threshold"  # a name that jemalloc 5's option parser holds
_OTHER_CPU = "build it here, or with kvrocks.march set to what all machines have, such as x86-64-v3"
_STATES = {
    "all_mem_tables": "memtable_bytes",
    "block_cache_usage": "block_cache_bytes",
    "used_db_size": "db_bytes",
}
_TOTALS = {
    "flush_count": "flushes",
    "compaction_count": "compactions",
    "num_background_errors": "background_errors",
    "block_cache_hit": "block_cache_hits",
    "block_cache_miss": "block_cache_misses",
}
_MEMTABLES_KEPT = 1  # full ones: Kvrocks writes two at a time (storage.cc, min_write_buffer_number_to_merge)
_BUFFER_MIB = 64  # Kvrocks's own
_FILES = {".sst": "sst_bytes", ".blob": "blob_bytes", ".log": "wal_bytes"}


class KvrocksStore(ServerStore):
    """Kvrocks with its files in the store's directory. settings: keys of kvrocks.conf; `workers` may be `cores`.

    After every start the settings are held against CONFIG GET: one that the server does not know, or applies
    differently, raises StoreError with its name; those of `ignored_settings` become notes.
    """

    name = "kvrocks"
    title = "Kvrocks"
    medium = "ssd"
    look = Look("#CC79A7", "P", "H")
    connectors = (*ServerStore.connectors, *DIRECT)
    takes_password = True
    owned_keys = OWNED
    presets = Path("config/kvrocks")
    can_be_patched = True
    reads_page_cache = True
    has_jemalloc = True
    stop_timeout_s = 120.0
    conf_name = "kvrocks.conf"

    _ignored: tuple[str, ...] = ()
    _version = ""

    def __init__(self, config: StoreConfig):
        super().__init__(config)
        self._cached = CachedFiles(self.config.directory, _FILES)

    @property
    def program(self) -> Path:
        """The server's program."""
        return self.config.program or (PATCHED_PROGRAM if self.config.patched else PROGRAM)

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        super().check_settings(settings, where)
        for key, value in settings.items():
            if not (text := str(value).strip()) or text.startswith("="):
                raise UserError(
                    f"{where}.{key}: {str(value)!r} is wrong; Kvrocks reads `key value`, without ="
                )
            if key.lower() == "bind" and not _REACHABLE & set(text.split()):
                raise UserError(f"{where}.{key}: {text!r} lacks {LOOPBACK}, where the client is")

    @classmethod
    def bounded(cls, config: StoreConfig) -> dict[str, Any]:
        return bounded_of(config) | {BY_KEYS: "yes"}

    @classmethod
    def has_setting(cls, key: str) -> bool:
        return key != "direct_io"

    @classmethod
    def built_files(cls, patched: bool) -> tuple[Path, Path] | None:
        program = PATCHED_PROGRAM if patched else PROGRAM
        return program.with_suffix(".json"), program

    @classmethod
    def complaint(cls, lines: Iterable[str]) -> str | None:
        return next((line.strip() for line in lines if "<jemalloc>: Invalid" in line), None)

    @classmethod
    def pushing_bytes(cls, settings: Mapping[str, Any]) -> int:
        """Three write buffers and a little: the one in use, and the two full ones that Kvrocks writes at a time."""
        buffers = [size for key, size in settings.items() if key.lower() == "rocksdb.write_buffer_size"]
        return 3 * int(buffers[0] if buffers else _BUFFER_MIB) + 1 << 20

    @classmethod
    def keeps_once(cls, settings: Mapping[str, Any]) -> bool:
        return in_blob_files(settings)

    @classmethod
    def exposure(cls, settings: Mapping[str, Any], password: bool) -> str | None:
        given = {key.lower(): str(value) for key, value in settings.items()}
        return reach.warning("store kvrocks", given.get("bind", LOOPBACK).split(), password)

    def start(self) -> None:
        _require_program(self.program, self.config.environment)
        if self.config.patched and not patches_of(self.program):
            raise UserError(
                f"store kvrocks: {self.program} has no record of patches beside it, so it is not the patched one; "
                f"`{snakemake_command('build_patched_kvrocks')}` builds that, or kvrocks.patched_binary names one"
            )
        super().start()

    def wanted(self, port: int, password: str | None = None) -> dict[str, str]:
        return complete(
            self.config.settings,
            directory=self.config.directory.absolute(),
            port=port,
            value_bytes=self.config.value_bytes,
            socket=self.socket_path,
            password=password,
            host=self.config.host,
        )

    def configuration(self, port: int, password: str | None) -> str | None:
        return rendered(self.wanted(port, password))

    def command(self, port: int) -> list[str]:
        return [str(self.program.absolute()), "-c", str(self.conf)]

    def moved(self, port: int) -> list[str]:
        words = ["--dir", str(self.config.directory), "--port", str(port)]
        return words if self.socket_path is None else [*words, "--unixsocket", self.socket_path]

    def notes_for_service(self, cores: int) -> list[str]:
        found = []
        if self.config.patched:
            found.append(
                "this Kvrocks is compiled with patches of workflow/patches/kvrocks (make kvrocks-patched); its record beside "
                "it names them"
            )
        if self.config.settings.get("workers") == "cores":
            found.append(
                f"workers is one per usable core of the machine that wrote these files; measured with {cores}"
            )
        return found

    def _launch(self) -> None:
        super()._launch()
        self._check_applied()

    def explain_start(self, error: StoreError) -> StoreError:
        """Say what is in the line whose number a refusal of the configuration file names, and what mends a wrong CPU."""
        if "SIGILL" in str(error):
            return StoreError(f"{error}; {_OTHER_CPU}")
        found = re.search(r"at line #L(\d+)", str(error))
        lines = rendered(self.wanted(self._port)).splitlines()
        if found is None or int(found[1]) > len(lines):
            return error
        return StoreError(f"{error}; the line is {lines[int(found[1]) - 1]!r}; sizes of buffers are in MiB")

    def _check_applied(self) -> None:
        try:
            with self.client() as client:
                applied = told_by(client)
                server = client.info("server")
        except redis.RedisError as error:
            raise self.explain(StoreError(f"store kvrocks does not answer CONFIG GET: {error}")) from error
        password = None if self.config.password is None else self.config.password.value()
        faults, ignored = self.unlike(
            self.wanted(self._port, password), applied, self.config.ignored_settings
        )
        if faults:
            raise StoreError(
                f"store kvrocks: {'; '.join(faults)}; mend settings, or name what may be ignored in ignored_settings"
            )
        self._ignored = tuple(ignored)
        self._version = (
            f"Kvrocks {server.get('kvrocks_version')} ({server.get('kvrocks_git_sha1') or 'no commit'})"
            + ("" if not (patches := patches_of(self.program)) else f" with {', '.join(patches)}")
        )
        assert self._process is not None
        if (line := self.complaint(self._process.tail(200))) is not None:
            raise StoreError(f"store kvrocks: environment.MALLOC_CONF: {line}")

    def notes(self) -> list[str]:
        ignored = [f"ignored by Kvrocks: {', '.join(self._ignored)}"] if self._ignored else []
        return [self._version, *ignored, *super().notes()]

    def counters(self) -> Counters:
        """The server's totals. details: write stalls, memtables, cache, SST, blob and WAL bytes, flushes."""
        info = self.info()
        details = {name: info[key] for key, name in (_STATES | _TOTALS).items() if key in info}
        details["memtables_to_flush"] = max(0, info.get("num_immutable_tables", 0) - _MEMTABLES_KEPT)
        for kind in ("slowdown", "stop"):
            stalls = [
                int(info[key]) for key in info if re.match(rf"\w+_limit_{kind}\[|\w+_bytes_{kind}\[", key)
            ]
            details[f"write_{kind}s"] = sum(stalls)
        return self.counters_of(info, details | _file_bytes(self.config.directory))

    def evict_page_cache(self) -> None:
        self._cached.evict()

    def push_out_writes(self) -> None:
        """Values of other keys, as many as pushing_bytes says."""
        value = os.urandom(1 << 20)
        try:
            with self.client() as client:
                for number in range(self.pushing_bytes(self.config.settings) >> 20):
                    client.set(f"hyperkv:other:{number}", value)
        except redis.RedisError as error:
            raise self.explain(StoreError(f"store kvrocks does not take other values: {error}")) from error


def _require_program(program: Path, environment: Mapping[str, str]) -> None:
    if not os.access(program, os.X_OK):
        raise UserError(
            f"store kvrocks: there is no program {program}; `{snakemake_command('build_kvrocks')}` builds it, kvrocks.source says from where"
        )
    if why := unmet(needs_of(program)):
        raise UserError(f"store kvrocks: {program} {why}")
    if missing := lacking(record_of(program).get("instructions") or []):
        raise UserError(
            f"store kvrocks: {program} may use {', '.join(missing)}, which this CPU lacks; {_OTHER_CPU}"
        )
    if "MALLOC_CONF" in environment and _MALLOC_MARK not in program.read_bytes():
        raise UserError(
            f"store kvrocks: environment.MALLOC_CONF: {program} is not linked with jemalloc 5, so it would be "
            f"ignored; take another kvrocks.source, or leave MALLOC_CONF out"
        )


def record_of(program: Path) -> dict[str, Any]:
    """The record that the workflow leaves beside a program; empty without one."""
    record = program.with_suffix(".json")
    found = json.loads(record.read_text()) if record.exists() else {}
    return found.get("built", {}) | found


def patches_of(program: Path) -> list[str]:
    """Names of the patches that a program was compiled with, from its record."""
    return [patch["name"] for patch in record_of(program).get("patches", [])]


def _file_bytes(directory: Path) -> dict[str, int]:
    """Bytes of table, blob and log files under `directory`; a file that goes away meanwhile counts nothing."""
    found = dict.fromkeys(_FILES.values(), 0)
    for path in directory.rglob("*"):
        if path.suffix in _FILES:
            with contextlib.suppress(FileNotFoundError):
                found[_FILES[path.suffix]] += path.stat().st_size
    return found
