"""Kvrocks's configuration keys, checked, with their units.

Names, units, ranges and defaults are those of Kvrocks 2.10 (config.cc), except that blob files and RESP3
(which redis-py 8 asks for) are on. Keys of our own: `rocksdb.use_direct_reads`, `rocksdb.dump_malloc_stats`,
`rocksdb.use_direct_io_for_flush_and_compaction` and `rocksdb.read_options.verify_checksums`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...base.errors import UserError
from ..applied import BINARY_UNITS, number

MIB = 1 << 20
INT_MAX = (1 << 31) - 1
LEVELS = 7
COMPRESSION_LEVEL_UNSET = 32767
COMPRESSIONS = ("no", "snappy", "zlib", "lz4", "zstd")

Value = int | bool | str
Settings = dict[str, Value]


@dataclass(frozen=True)
class Key:
    """One key; its kind is `int`, `bytes` (an int that may carry k, m, g, t), `yesno`, `choice` or `text`.

    setter: RocksDB's options have a setter of the key's name, which takes its value times this; 0 for none, see options.py.
    """

    kind: str
    default: Value
    low: int = 0
    high: int = INT_MAX
    choices: tuple[str, ...] = ()
    setter: int = 0

    def allowed(self) -> str:
        """What a valid value looks like, for an error message."""
        if self.kind == "yesno":
            return "yes or no"
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "bytes":
            return f"a number of bytes from {self.low} to {self.high}, with an optional k, m, g or t"
        return f"a whole number from {self.low} to {self.high}" if self.kind == "int" else "a text"


KEYS: dict[str, Key] = {
    "bind": Key("text", "127.0.0.1"),
    "port": Key("int", 6666, 1, 65535),
    "unixsocket": Key("text", ""),
    "dir": Key("text", ""),
    "tcp-backlog": Key("int", 511),
    "maxclients": Key("int", 10240, 1),
    "proto-max-bulk-len": Key("bytes", 512 * MIB, MIB, 4096 * MIB),
    "max-io-mb": Key("int", 0),
    "resp3-enabled": Key("yesno", True),
    "rocksdb.compression": Key("choice", "no", choices=COMPRESSIONS),
    "rocksdb.compression_level": Key("int", COMPRESSION_LEVEL_UNSET, -INT_MAX - 1),
    "rocksdb.compression_start_level": Key("int", 2, 0, LEVELS - 1),
    "rocksdb.block_size": Key("int", 16384),
    "rocksdb.max_open_files": Key("int", 8096, -1, setter=1),
    "rocksdb.write_buffer_size": Key("int", 64, 0, 4096, setter=MIB),
    "rocksdb.max_write_buffer_number": Key("int", 4, 0, 256, setter=1),
    "rocksdb.target_file_size_base": Key("int", 128, 1, 1024, setter=MIB),
    "rocksdb.max_subcompactions": Key("int", 2, 0, 16, setter=1),
    "rocksdb.max_background_jobs": Key("int", 4, 0, 32, setter=1),
    "rocksdb.wal_ttl_seconds": Key("int", 3 * 3600, setter=1),
    "rocksdb.wal_size_limit_mb": Key("int", 16384, setter=1),
    "rocksdb.max_total_wal_size": Key("int", 512, setter=MIB),
    "rocksdb.disable_auto_compactions": Key("yesno", False, setter=1),
    "rocksdb.enable_pipelined_write": Key("yesno", False, setter=1),
    "rocksdb.stats_dump_period_sec": Key("int", 0, setter=1),
    "rocksdb.cache_index_and_filter_blocks": Key("yesno", True),
    "rocksdb.block_cache_size": Key("int", 0),
    "rocksdb.block_cache_type": Key("choice", "lru", choices=("lru", "hcc")),
    "rocksdb.subkey_block_cache_size": Key("int", 2048),
    "rocksdb.metadata_block_cache_size": Key("int", 2048),
    "rocksdb.row_cache_size": Key("int", 0),
    "rocksdb.compaction_readahead_size": Key("int", 2 * MIB, 0, 64 * MIB, setter=1),
    "rocksdb.level0_slowdown_writes_trigger": Key("int", 20, 1, 1024),
    "rocksdb.level0_stop_writes_trigger": Key("int", 40, 1, 1024),
    "rocksdb.level0_file_num_compaction_trigger": Key("int", 4, 1, 1024),
    "rocksdb.enable_blob_files": Key("yesno", True, setter=1),
    "rocksdb.min_blob_size": Key("int", 4096, setter=1),
    "rocksdb.blob_file_size": Key("int", 256 * MIB, setter=1),
    "rocksdb.enable_blob_garbage_collection": Key("yesno", True),
    "rocksdb.blob_garbage_collection_age_cutoff": Key("int", 25, 0, 100),
    "rocksdb.max_bytes_for_level_base": Key("int", 256 * MIB, setter=1),
    "rocksdb.max_bytes_for_level_multiplier": Key("int", 10, 1, 100),
    "rocksdb.level_compaction_dynamic_level_bytes": Key("yesno", False, setter=1),
    "rocksdb.rate_limiter_auto_tuned": Key("yesno", True),
    "rocksdb.avoid_unnecessary_blocking_io": Key("yesno", True, setter=1),
    "rocksdb.dump_malloc_stats": Key("yesno", True, setter=1),
    "rocksdb.write_options.sync": Key("yesno", False),
    "rocksdb.write_options.disable_wal": Key("yesno", False),
    "rocksdb.write_options.no_slowdown": Key("yesno", False),
    "rocksdb.write_options.low_pri": Key("yesno", False),
    "rocksdb.write_options.memtable_insert_hint_per_batch": Key("yesno", False),
    "rocksdb.read_options.async_io": Key("yesno", True),
    "rocksdb.read_options.verify_checksums": Key("yesno", True),
    "rocksdb.use_direct_reads": Key("yesno", False, setter=1),
    "rocksdb.use_direct_io_for_flush_and_compaction": Key("yesno", False, setter=1),
}

# Keys of Kvrocks that mean nothing here, with the one value (if any) that asks for nothing either.
KVROCKS_ONLY: dict[str, str | None] = {
    "rocksdb.max_background_compactions": "-1",
    "rocksdb.max_background_flushes": "-1",
    "rocksdb.delayed_write_rate": "0",
    "rocksdb.wal_compression": "no",
    "rocksdb.write_options.write_batch_max_bytes": "0",
    "rocksdb.share_metadata_and_subkey_block_cache": "yes",
    "workers": None,
    "daemonize": "no",
    "timeout": "0",
    "requirepass": None,
    "masterauth": None,
    "slaveof": None,
    "cluster-enabled": "no",
    "persist-cluster-nodes-enabled": None,
    "db-name": None,
    "log-dir": None,
    "log-level": None,
    "log-retention-days": None,
    "pidfile": None,
    "supervised": "no",
    "backup-dir": None,
    "max-db-size": "0",
    "max-replication-mb": "0",
    "socket-fd": "-1",
    "tls-port": "0",
    "unixsocketperm": None,
    "auto-resize-block-and-sst": "no",
    "compact-cron": None,
    "bgsave-cron": None,
    "dbsize-scan-cron": None,
    "compaction-checker-range": None,
    "compaction-checker-cron": None,
    "slowlog-log-slower-than": "-1",
    "slowlog-max-len": None,
    "profiling-sample-ratio": "0",
    "repl-namespace-enabled": "no",
    "txn-context-enabled": "no",
    "use-rsid-psync": "no",
}


def parse_value(name: str, text: str) -> Value | None:
    """The typed value of key `name`; None for a key of Kvrocks alone left neutral. Raises UserError."""
    if name in KVROCKS_ONLY:
        neutral = KVROCKS_ONLY[name]
        if neutral is not None and text.lower() == neutral:
            return None
        may_stay = f" or set it to {neutral}" if neutral is not None else ""
        raise UserError(
            f"{name} is a key of Kvrocks that the rocksdict store cannot express: remove it{may_stay}"
        )
    if name not in KEYS:
        near = difflib.get_close_matches(name, [*KEYS, *KVROCKS_ONLY], n=1, cutoff=0.0)[0]
        raise UserError(f"unknown key {name}: did you mean {near}?")
    key = KEYS[name]
    value = _convert(key, text)
    if value is None:
        raise UserError(f"bad value {text!r} for {name}: it takes {key.allowed()}")
    return value


def _convert(key: Key, text: str) -> Value | None:
    lowered = text.lower()
    if key.kind == "text":
        return text
    if key.kind == "yesno":
        return {"yes": True, "no": False}.get(lowered)
    if key.kind == "choice":
        return lowered if lowered in key.choices else None
    found = number(lowered, BINARY_UNITS if key.kind == "bytes" else {})
    return found if found is not None and key.low <= found <= key.high else None


def parse_pairs(pairs: Sequence[Sequence[str]]) -> Settings:
    """The settings of `--set KEY VALUE` pairs. Raises UserError."""
    parsed = {name.lower(): parse_value(name.lower(), text) for name, text in pairs}
    return {name: value for name, value in parsed.items() if value is not None}


def complete(*layers: Mapping[str, Value]) -> Settings:
    """Every key with its effective value: defaults, then each layer over the one before. Raises UserError."""
    settings: Settings = {name: key.default for name, key in KEYS.items()}
    for layer in layers:
        settings.update(layer)
    if settings["rocksdb.enable_pipelined_write"] and settings["rocksdb.write_options.disable_wal"]:
        raise UserError(
            "rocksdb.enable_pipelined_write and rocksdb.write_options.disable_wal exclude each other: "
            "set one of them to no"
        )
    if settings["rocksdb.write_options.sync"] and settings["rocksdb.write_options.disable_wal"]:
        raise UserError(
            "rocksdb.write_options.sync yes needs the WAL: set rocksdb.write_options.disable_wal to no"
        )
    return settings


def as_text(value: Value) -> str:
    """A value as a configuration file spells it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
