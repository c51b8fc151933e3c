"""The table of claims: its columns, the machine and the records behind a verdict, and the verdicts of the shipped claims."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import command
from tests.record_factory import completed
from tests.tables.judging.written import cells, claim, median, written
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.tables import claims as stage
from workflow.hyperkv.tables.judging.claim import read_claims
from workflow.hyperkv.tables.judging.verdict_table import claims_table, claims_text, source_of
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary

ENVIRONMENT = {"cpu": "CPU", "cores": 2, "ram_bytes": 4 << 30, "gpu": [], "disk": {}}


def record_file(folder: Path, kind: str, scenario: str, cores=2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    environment = ENVIRONMENT | {"cores": cores}
    record = completed({"record": kind, "scenario": scenario, "environment": environment})
    path = folder / "1.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return path


def run(tmp_path, claims: Path, tables, records) -> pd.DataFrame:
    """Run the stage's main; claims.csv."""
    out = [tmp_path / "out/claims.csv", tmp_path / "out/claims.txt"]
    arguments = ["--claims", claims, "--spec", '{"chunk_tokens": 64}', "--table", out[0], "--text", out[1]]
    arguments += ["--tables", *tables, "--records", *records]
    command(stage, *arguments)
    return pd.read_csv(out[0])


def test_the_stage_writes_the_dictionarys_columns_machine_and_run(tmp_path):
    cells().to_csv(tmp_path / "cells.csv", index=False)
    (tmp_path / "layers.csv").write_text("\n")
    records = [
        record_file(tmp_path / f"sweep/{name}", "cell", name) for name in ("dram-64", "files-64", "none")
    ]
    path = written(tmp_path, claim(), claim(median("layers", "share"), id="other"))
    table = run(tmp_path, path, [tmp_path / "cells.csv", tmp_path / "layers.csv"], records)
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
    sources = [source_of(path) for path in records]
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
    with pytest.raises(UserError, match="not a record of a kind that is known"):
        source_of(tmp_path / "bad.jsonl")


def test_no_claims_are_said_in_words(tmp_path):
    assert claims_text(claims_table(read_claims(written(tmp_path)), {}, [], 64)).startswith("No claims")


def run_of(*scenarios) -> pd.DataFrame:
    """Cells of (scenario, tier, store, connector, chunk_tokens, RPS/GPU at the highest load, hit rate), with two repeats."""
    names = ("scenario", "tier", "store", "connector", "chunk_tokens", "rps_per_gpu", "hit_rate")
    alike = cells().drop(columns=list(names[:6])).query("repeat < 3").drop_duplicates(["load", "repeat"])
    rows = [alike.assign(**dict(zip(names, scenario, strict=True))) for scenario in scenarios]
    table = pd.concat(rows, ignore_index=True)
    return table.assign(rps_per_gpu=table["rps_per_gpu"] * (table["load"] / 4) ** 0.5)


def medians(rows, column, **alike) -> pd.DataFrame:
    """A table of medians without width, of rows and what they have in common."""
    table = pd.DataFrame(rows).assign(repeats=3, **alike)
    return table.assign(**{f"{column}_low": table[column], f"{column}_high": table[column]})


