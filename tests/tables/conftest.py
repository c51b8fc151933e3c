"""Records that the tests of tables start from, and the sweep's tables as their commands write them."""

import json
from pathlib import Path

import pytest

from tests.helpers import command, write_as_a_stage
from tests.record_factory import measured, varied
from workflow.hyperkv.tables import (
    cells,
    columns,
    environment,
    latency,
    ratios,
    requests,
    scenarios,
    sweep_time,
)

SPEC = json.dumps({"figures": {"baseline": None, "chunk_tokens": 32}})


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> dict[str, dict]:
    """One measured record of scenarios none and dram. Not to be changed."""
    folder = tmp_path_factory.mktemp("real")
    return {name: measured(folder, name) for name in ("none", "dram")}


@pytest.fixture
def tables_of(tmp_path):
    """Writes every table of the sweep that records give; the folder of the tables."""

    def write(records: list[dict]) -> Path:
        found, out = tmp_path / "cells.jsonl", tmp_path / "tables"
        write_as_a_stage(found, records)
        command(cells, "--cells", found, "--out", out / "cells.csv", out / "cells.parquet")
        command(requests, "--cells", found, "--out", out / "requests.parquet")
        command(scenarios, "--cells", out / "cells.parquet", "--out", out / "scenarios.csv")
        command(ratios, "--spec", SPEC, "--cells", out / "cells.parquet", "--out", out / "ratios.csv")
        command(sweep_time, "--cells", found, "--out", out / "sweep_time.csv")
        command(latency, "--cells", found, "--out", out / "latency.csv")
        command(columns, "--out", out / "columns.csv")
        command(environment, "--cells", found, "--out", out / "environment.json")
        return out

    return write


@pytest.fixture
def written(tables_of, real) -> Path:
    """Tables of the two records, twice each."""
    return tables_of([varied(record, repeat=repeat) for record in real.values() for repeat in (1, 2)])
