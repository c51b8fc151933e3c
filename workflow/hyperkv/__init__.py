"""HyperKV: what keeping an LLM's KV cache on SSD costs and buys, compared with DRAM."""

__version__ = "2.0.0"
