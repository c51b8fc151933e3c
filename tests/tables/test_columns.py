"""The dictionary has exactly the columns of the tables, and each has a unit and a description."""

import pandas as pd

from workflow.hyperkv.records.evidence import Evidence
from workflow.hyperkv.tables.columns import columns_table
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary

DICTIONARY = columns_dictionary()
SWEEP = {
    "cells",
    "requests",
    "scenarios",
    "ratios",
    "sweep_time",
    "latency",
}  # others have tests of their own


def test_the_dictionary_has_exactly_the_columns_of_the_sweep_s_tables(written):
    found = {path.stem: path for path in sorted(written.iterdir())}
    assert set(found) == {*SWEEP, "columns", "environment"}
    for name in SWEEP:
        read = pd.read_csv if found[name].suffix == ".csv" else pd.read_parquet
        assert list(read(found[name])) == list(DICTIONARY[name])
    assert list(pd.read_csv(written / "cells.csv")) == list(DICTIONARY["cells"])


def test_every_column_has_a_unit_and_a_description():
    entries = [entry for columns in DICTIONARY.values() for entry in columns.values()]
    assert all(set(entry) == {"unit", "description"} and all(entry.values()) for entry in entries)
    assert len(columns_table()) == len(entries)


def test_every_column_is_filled_but_for_what_a_run_without_engine_does_not_know(written):
    unknown = {
        "gpu_scaled_from",
        "stripe_bytes",
        "processes",
        "place",
        "network_rtt_s",
        "network_gbps",
        "gate",
        "pair",
        "versions",
        "reasons",
        "notes",
        "disk",
        "unlike",
    }
    unknown |= {"save", "goodput_rps", "goodput_rps_low", "goodput_rps_high"}
    unknown |= {
        "retrieved_tokens",
        "other_hit_tokens",
        "store_errors",
        "damaged_chunks",
        "file_stripes",
        "get_stripes",
        "retried_stripes",
        "cpu_energy_j",
        "gpu_energy_j",
        "energy_j_per_mtoken",
    }
    unknown |= {name for name in Evidence.model_fields if name.startswith(("gate_", "shaped_"))}
    for name in ("cells", "scenarios", "ratios", "sweep_time"):
        table = pd.read_csv(written / f"{name}.csv")
        assert set(table.columns[table.isna().all()]) <= unknown
