"""The table of claims: its columns, the machine and the records behind a verdict, and the verdicts of the shipped claims."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.tables.judging.written import cells, claim, median, written
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.tables import claims as stage
from workflow.hyperkv.tables.claims import claims_table, claims_text
from workflow.hyperkv.tables.judging.claim import columns_dictionary, read_claims

ENVIRONMENT = {"cpu": "CPU", "cores": 2, "ram_bytes": 4 << 30, "gpu": [], "disk": {}}


def record_file(folder: Path, kind: str, scenario: str, cores=2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    environment = ENVIRONMENT | {"cores": cores}
    record = {"record": kind, "scenario": scenario, "environment": environment}
    path = folder / "1.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return path


def run(tmp_path, monkeypatch, claims: Path, tables, records) -> pd.DataFrame:
    """Run the stage's main; claims.csv."""
    out = [tmp_path / "out/claims.csv", tmp_path / "out/claims.txt"]
    arguments = ["--claims", claims, "--spec", '{"chunk_tokens": 64}', "--table", out[0], "--text", out[1]]
    arguments += ["--tables", *tables, "--records", *records]
    monkeypatch.setattr(sys, "argv", ["claims", *map(str, arguments)])
    stage.main()
    return pd.read_csv(out[0])


def test_the_stage_writes_the_dictionarys_columns_machine_and_run(tmp_path, monkeypatch):
    cells().to_csv(tmp_path / "cells.csv", index=False)
    (tmp_path / "layers.csv").write_text("\n")
    records = [
        record_file(tmp_path / f"sweep/{name}", "cell", name) for name in ("dram-64", "files-64", "none")
    ]
    path = written(tmp_path, claim(), claim(median("layers", "share"), id="other"))
    table = run(tmp_path, monkeypatch, path, [tmp_path / "cells.csv", tmp_path / "layers.csv"], records)
    assert list(table) == list(columns_dictionary()["claims"])
    first, second = (row for _, row in table.iterrows())
    assert (first["verdict"], first["value"], first["cells"]) == ("confirmed", 2.0, 6)
    assert first["machine"] == "2 x CPU, 4 GiB"
    assert first["run"].startswith("dram-64, files-64 (engine replay): ")
    assert first["run"].endswith("sweep/files-64")
    assert "none" not in first["run"]
    assert (second["verdict"], second["cells"]) == ("undecided", 0)
    assert second[["value", "machine", "run"]].isna().all()
    text = (tmp_path / "out/claims.txt").read_text()
    assert text.startswith("2 claims: 0 refuted, 1 confirmed, 1 undecided.")
    assert "2 [2, 2.5] ratio; confirmed by value > 1, 6 samples" in text
    assert max(map(len, text.splitlines())) <= 200


def test_two_machines_are_not_compared(tmp_path):
    records = [
        record_file(tmp_path / name, "cell", f"{name}-64", cores)
        for name, cores in (("dram", 2), ("files", 4))
    ]
    (one,) = read_claims(written(tmp_path, claim()))
    sources = [stage.source_of(path) for path in records]
    row = claims_table([one], {"cells": cells()}, sources, 64).iloc[0]
    assert row["verdict"] == "undecided"
    assert row["reason"].startswith("not like for like: measured on different machines")
    assert row["machine"] == "2 x CPU, 4 GiB | 4 x CPU, 4 GiB"


def test_wrong_files_are_named(tmp_path):
    (tmp_path / "other.csv").write_text("a\n")
    (tmp_path / "cells.csv").write_text('a,b\n1,2,3\n"\n')
    (tmp_path / "bad.jsonl").write_text("{}\n")
    (tmp_path / "stores.csv").write_text("scenario,gbps\nfiles,fast\n")
    with pytest.raises(UserError, match=r"stores\.csv: column gbps has no numbers \(.*fast"):
        stage.read_csv(tmp_path / "stores.csv")
    with pytest.raises(UserError, match="there is no table other; allowed are cells"):
        stage.read_csv(tmp_path / "other.csv")
    with pytest.raises(UserError, match="not a table"):
        stage.read_csv(tmp_path / "cells.csv")
    with pytest.raises(UserError, match="does not begin with a record"):
        stage.source_of(tmp_path / "bad.jsonl")


def test_no_claims_are_said_in_words(tmp_path):
    assert claims_text(claims_table(read_claims(written(tmp_path)), {}, [], 64)).startswith("No claims")
