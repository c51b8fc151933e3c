"""Records of every run that is kept give tables."""

import pytest

from tests.kept import kept, kept_with
from workflow.hyperkv.records.frames import read_parquet, write_table
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.latency import latency_table
from workflow.hyperkv.tables.ratios import ratios_table
from workflow.hyperkv.tables.scenarios import scenarios_table
from workflow.hyperkv.tables.sweep_time import sweep_time_table


@pytest.mark.parametrize("folder", kept_with("cell"), ids=str)
def test_kept_records_of_every_age_are_read(folder, tmp_path):
    run = kept(folder)
    cells, singles = run.of("cell"), run.of("single")
    table = cells_table(cells)
    assert len(table) == len(cells)
    scenarios = scenarios_table(table)
    assert scenarios["rps_per_gpu"].notna().any()
    ratios = ratios_table(table, None, 64)
    write_table(table, [tmp_path / "cells.parquet"])
    again = read_parquet(tmp_path / "cells.parquet")
    assert scenarios_table(again).to_csv() == scenarios.to_csv()
    assert ratios_table(again, None, 64).to_csv() == ratios.to_csv()
    assert sweep_time_table(cells)["cells"][0] == len(cells)
    latency = latency_table(singles)
    assert latency["prompts"].sum() == sum(
        not sample["faults"] for record in singles for sample in record["samples"]
    )
