"""Store `kvrocks`: Apache Kvrocks, RocksDB on SSD over RESP, as the reference project runs it."""
