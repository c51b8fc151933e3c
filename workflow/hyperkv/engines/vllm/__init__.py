"""Engine `vllm`: AIPerf -> vLLM -> LMCache -> store."""
