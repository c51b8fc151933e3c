"""Specs of predictions, as the config's slices give them to the commands."""

MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "deepseek-v3")
BREAK_EVEN = {
    "models": [f"config/models/{name}.json" for name in MODELS],
    "gpus": [f"config/gpus/{name}.yaml" for name in ("l4", "a100-80gb", "h100", "h200")],
    "prompt_tokens": [1024, 8192, 32768, 65536],
    "kv_dtype": "auto",
    "chunk_tokens": 64,
}
MODEL = "config/models/llama-3.1-8b.json"
REFERENCE = {"kind": "multi_turn", "conversations": 400}
CHUNKS = [16, 32, 64, 128, 256, 512, 1024, 2048]


def spec(tiers, workload=REFERENCE, chunks=CHUNKS, seeds=10, active=(50,), clients=50) -> dict:
    """A spec of one case, as the config's slice gives it to the stage."""
    case = {
        "model": MODEL,
        "kv_dtype": "auto",
        "block_tokens": 16,
        "workload": workload,
        "active_conversations": list(active),
        "clients": clients,
        "seeds": seeds,
        "counted": "all",
        "lookup": "prompt",
        "tiers": tiers,
    }
    return {
        "seed": 1,
        "chunk_tokens": list(chunks),
        "save_decode_cache": [True, False],
        "cases": {"reference": case},
    }
