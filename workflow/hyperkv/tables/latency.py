"""Rule write_latency: TTFT of single requests by prompt length and pass.

python -m workflow.hyperkv.tables.latency --cells results/sweep/*/*.jsonl --out results/tables/latency.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..records import hardware
from ..records.effective import facts_of
from ..records.frames import Asked, Cells, Out, read_cells, write_table
from ..records.repeats import pass_of
from ..records.scenario import gate_of
from ..records.stats import median_interval, spread
from .methods.dictionary import table_of


def main(*, cells: Cells, asked: Asked = None, out: Out) -> None:
    """Write the table."""
    write_table(latency_table(read_cells(cells, asked, "single")), out)


def latency_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per scenario, prompt length and pass of single requests: the median TTFT over prompts and repeats, of those requests that
    proved themselves where some did.

    pass: computed (no tier), saved (computed, and saved to the tier), loaded (the same prompt from the tier).
    """
    groups: dict[tuple[str, int, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for record in records:
        for sample in record["samples"]:
            key = (record["scenario"], sample["prompt_tokens"], pass_of(record, sample))
            groups.setdefault(key, []).append((record, sample))
    rows = []
    for (scenario, tokens, kind), found in groups.items():
        record = found[0][0]
        own = record["spec"]["scenario"]
        faults = dict.fromkeys(fault for _, sample in found for fault in sample["faults"])
        counted = [each for each in found if not each[1]["faults"]] or found
        rows.append(
            {
                "engine": record["engine"],
                "model": record["model"],
                "gpu": hardware.gpu_of(record)["gpu"],
                "gpus": record["gpus"],
                "scenario": scenario,
                **{key: own.get(key) for key in ("tier", "store", "connector", "chunk_tokens")},
                "gate": gate_of(own),
                **{key: facts_of(record)[key] for key in ("kv_dtype", "pair")},
                "prompt_tokens": tokens,
                "pass": kind,
                "prompts": len(counted),
                "cached_tokens": min(sample["cached_tokens"] for _, sample in found),
                **spread("ttft_s", median_interval([sample["ttft_s"] for _, sample in counted])),
                "valid": not faults,
                "reasons": "; ".join(faults),
                **hardware.columns_of(record for record, _ in found),
            }
        )
    return table_of("latency", rows)


if __name__ == "__main__":
    sys.exit(run_stage("latency", main))
