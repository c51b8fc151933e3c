"""The keys' values translated into `rocksdict` options."""

from collections.abc import Mapping

import rocksdict

from .keys import COMPRESSION_LEVEL_UNSET, KEYS, LEVELS, MIB, Value


def block_cache_bytes(settings: Mapping[str, Value]) -> int:
    """Block cache capacity in bytes: `block_cache_size`, or the sum of Kvrocks's two caches when it is 0."""
    megabytes = int(settings["rocksdb.block_cache_size"]) or (
        int(settings["rocksdb.subkey_block_cache_size"]) + int(settings["rocksdb.metadata_block_cache_size"])
    )
    return megabytes * MIB


def option_calls(settings: Mapping[str, Value]) -> dict[str, tuple]:
    """Setter of `rocksdict.Options` -> its arguments in RocksDB's own units (bytes)."""
    value = {name.removeprefix("rocksdb."): setting for name, setting in settings.items()}
    calls: dict[str, tuple] = {
        "create_if_missing": (True,),
        "create_missing_column_families": (True,),
        "set_min_write_buffer_number_to_merge": (2,),
        "set_num_levels": (LEVELS,),
        "set_max_manifest_file_size": (64 * MIB,),
        "set_max_log_file_size": (256 * MIB,),
        "set_keep_log_file_num": (12,),
        "set_atomic_flush": (value["write_options.disable_wal"],),
        "set_level_zero_slowdown_writes_trigger": (value["level0_slowdown_writes_trigger"],),
        "set_level_zero_stop_writes_trigger": (value["level0_stop_writes_trigger"],),
        "set_level_zero_file_num_compaction_trigger": (value["level0_file_num_compaction_trigger"],),
        "set_enable_blob_gc": (value["enable_blob_garbage_collection"],),
        "set_blob_gc_age_cutoff": (int(value["blob_garbage_collection_age_cutoff"]) / 100,),
        "set_max_bytes_for_level_multiplier": (float(value["max_bytes_for_level_multiplier"]),),
    }
    for name, key in KEYS.items():
        if key.setter:
            setting = settings[name]
            calls[f"set_{name.removeprefix('rocksdb.')}"] = (
                setting if key.setter == 1 else int(setting) * key.setter,
            )
    if value["max-io-mb"]:
        limiter = "set_auto_tuned_ratelimiter" if value["rate_limiter_auto_tuned"] else "set_ratelimiter"
        calls[limiter] = (value["max-io-mb"] * MIB, 100_000, 10)
    if value["compression_level"] != COMPRESSION_LEVEL_UNSET:
        calls["set_compression_options"] = (-14, value["compression_level"], 0, 0)
    return calls


def compressions_per_level(settings: Mapping[str, Value]) -> list[str]:
    """Compression of each of the 7 levels: none below `compression_start_level`, as Kvrocks does."""
    start = int(settings["rocksdb.compression_start_level"])
    return ["no" if level < start else str(settings["rocksdb.compression"]) for level in range(LEVELS)]


def _compression(name: str) -> rocksdict.DBCompressionType:
    return getattr(rocksdict.DBCompressionType, "none" if name == "no" else name)()


def new_block_cache(settings: Mapping[str, Value]) -> rocksdict.Cache:
    """The block cache that all column families share."""
    capacity = block_cache_bytes(settings)
    if settings["rocksdb.block_cache_type"] == "hcc":
        return rocksdict.Cache.new_hyper_clock_cache(capacity, 0)
    return rocksdict.Cache(capacity)


def build_options(
    settings: Mapping[str, Value], cache: rocksdict.Cache, values: bool = True
) -> rocksdict.Options:
    """RocksDB options for complete settings; `values` False gives the small index family (no blob files)."""
    options = rocksdict.Options(raw_mode=True)
    for setter, arguments in option_calls(settings).items():
        getattr(options, setter)(*arguments)
    options.set_compression_per_level([_compression(name) for name in compressions_per_level(settings)])
    options.set_blob_compression_type(_compression(str(settings["rocksdb.compression"])))
    if settings["rocksdb.row_cache_size"]:
        options.set_row_cache(rocksdict.Cache(int(settings["rocksdb.row_cache_size"]) * MIB))
    if not values:
        options.set_enable_blob_files(False)
        options.set_min_write_buffer_number_to_merge(1)
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(int(settings["rocksdb.block_size"]))
    table.set_cache_index_and_filter_blocks(bool(settings["rocksdb.cache_index_and_filter_blocks"]))
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_bloom_filter(10, False)
    table.set_format_version(5)
    options.set_block_based_table_factory(table)
    options.enable_statistics()
    return options


def build_write_options(settings: Mapping[str, Value]) -> rocksdict.WriteOptions:
    """The options of every write."""
    options = rocksdict.WriteOptions()
    for name in ("sync", "disable_wal", "no_slowdown", "low_pri", "memtable_insert_hint_per_batch"):
        setattr(options, name, settings[f"rocksdb.write_options.{name}"])
    return options


def build_read_options(settings: Mapping[str, Value]) -> rocksdict.ReadOptions:
    """The options of every read."""
    options = rocksdict.ReadOptions()
    options.set_async_io(bool(settings["rocksdb.read_options.async_io"]))
    options.set_verify_checksums(bool(settings["rocksdb.read_options.verify_checksums"]))
    return options
