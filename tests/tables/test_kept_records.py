"""Records of every age that are kept give tables."""

from pathlib import Path

import pytest

from workflow.hyperkv.records.frames import read_jsonl, read_parquet, write_table
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.latency import latency_table
from workflow.hyperkv.tables.ratios import default_baseline, ratios_table
from workflow.hyperkv.tables.scenarios import scenarios_table
from workflow.hyperkv.tables.sweep_time import sweep_time_table

REFERENCE = [
    folder for folder in sorted(Path("results/reference").iterdir()) if any(folder.glob("sweep/*/*.jsonl"))
]


@pytest.mark.parametrize("folder", REFERENCE, ids=lambda folder: folder.name)
def test_kept_records_of_every_age_are_read(folder, tmp_path):
    found = read_jsonl(sorted(folder.glob("sweep/*/*.jsonl")))
    cells = [record for record in found if record["record"] == "cell"]
    singles = [record for record in found if record["record"] == "single"]
    table = cells_table(cells)
    assert len(table) == len(cells)
    scenarios = scenarios_table(table)
    assert scenarios["rps_per_gpu"].notna().any()
    ratios = ratios_table(table, default_baseline(table, 64))
    write_table(table, [tmp_path / "cells.parquet"])
    kept = read_parquet(tmp_path / "cells.parquet")
    assert scenarios_table(kept).to_csv() == scenarios.to_csv()
    assert ratios_table(kept, default_baseline(kept, 64)).to_csv() == ratios.to_csv()
    assert sweep_time_table(cells)["cells"][0] == len(cells)
    latency = latency_table(singles)
    assert latency["prompts"].sum() == sum(len(record["samples"]) for record in singles)
