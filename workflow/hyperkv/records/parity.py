"""Like for like: what rows that are compared must share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ..base.digests import canonical_digest
from ..base.errors import UserError
from ..base.own_command import snakemake_command

SHARED = ("engine", "gpu", "comparable_digest", "kv_dtype", "gpus", "pair", "versions")
SHARED_BY_CACHING = ("chunk_tokens", "connections", "save_decode_cache")
_NOT_SHARED = ("scenario", "loads", "kv_dtype", "data_dir", "engine_python", "environment_records")
_WITHOUT_CONNECTIONS = ("inprocess", "offloading")
_UNLIKE = {
    "save_decode_cache": (
        "it says whether answers were saved, as it happened and not as it was asked: measure them again, with one "
        "save_decode_cache and versions of vLLM and LMCache that keep to it"
    ),
    "kv_dtype": "give them one kv_dtype",
    "gpus": "figures per GPU of different numbers of GPUs are not alike: give them one vllm.tensor_parallel and experiment.engines",
    "gpu": "measure them on one kind of GPU",
    "pair": "compare scenarios of one pair of vLLM and LMCache, with its own of tier none",
    "versions": "measure them with one environment",
    "dram_pool_bytes": "give them one dram_pool_bytes",
    "chunk_tokens": "set figures.chunk_tokens to a size that they share",
    "connections": "give them one number of connections, over all processes",
}


def comparable_digest(record: Mapping[str, Any]) -> str:
    """Names what must be alike for two cells to stand in one figure beside the facts that parity compares by themselves:
    all but the scenario's own keys, kv_dtype, data_dir, of which the disk is a fact of the machine, and what is its pair's."""
    spec = record["spec"]
    shared = {key: value for key, value in spec.items() if key not in _NOT_SHARED}
    if "vllm" in shared:
        shared["vllm"] = {key: value for key, value in shared["vllm"].items() if key != "pairs"}
    own = spec["scenario"].get("vllm")
    return canonical_digest({**shared, "scenario_vllm": own, "gpu_model": record.get("gpu_model")})


def require_parity(rows: pd.DataFrame, vary: Sequence[str], who: str = "figures") -> None:
    """Refuse to compare scenarios that differ in more than the named columns.

    The columns say what happened (effective.facts_of). Connections are those to all processes of a store together; pools
    are compared where they are the store, and where they are before one. Where pairs may differ (which figures say),
    versions are compared within each. What is not known is unlike what is, but in rows that are not valid. rows: of scenarios.csv, cells.csv, cost.csv or cost_repeats.csv. who: begins the message. Raises
    UserError naming the column that differs, each scenario's value and the mend.
    """
    caching = rows[rows["tier"] != "none"]
    pools = [rows[rows["store"] == "dram"], caching[caching["store"] != "dram"]]
    compared = [
        *((column, rows) for column in SHARED),
        *((column, caching) for column in SHARED_BY_CACHING if column != "connections"),
        ("connections", _connected(caching)),
        *(("dram_pool_bytes", pool) for pool in pools),
    ]
    for column, part in compared:
        if column in vary or column not in part:
            continue
        within = column == "versions" and "pair" in vary and "pair" in part
        for _, alike in part.groupby("pair", dropna=False) if within else [(None, part)]:
            _require_one(alike, column, who)


def unlike(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """Facts in which the cells of two scenarios differ, so that a ratio of them says nothing; chunks and pools may differ."""
    rows = pd.concat([one, other])
    caching = rows[rows["tier"] != "none"]
    compared = [*((column, rows) for column in SHARED), ("save_decode_cache", caching)]
    return [column for column, part in compared if column in part and part[column].nunique(dropna=False) > 1]


def require_one_configuration(cells: pd.DataFrame, who: str) -> None:
    """Refuse a scenario whose cells are of several configurations, or whose valid cells ran with different facts.

    cells: of cells_table. Raises UserError naming the scenario and what differs.
    """
    for scenario, group in cells.groupby("scenario", sort=False) if len(cells) else ():
        columns = ("spec_digest", *SHARED, "save_decode_cache")
        for column in columns:
            found = (group if column == "spec_digest" else group[group["valid"]])[column]
            if found.nunique(dropna=False) > 1:
                values = ", ".join("not known" if pd.isna(value) else str(value) for value in found.unique())
                raise UserError(
                    f"{who}: scenario {scenario}: its cells differ in {column} ({values}), so they are no repeats of one "
                    f"another; delete results/sweep/{scenario} and run the same command again"
                )


def _mend(column: str) -> str:
    return _UNLIKE.get(column) or f"measure them under one configuration (`{snakemake_command('sweep')}`)"


def _require_one(rows: pd.DataFrame, column: str, who: str) -> None:
    if "valid" in rows:
        rows = rows[rows[column].notna() | (rows["valid"] == True)]  # noqa: E712
    by_value = rows.groupby(column, sort=False, dropna=False)["scenario"].unique()
    if len(by_value) > 1:
        unknown = "none" if column == "dram_pool_bytes" else "not known"
        told = "; ".join(
            f"{unknown if pd.isna(value) else value}: {', '.join(names)}" for value, names in by_value.items()
        )
        raise UserError(
            f"{who}: scenarios differ in {column} ({told}); compare like with like: {_mend(column)}"
        )


def _connected(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose connector has connections, in all; what runs inside vLLM without a server has none."""
    without = rows["connector"].isin(_WITHOUT_CONNECTIONS) | (rows["store"] == "dram")
    kept = rows[~((rows["engine"] == "vllm") & without)]
    if "processes" not in kept:
        return kept
    processes = pd.to_numeric(kept["processes"]).fillna(1).astype(int)
    return kept.assign(connections=kept["connections"] * processes)


def differences(one: Any, other: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each key in which two slices of a configuration differ, such as loadgen.timeout_s, with the value of either; None for none."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys([*one, *other]):
            yield from differences(one.get(name), other.get(name), f"{key}.{name}".lstrip("."))
    elif one != other:
        yield key, one, other
