"""Rule write_ladder: what every step brings over the one before and over the first, paired by repeat.

python -m workflow.hyperkv.tables.ladder --spec '{...}' --cells results/sweep/*/*.jsonl --out results/tables/ladder.csv
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Spec
from ..base.own_command import snakemake_command
from ..records.frames import Asked, Cells, Out, read_cells, write_table
from ..records.repeats import counted, known, said_once, spreads, used
from ..records.stats import Interval, median_interval, spread
from .cells import cells_table
from .methods.dictionary import table_of
from .methods.ladder_parity import require_steps

VALUES = ("ttft_p50_ms", "rps_per_gpu", "tps_per_user", "hit_rate", "load_gbps", "device_share")
GAINS = {"ttft_gain": ("ttft_p50_ms", True), "rps_gain": ("rps_per_gpu", False)}


def main(*, spec: Spec, cells: Cells, asked: Asked = None, out: Out) -> None:
    """Write the table.

    Args:
        spec: JSON: the steps, and what is beside them.
    """
    write_table(ladder_table(spec, read_cells(cells, asked, "cell")), out)


def ladder_table(spec: Mapping[str, Any], records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per step x load, medians over repeats and gains (more than 1 is better), then those of what is beside.

    A step's value is over its valid cells when there are any; a gain pairs repeats in which both are valid. Raises
    UserError when the records' own specs differ in more or less than the steps name, or a scenario has no cell.
    """
    _require_parity(spec, records)
    cells = cells_table(records)
    rows = []
    steps = spec["steps"]
    for number, step in enumerate(steps):
        previous = steps[number - 1]["scenario"] if number else None
        for load, own in cells[cells["scenario"] == step["scenario"]].groupby("load", sort=True):
            at_load = cells[cells["load"] == load]
            rows.append(
                {"step": step["step"], "number": number, "changes": ", ".join(step["changes"])}
                | _summary(own)
                | _gains(own, at_load[at_load["scenario"] == previous], "previous")
                | _gains(
                    own, at_load[at_load["scenario"] == steps[0]["scenario"]] if number else None, "first"
                )
            )
    for name in spec["beside"]:
        for _, own in cells[cells["scenario"] == name].groupby("load", sort=True):
            rows.append(_summary(own))
    return table_of("ladder", rows)


def _require_parity(spec: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    by_scenario: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        by_scenario.setdefault(record["scenario"], []).append(record)
    wanted = [*(step["scenario"] for step in spec["steps"]), *spec["beside"]]
    for name in wanted:
        if name not in by_scenario:
            raise UserError(
                f"ladder: scenario {name} was not measured; `{snakemake_command('ladder')}` measures it"
            )
        if len({record["spec_digest"] for record in by_scenario[name]}) > 1:
            raise UserError(
                f"ladder: scenario {name}: its repeats are of several configurations; measure it again"
            )
    require_steps(spec["steps"], [by_scenario[step["scenario"]][0]["spec"] for step in spec["steps"]])


def _summary(own: pd.DataFrame) -> dict[str, Any]:
    counting = used(own)
    row = {**own.iloc[0], **counted(own), **spreads(counting, VALUES)}
    return row | {"served_from": said_once(counting["served_from"], "/")}


def _gains(own: pd.DataFrame, other: pd.DataFrame | None, over: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, (column, lower_is_better) in GAINS.items():
        row |= spread(f"{name}_over_{over}", gain(own, other, column, lower_is_better))
    return row


def gain(own: pd.DataFrame, other: pd.DataFrame | None, column: str, lower_is_better: bool) -> Interval:
    """How many times better `own` is than `other`, paired by repeat, of valid cells."""
    if other is None:
        return Interval(None, None, None)
    pairs = own[own["valid"]].merge(other[other["valid"]], on="repeat", suffixes=("", "_before"))
    pairs = pairs.sort_values("repeat")
    new, old = (pairs[name].replace(0, math.nan) for name in (column, f"{column}_before"))
    return median_interval(known(old / new if lower_is_better else new / old))


if __name__ == "__main__":
    sys.exit(run_stage("ladder", main))