def everything() -> dict[str, pd.DataFrame]:
    """Tables in which everything is measured that config/claims.yaml asks for."""
    swept = run_of(
        ("none", "none", None, None, 64, 1.0, 0.2),
        ("dram", "dram", "dram", "inprocess", 64, 5.0, 0.8),
        ("valkey_resp", "dram", "valkey", "resp", 64, 3.0, 0.8),
        ("valkey_redis", "dram", "valkey", "redis", 64, 2.0, 0.8),
        ("rocksdb_resp", "ssd", "rocksdb", "resp", 64, 2.0, 0.8),
        ("kvrocks_tuned", "ssd", "kvrocks", "striped", 64, 2.0, 0.8),
        ("kvrocks_shipped", "ssd", "kvrocks", "direct", 64, 1.0, 0.8),
        ("files", "ssd", "files", "inprocess", 64, 4.0, 0.8),
        ("files-256", "ssd", "files", "inprocess", 256, 4.0, 0.78),
        ("files-1024", "ssd", "files", "inprocess", 1024, 4.0, 0.7),
    )
    costs = {"rocksdb_resp": (1.0, 5.0), "valkey_resp": (2.0, None)}
    cost = swept[swept["scenario"].isin(costs) & (swept["load"] == 4)].assign(at="slo", users_at_least=False)
    for index, column in enumerate(("usd_per_million_tokens", "endurance_years")):
        cost[column] = [costs[scenario][index] for scenario in cost["scenario"]]
    read = [
        ("kvrocks_tuned", "ssd", "kvrocks", "get_cold", 3.0),
        ("kvrocks_tuned", "ssd", "kvrocks", "get_warm", 4.0),
        ("kvrocks_shipped", "ssd", "kvrocks", "get_cold", 1.5),
        ("valkey_resp", "dram", "valkey", "get_warm", 6.0),
    ]
    read = pd.DataFrame(read, columns=["scenario", "tier", "store", "operation", "gbps"]).assign(
        connector="resp"
    )
    shares = {"serialization": 0.5, "device": 0.1, "server_side": 0.25}
    split = [{"layer": layer, "share": share} for layer, share in shares.items()]
    first = [
        {"tier": "none", "store": None, "pass": "computed", "ttft_s": 0.2},
        {"tier": "ssd", "store": "kvrocks", "pass": "loaded", "ttft_s": 0.1},
    ]
    largest = {"value_bytes": 1 << 20, "connections": 8}
    return {
        "cells": swept,
        "cost_repeats": cost,
        "stores": medians(read, "gbps", cold=True, **largest),
        "layers": medians(split, "share", kind="group", store="rocksdb", operation="get", **largest),
        "latency": medians(first, "ttft_s", valid=True, prompt_tokens=8192),
    }


def test_the_shipped_claims_compare_what_they_say():
    table = claims_table(read_claims(Path("config/claims.yaml")), everything(), [], 64).set_index("claim")
    expected = {
        "dram_is_2_5_times_as_fast": 2.5,
        "tuning_gives_1_5_times": 2.0,
        "serialization_not_disk": 2.0,
        "chunk_1024_loses_8_points": 0.08,
        "larger_chunks_lose_hits": 0.1,
        "dram_beats_ssd_at_equal_speed": 2.5,
        "ssd_beats_recompute": 2.0,
        "dram_beats_recompute": 5.0,
        "medium_costs_behind_resp": 1.5,
        "transport_costs_on_ssd": 2.0,
        "native_client_beats_redis_py": 1.5,
        "tuned_kvrocks_reads_faster": 2.0,
        "wire_is_not_the_limit": 1.5,
        "ssd_reaches_break_even": 3.0,
        "kvrocks_beats_computing": 0.5,
        "ssd_costs_less_than_dram": 0.5,
        "drive_lasts_4_years": 5.0,
    }
    assert table["value"].to_dict() == pytest.approx(expected)
    refuted = {"wire_is_not_the_limit", "ssd_reaches_break_even"}
    assert set(table.index[table["verdict"] == "refuted"]) == refuted
    assert set(table["verdict"]) == {"confirmed", "refuted"}
    assert table.loc["dram_is_2_5_times_as_fast", "condition"] == "2 <= value <= 3"


def test_the_claims_at_equal_speed_compare_what_they_say():
    swept = run_of(
        ("dram_pool", "dram", "dram", "inprocess", 64, 5.0, 0.8),
        ("ladder_patched", "ssd", "kvrocks", "striped", 64, 4.0, 0.8),
        ("ladder_fp8", "ssd", "kvrocks", "striped", 64, 5.0, 0.8),
        ("ladder_reference", "ssd", "kvrocks", "redis", 256, 1.25, 0.8),
    )
    swept.loc[swept["scenario"] == "ladder_fp8", ["comparable_digest", "kv_dtype"]] = "fp8"
    table = claims_table(
        read_claims(Path("config/experiments/equal_speed_claims.yaml")), {"cells": swept}, [], 64
    )
    assert dict(zip(table["claim"], table["value"], strict=True)) == pytest.approx(
        {
            "ssd_close_to_dram": 1.25,
            "ssd_in_fp8_close_to_dram": 1.0,
            "tuned_4_times_reference": 3.2,
            "tuned_in_fp8_4_times_reference": 4.0,
        }
    )
    assert table["verdict"].tolist() == ["confirmed", "confirmed", "refuted", "confirmed"]
