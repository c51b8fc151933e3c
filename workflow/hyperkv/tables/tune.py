"""Rule write_tune: every trial of a search and every engine-level cell of its finalists as a row.

python -m workflow.hyperkv.tables.tune --trials results/tune/*/trials.jsonl --finalists results/tune/*/finalists.jsonl --out results/tables/tune.csv
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Files
from ..records.frames import Asked, Out, read_jsonl, write_table
from ..records.stats import median
from .methods.dictionary import table_of

COST = "cost_s_per_ktokens"


def main(*, trials: Files = (), finalists: Files = (), asked: Asked = None, out: Out) -> None:
    """Write the table.

    Args:
        trials: trials.jsonl of the searches.
        finalists: finalists.jsonl of the same.
    """
    write_table(tune_table(read_jsonl(trials, asked), read_jsonl(finalists, asked)), out)


def tune_table(trials: Sequence[Mapping[str, Any]], finalists: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per trial (level store) and per cell of a finalist (level engine). What is not known is empty."""
    rows = [_trial_row(record) for record in trials] + [_cell_row(record) for record in finalists]
    return table_of("tune", rows)


def _trial_row(record: Mapping[str, Any]) -> dict[str, Any]:
    medians = {
        key: median([entry[key] for entry in record["rounds"]])
        for key in ("set_gbps", "get_gbps", "device_share")
    }
    return {
        "scenario": record["scenario"],
        "level": "store",
        "phase": "search",
        "number": record["trial"],
        **_outcome(record, record["state"], record["reason"]),
        "metric": COST,
        "value": record[COST],
        **medians,
        "spent_s": record["spent_s"],
    }


def _cell_row(record: Mapping[str, Any]) -> dict[str, Any]:
    cell = record["cell"]
    state = "valid" if record["valid"] else "invalid" if cell else "failed"
    return {
        "scenario": record["scenario"],
        "level": "engine",
        "phase": record["phase"],
        "number": record["candidate"],
        "repeat": record["repeat"],
        **_outcome(record, state, "; ".join(record["reasons"])),
        "metric": record["metric"],
        "value": record["value"],
        "device_share": cell["evidence"]["device_share"] if cell else None,
        "served_from": cell["served_from"] if cell else None,
        "spent_s": cell["cell_s"] if cell else None,
    }


def _outcome(record: Mapping[str, Any], state: str, reason: str | None) -> dict[str, Any]:
    return {"state": state, "reason": reason or None, "parameters": json.dumps(record["parameters"])}


if __name__ == "__main__":
    sys.exit(run_stage("tune", main))
