"""Rule write_sharing: what sharing one store among engines buys: what one engine saved and another found, and what that changes.

python -m workflow.hyperkv.tables.sharing --cells results/sweep/*/*.jsonl --out results/tables/sharing.csv
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.digests import canonical_digest
from ..records import hardware
from ..records.evidence import quotient
from ..records.frames import Asked, Cells, Out, read_cells, write_table
from ..records.repeats import counted, spreads, used
from ..records.stats import spread
from .cells import cell_row
from .ladder import GAINS, gain
from .methods.dictionary import table_of

SHARES = ("held_share", "own_share", "other_share", "store_share")
_VALUES = (*SHARES, "hit_rate", "rps_per_gpu", "ttft_p50_ms", "ttft_p95_ms")
_NOT_ALIKE = ("name", "shared")


def main(*, cells: Cells, asked: Asked = None, out: Out) -> None:
    """Write the table."""
    write_table(sharing_table(read_cells(cells, asked, "cell")), out)


def sharing_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per scenario of several engines and load: who saved what was found, medians over valid repeats when there are any.

    Gains are over the scenario that is the same but for `shared: false`, paired by repeat.
    """
    rows = [_row(record) for record in records if record["spec"].get("engines", 1) > 1]
    if not rows:
        return table_of("sharing", [])
    cells, found = pd.DataFrame(rows), []
    for (_, load), own in cells.groupby(["scenario", "load"], sort=False):
        counting, first = used(own), own.iloc[0]
        apart = cells[(cells["alike"] == first["alike"]) & ~cells["shared"] & (cells["load"] == load)]
        row = {**counting.iloc[0], **counted(own), **spreads(counting, _VALUES), **hardware.joined(counting)}
        over = apart if first["shared"] and first["can_share"] and len(apart) else None
        row["apart"] = None if over is None else over.iloc[0]["scenario"]
        for name, (column, lower_is_better) in GAINS.items():
            row |= spread(name, gain(own, over, column, lower_is_better))
        found.append(row)
    return table_of("sharing", found)


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    scenario, evidence = record["spec"]["scenario"], record["evidence"]
    queried, store, others = (evidence[f"{name}_tokens"] for name in ("queried", "store_hit", "other_hit"))
    held = [evidence[f"{name}_hit_tokens"] for name in ("hbm", "dram")]
    return {
        **cell_row(record),
        "engines": record["spec"]["engines"],
        "shared": scenario.get("shared", True),
        "routing": scenario.get("routing", "conversation"),
        "can_share": scenario["tier"] != "none" and scenario["store"] != "dram",
        "alike": canonical_digest({key: value for key, value in scenario.items() if key not in _NOT_ALIKE}),
        "held_share": None if None in held else quotient(sum(held), queried),
        "store_share": quotient(store, queried),
        "other_share": quotient(others, queried),
        "own_share": None if others is None else quotient(store - others, queried),
    }


if __name__ == "__main__":
    sys.exit(run_stage("sharing", main))
