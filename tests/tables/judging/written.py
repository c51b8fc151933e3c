"""Claims and cells that the tests of claims are about."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from workflow.hyperkv.tables.judging.claim import Claim, read_claims

RATIO = {
    "kind": "ratio",
    "table": "cells",
    "column": "rps_per_gpu",
    "where": {"load": "highest"},
    "of": {"store": "dram"},
    "over": {"store": "files"},
}
EQUAL_SPEED = {"kind": "at_equal_speed", "of": {"store": "dram"}, "over": {"store": "files"}}


def claim(value=RATIO, condition=None, **more) -> dict[str, Any]:
    """A claim as it is written, by default that dram serves more than files; more: keys to add or replace."""
    words = {"id": "a_claim", "statement": "It holds", "source": "a test", "unit": "ratio"}
    return {**words, **value, **(condition or {"above": 1}), **more}


def median(table: str, column: str, **where) -> dict[str, Any]:
    """The median of a column as it is written."""
    return {"kind": "median", "table": table, "column": column, "where": where}


def written(folder: Path, *claims, text=None) -> Path:
    """A file of claims, or of a text."""
    path = folder / "claims.yaml"
    path.write_text(text if text is not None else yaml.safe_dump({"claims": list(claims)}))
    return path


def read(folder: Path, *arguments, **more) -> Claim:
    """The one claim that `claim` makes of the arguments, read from a file."""
    (found,) = read_claims(written(folder, claim(*arguments, **more)))
    return found


def cells(dram=(3.0, 4.0, 5.0), files=(1.5, 2.0, 2.0), **columns) -> pd.DataFrame:
    """Cells of two scenarios at loads 1 and 4; those at load 4 have the given RPS/GPU by repeat."""
    rows = [
        {
            "engine": "replay",
            "gpu": "H100",
            "scenario": f"{store}-64",
            "tier": tier,
            "store": store,
            "connector": "inprocess",
            "chunk_tokens": 64,
            "connections": 2,
            "save_decode_cache": True,
            "kv_dtype": "bfloat16",
            "gpus": 1,
            "pair": None,
            "versions": None,
            "comparable_digest": "same",
            "load": load,
            "repeat": repeat,
            "valid": True,
            "reasons": None,
            "rps_per_gpu": value if load == 4 else 9.0,
            "tps_per_user": 100.0 / load,
        }
        for store, tier, values in (("dram", "dram", dram), ("files", "ssd", files))
        for load in (1, 4)
        for repeat, value in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows).assign(**columns)
