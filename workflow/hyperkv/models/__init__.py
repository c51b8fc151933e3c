"""What a language model is to the cache: its config.json read as transformers and vLLM read it."""
