"""Rows of table pays: pairs of model and GPU with the stores that serve them."""

import pandas as pd

from workflow.hyperkv.tables.pays import pays_table

GB = 1e9


def pair(model="m", gpu="NVIDIA H100 80GB HBM3", tokens=8192, kv_dtype="bfloat16", **changes):
    """A row of break_even: 1 GB of KV, 1 s to compute it, 0.1 s of copy, last step and what else a hit takes, so break-even is 1.11 GB/s."""
    row = {"model": model, "gpu": gpu, "kv_dtype": kv_dtype, "prompt_tokens": tokens, "kv_bytes": GB}
    row |= {"prefill_s": 1.0, "copy_s": 0.05, "step_s": 0.03, "hit_s": 0.02, "gpus_for_weights": 1}
    row |= {"assumption": "published" if "(derived)" in gpu else None, "scaled_from": None}
    return row | changes


def placed(of, scenario, tier, connector, gbps, low=None, high=None):
    """A row of placed_stores for a pair."""
    ttft_s = of["kv_bytes"] / gbps / GB + of["copy_s"] + of["step_s"] + of["hit_s"]
    keys = ("model", "gpu", "kv_dtype", "prompt_tokens")
    return {key: of[key] for key in keys} | {
        "machine": "2 x CPU", "scenario": scenario, "tier": tier, "connector": connector, "gbps": gbps,
        "gbps_low": low, "gbps_high": high, "ttft_s": ttft_s,
    }  # fmt: skip


def stores_of(of, ssd=(2.0, 1.8, 2.2)):
    return [
        placed(of, "files", "ssd", "inprocess", *ssd),
        placed(of, "kvrocks", "ssd", "resp", 0.3, 0.2, 0.4),
        placed(of, "valkey", "dram", "resp", 5.0, 4.0, 6.0),
        placed(of, "dram", "dram", "inprocess", 9.0, 8.0, 10.0),
    ]


def table_of(pairs, **stores):
    return pays_table(
        pd.DataFrame(pairs), pd.DataFrame(row for of in pairs for row in stores_of(of, **stores))
    )
