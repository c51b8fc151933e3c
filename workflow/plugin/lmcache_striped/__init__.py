"""KV chunks of vLLM and LMCache as stripes in Kvrocks or Valkey: many values, all of them in flight at once."""

__version__ = "1.0.0"
