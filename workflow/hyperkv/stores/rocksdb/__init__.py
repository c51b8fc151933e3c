"""Store `rocksdb`: embedded RocksDB behind our own RESP server process."""
