"""HyperKV: what keeping an LLM's KV cache on SSD costs and buys, compared with DRAM."""
