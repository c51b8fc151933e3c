"""What RocksDB needs in order to give back the space of values that were deleted, without reading or moving one.

A value is deleted in the keys alone; its bytes go with their blob file, when a compaction of keys has met the deletion of the
last value in it. So compactions are to be frequent, which costs nothing where they read keys only, files small, and what
waits for a compaction a small part of the bound. Nothing is moved from file to file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base import StoreConfig

_MIB = 1 << 20
_BUFFERS = 128  # write buffers that the bound is worth
_MOST_BUFFER_MIB = 256
_WAITING_SHARE = 0.02  # of the bound, between two compactions
_MERGED = 2  # buffers that are written at a time, here as in Kvrocks
_PIECES = 8  # of a value of a chunk's bytes, at least: what a file has beside it goes with another chunk
_MOST_FILES = 1 << 18
_MOST_TRIGGER = 16
_LEVEL_BYTES = 1 << 30  # of keys: all are in one level, so that every deletion meets its value at once


def in_blob_files(settings: Mapping[str, Any]) -> bool:
    """Whether values lie in blob files that nothing is moved from."""
    told = {key.lower(): value for key, value in settings.items()}
    kept = told.get("rocksdb.enable_blob_files"), told.get("rocksdb.enable_blob_garbage_collection")
    return kept[0] in (True, "yes") and kept[1] in (False, "no")


def bounded_of(config: StoreConfig) -> dict[str, Any]:
    """The settings of a server with a bound, see bounded_settings; what it has of a chunk is its value_bytes."""
    assert config.bound_bytes is not None
    stripe_bytes = config.stripe_bytes or config.value_bytes
    return bounded_settings(config.settings, config.bound_bytes, config.value_bytes, stripe_bytes)


def bounded_settings(
    settings: Mapping[str, Any], bound_bytes: int, chunk_bytes: int, stripe_bytes: int
) -> dict[str, Any]:
    """The settings of a server that keeps `bound_bytes` of chunks of which it has `chunk_bytes` each, in values of stripe_bytes.

    Write buffers are no larger than a 128th of the bound. Without a log: one would write everything twice.
    """
    given = settings.get("rocksdb.write_buffer_size", _MOST_BUFFER_MIB)
    buffer_mib = max(1, min(int(given), bound_bytes // _BUFFERS // _MIB))
    trigger = int(_WAITING_SHARE * bound_bytes) // (_MERGED * buffer_mib * _MIB)
    file_bytes = max(min(stripe_bytes, chunk_bytes), chunk_bytes // _PIECES, bound_bytes // _MOST_FILES)
    return {
        **settings,
        "rocksdb.enable_blob_files": "yes",
        "rocksdb.blob_file_size": file_bytes,
        "rocksdb.enable_blob_garbage_collection": "no",
        "rocksdb.disable_auto_compactions": "no",
        "rocksdb.level0_file_num_compaction_trigger": max(1, min(trigger, _MOST_TRIGGER)),
        "rocksdb.max_bytes_for_level_base": _LEVEL_BYTES,
        "rocksdb.compression": "no",
        "rocksdb.write_buffer_size": buffer_mib,
        "rocksdb.write_options.disable_wal": "yes",
    }
