"""Verdicts on claims: from tables to confirmed, refuted or undecided, and what the file of claims may hold."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.stats import Interval
from workflow.hyperkv.tables import claims as stage
from workflow.hyperkv.tables.claims import claims_table
from workflow.hyperkv.tables.judging.claims_file import (
    claimed_records,
    claimed_tables,
    columns_dictionary,
    read_claims,
)
from workflow.hyperkv.tables.judging.claims_text import claims_text
from workflow.hyperkv.tables.judging.expressions import Condition, parse_condition
from workflow.hyperkv.tables.judging.verdicts import judge_claim, verdict

RATIO = "median(cells.rps_per_gpu, store='dram', load=highest) / median(cells.rps_per_gpu, store='files', load=highest)"
ENVIRONMENT = {"cpu": "CPU", "cores": 2, "ram_bytes": 4 << 30, "gpu": [], "disk": {}}


def claim(expression=RATIO, condition="value > 1", **more):
    return {
        "id": "a_claim",
        "statement": "It holds",
        "source": "a test",
        "expression": expression,
        "condition": condition,
        "unit": "ratio",
        **more,
    }


def written(folder: Path, *claims, text=None) -> Path:
    path = folder / "claims.yaml"
    path.write_text(text if text is not None else yaml.safe_dump({"claims": list(claims)}))
    return path


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


def judged(tmp_path, tables, *, compared=64, **changes):
    (one,) = read_claims(written(tmp_path, claim(**changes)))
    return judge_claim(one, tables, compared)


CONDITIONS = st.tuples(st.floats(-10, 10), st.booleans(), st.floats(-10, 10), st.booleans()).map(
    lambda ends: Condition(*ends) if ends[0] < ends[2] else Condition(ends[2], ends[1], ends[0] + 1, ends[3])
)
INTERVALS = st.lists(st.floats(-15, 15), min_size=3, max_size=3).map(
    lambda values: Interval(sorted(values)[1], min(values), max(values))
)


@given(CONDITIONS, INTERVALS, st.floats(0, 1))
def test_verdicts_are_three_and_follow_every_value_of_the_interval(condition, interval, share):
    def holds(value):
        return condition.above_low(value) and condition.below_high(value)

    found = verdict(condition, interval)
    inside = min(max(interval.low + share * (interval.high - interval.low), interval.low), interval.high)
    values = [interval.low, interval.median, interval.high, inside]
    if found == "confirmed":
        assert all(map(holds, values))
    elif found == "refuted":
        assert not any(map(holds, values))
    else:
        assert found == "undecided"
        edges = [edge for edge in (condition.low, condition.high) if interval.low <= edge <= interval.high]
        assert edges


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("value > 1", "confirmed"),
        ("value >= 2", "confirmed"),
        ("value > 2", "undecided"),
        ("value >= 2.1", "undecided"),
        ("value > 3", "refuted"),
        ("value < 2", "refuted"),
        ("2 <= value <= 2.5", "confirmed"),
        ("2.1 <= value <= 2.2", "undecided"),
        ("value <= 2", "undecided"),
    ],
)
def test_the_edges_of_a_condition(condition, expected):
    assert verdict(parse_condition(condition), Interval(2.2, 2.0, 2.5)) == expected


def test_without_an_interval_nothing_is_decided():
    assert verdict(parse_condition("value > 1"), Interval(5.0, None, None)) == "undecided"


def test_a_ratio_is_paired_by_repeat(tmp_path):
    found = judged(tmp_path, {"cells": cells()}, condition="value >= 2")
    assert (found.verdict, found.interval) == ("confirmed", Interval(2.0, 2.0, 2.5))
    assert "rps_per_gpu of dram-64, load 4; rps_per_gpu of files-64, load 4; paired by repeat" in found.reason
    assert "the GPU is modelled" in found.reason
    assert sum(used.count for used in found.used) == 6


def test_refuted_and_undecided(tmp_path):
    assert judged(tmp_path, {"cells": cells()}, condition="value < 2").verdict == "refuted"
    found = judged(tmp_path, {"cells": cells()}, condition="value > 2")
    assert found.verdict == "undecided"
    assert found.reason.startswith("the interval spans the condition's edge")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expression": RATIO.replace("files", "kvrocks")}, "not measured: no row of cells has store kvrocks, load highest"),
        ({"expression": RATIO.replace("load=highest", "load=3")}, "not measured: no row of cells has store dram, load 3"),
        ({"expression": RATIO.replace("load=highest", "repeat=1")}, "cells with store dram, repeat 1 are several cells of one repeat, load 1 or 4"),
        ({"expression": "median(cells.hit_rate)"}, "not measured: cells.csv has no column hit_rate"),
        ({"expression": "median(cells.rps_per_gpu, model='x')"}, "cells.csv has no column model"),
        ({"expression": "median(stores.gbps)"}, "not measured: there is no table stores"),
        ({"expression": "median(layers.share)"}, "not measured: table layers has no rows"),
        ({"expression": f"{RATIO} / (median(cells.load, store='dram', load=1) - 1)"}, "it divides by a value of 0"),
    ],
)  # fmt: skip
def test_what_was_not_measured_is_undecided_with_the_reason(tmp_path, changes, reason):
    found = judged(tmp_path, {"cells": cells(), "layers": pd.DataFrame()}, **changes)
    assert found.verdict == "undecided"
    assert reason in found.reason
    assert found.interval == Interval(None, None, None)


def test_invalid_cells_decide_nothing(tmp_path):
    rows = cells()
    rows.loc[rows["store"] == "files", ["valid", "reasons"]] = [False, "served from RAM"]
    found = judged(tmp_path, {"cells": rows})
    assert found.verdict == "undecided"
    assert "3 measured, none valid: served from RAM" in found.reason


def test_an_invalid_repeat_is_left_out(tmp_path):
    rows = cells(files=(1.5, 2.0, 99.0))
    rows.loc[rows["rps_per_gpu"] == 99.0, "valid"] = False
    found = judged(tmp_path, {"cells": rows})
    assert (found.verdict, found.interval) == ("confirmed", Interval(2.0, 2.0, 2.0))
    assert sum(used.count for used in found.used) == 5


def test_one_repeat_has_a_value_and_no_verdict(tmp_path):
    found = judged(tmp_path, {"cells": cells(dram=(4.0,), files=(1.0,))})
    assert (found.verdict, found.interval) == ("undecided", Interval(4.0, None, None))
    assert found.reason.startswith("no interval: one repeat")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("comparable_digest", "other"),
        ("engine", "vllm"),
        ("chunk_tokens", 256),
        ("connections", 8),
        ("save_decode_cache", False),
        ("kv_dtype", "fp8"),
        ("gpus", 2),
        ("gpu", "A100"),
        ("versions", "vllm 0.25.0"),
        ("load", 8),
    ],
)
def test_what_is_not_alike_is_not_compared(tmp_path, column, value):
    rows = cells()
    rows.loc[(rows["store"] == "files") & (rows["load"] == 4), column] = value
    found = judged(tmp_path, {"cells": rows})
    assert found.verdict == "undecided"
    assert f"not like for like: {'they' if column == 'load' else 'claims: scenarios'}" in found.reason
    assert f"differ in {column}" in found.reason


def test_cells_that_do_not_say_what_they_share_are_not_compared(tmp_path):
    found = judged(tmp_path, {"cells": cells().drop(columns="comparable_digest")})
    assert found.verdict == "undecided"
    assert "cells.csv has no column comparable_digest to compare by" in found.reason


def test_a_claim_may_vary_what_it_is_about_and_only_that(tmp_path):
    rows = cells()
    rows.loc[rows["store"] == "files", "chunk_tokens"] = 256
    vary = ["tier", "store", "chunk_tokens"]
    assert judged(tmp_path, {"cells": rows}, vary=vary).verdict == "confirmed"
    found = judged(tmp_path, {"cells": rows}, vary=["chunk_tokens", "tier"])
    assert "they differ in store (dram, files)" in found.reason


def test_the_first_preference_that_was_measured_is_taken(tmp_path):
    expression = "median(cells.rps_per_gpu, store=['kvrocks', 'files', 'dram'], load=highest)"
    found = judged(tmp_path, {"cells": cells()}, expression=expression, condition="value < 3")
    assert found.used[0].rows["scenario"].unique().tolist() == ["files-64"]


def test_compared_is_the_configurations_chunk(tmp_path):
    expression = "median(cells.rps_per_gpu, store='dram', load=lowest, chunk_tokens=compared)"
    assert judged(tmp_path, {"cells": cells()}, expression=expression).interval.median == 9.0
    assert "no row" in judged(tmp_path, {"cells": cells()}, expression=expression, compared=16).reason


EQUAL_SPEED = "equal_speed(cells(store='dram'), cells(store='files'))"


def test_one_alone_of_several_repeats_that_gives_a_value_is_said_so(tmp_path):
    rows = cells()
    slow = (rows["store"] == "files") & (rows["repeat"] > 1)
    apart = rows.assign(tps_per_user=rows["tps_per_user"].where(~slow, rows["tps_per_user"] / 1000))
    found = judged(tmp_path, {"cells": apart}, expression=EQUAL_SPEED)
    assert found.interval.low is None
    assert found.reason.startswith("no interval: one alone of 3 repeats met an equal speed;")
    for column, value in (("valid", False), ("rps_per_gpu", float("nan"))):
        rows = cells()
        rows.loc[(rows["store"] == "files") & (rows["repeat"] > 1), column] = value
        for expression in (EQUAL_SPEED, RATIO):
            found = judged(tmp_path, {"cells": rows}, expression=expression)
            assert found.reason.startswith("no interval: one alone of 3 repeats gave a value;"), (
                column,
                expression,
            )


def test_equal_speed_is_taken_on_the_curves(tmp_path):
    expression = "equal_speed(cells(store='dram'), cells(store='files'))"
    found = judged(tmp_path, {"cells": cells()}, expression=expression, condition="value > 1")
    assert found.verdict == "confirmed"
    assert found.interval.median == pytest.approx(6.5 / 5.5)
    assert "rps_per_gpu at equal tps_per_user of dram-64" in found.reason
    few = cells()[cells()["load"] == 4]
    assert "share no TPS/user" in judged(tmp_path, {"cells": few}, expression=expression).reason


COSTS = "median(cost_repeats.usd_per_million_tokens, store='files') / median(cost_repeats.usd_per_million_tokens, store='dram')"


@pytest.mark.parametrize(
    ("capped", "condition", "expected"),
    [
        ((), "value < 1", "confirmed"),
        (("files",), "value < 1", "confirmed"),
        (("dram",), "value < 1", "undecided"),
        (("files", "dram"), "value < 1", "confirmed"),
        (("files",), "value >= 0.2", "undecided"),
        (("dram",), "value >= 0.2", "confirmed"),
        (("dram",), "value > 1", "undecided"),
        (("files",), "value > 1", "refuted"),
    ],
)
def test_a_cost_at_the_highest_load_may_be_lower_and_that_may_decide_otherwise(
    tmp_path, capped, condition, expected
):
    rows = cells(dram=(4.0, 4.0, 4.0), files=(1.0, 1.0, 1.0))
    rows = rows[rows["load"] == 4].assign(at="slo", load=None)
    rows["usd_per_million_tokens"] = rows["rps_per_gpu"]
    rows["users_at_least"] = rows["store"].isin(capped)
    found = judged(tmp_path, {"cost_repeats": rows}, expression=COSTS, condition=condition)
    assert (found.verdict, found.interval) == (expected, Interval(0.25, 0.25, 0.25))
    assert found.reason.startswith("higher loads may decide otherwise") is (expected == "undecided")


STORES = pd.DataFrame(
    {
        "scenario": ["valkey", "kvrocks"],
        "tier": ["dram", "ssd"],
        "store": ["valkey", "kvrocks"],
        "operation": "get_cold",
        "cold": [True, True],
        "connections": 8,
        "value_bytes": 1 << 20,
        "gbps": [4.0, 1.0],
        "gbps_low": [3.0, 0.5],
        "gbps_high": [5.0, 2.0],
        "repeats": 3,
    }
)
STORES_RATIO = "median(stores.gbps, store='valkey') / median(stores.gbps, store='kvrocks')"


def test_tables_of_medians_are_compared_by_the_ends_of_their_intervals(tmp_path):
    found = judged(tmp_path, {"stores": STORES}, expression=STORES_RATIO)
    assert (found.verdict, found.interval) == ("confirmed", Interval(4.0, 1.5, 10.0))
    assert sum(used.count for used in found.used) == 6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value_bytes": [1, 2]}, "not like for like: they differ in value_bytes (1, 2)"),
        ({"connections": [1, 8]}, "not like for like: they differ in connections (1, 8)"),
        ({"cold": [True, False]}, "the page cache could not be dropped"),
        ({"gbps": [4.0, None]}, "stores with store kvrocks has no gbps"),
        ({"store": ["valkey", "valkey"]}, "stores with store valkey are 2 rows, scenario valkey or kvrocks"),
    ],
)
def test_rows_of_stores_must_be_alike_cold_and_one(tmp_path, changes, reason):
    found = judged(tmp_path, {"stores": STORES.assign(**changes)}, expression=STORES_RATIO)
    assert found.verdict == "undecided"
    assert reason in found.reason


def test_predictions_alone_decide_nothing(tmp_path):
    rates = pd.DataFrame(
        {"case": ["c"], "hit_rate": [0.8], "hit_rate_low": [0.7], "hit_rate_high": [0.9], "seeds": 5}
    )
    expression = "median(hit_rates.hit_rate, case='c')"
    found = judged(tmp_path, {"hit_rates": rates}, expression=expression, condition="value > 0.5")
    assert (found.verdict, found.interval) == ("undecided", Interval(0.8, 0.7, 0.9))
    assert found.reason.startswith("predicted only: hit_rate of")
    beside = judged(tmp_path, {"hit_rates": rates}, predicted=expression)
    assert (beside.verdict, beside.interval) == ("undecided", Interval(0.8, 0.7, 0.9))
    assert beside.reason == "not measured: there is no table cells; the value is predicted"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expression": "median(cells.rps)"}, "claim 1 (a_claim): expression: table cells has no column rps"),
        (
            {"expression": "median(requests.finish_s)"},
            "expression: there is no table requests; allowed are cells",
        ),
        ({"expression": "median(claims.value)"}, "expression: there is no table claims; allowed are cells"),
        ({"expression": "2 / 1"}, "claim 1 (a_claim): expression: it reads no table"),
        ({"condition": "value = 1"}, "claim 1 (a_claim): condition: value = 1 cannot be read"),
        ({"vary": ["shop"]}, "claim 1 (a_claim): vary: no table has a column shop"),
        ({"vary": "store"}, "claim 1 (a_claim): vary must be a list of columns"),
        ({"predicted": RATIO}, "predicted: allowed are the tables hit_rates, break_even, placed_stores"),
        ({"predicted": 5}, "predicted: 5 is wrong; it must be text"),
        ({"id": "A claim"}, "id 'A claim' is wrong"),
        ({"statement": ""}, "claim 1: statement is missing or not text"),
        ({"source": 5}, "claim 1: source is missing or not text"),
        ({"reason": "x"}, "claim 1: reason is not a key; allowed are id, "),
    ],
)
def test_mistakes_in_a_claim_name_it_and_the_key(tmp_path, change, message):
    with pytest.raises(UserError) as error:
        read_claims(written(tmp_path, claim(**change)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims: {", "not YAML"),
        ("- 1", "is no mapping of keys"),
        ("claims: 5", "it must be a mapping with one key, claims, a list"),
        ("", "is empty; config/claims.yaml is one"),
        ("claims: [5]", "claim 1: it must be a mapping with id, "),
    ],
)
def test_mistakes_in_the_file_are_one_line(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        read_claims(written(tmp_path, text=text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_two_claims_of_one_name_and_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="two claims are called a_claim"):
        read_claims(written(tmp_path, claim(), claim()))
    with pytest.raises(UserError, match=r"config: claims: there is no file .*none\.yaml"):
        read_claims(tmp_path / "none.yaml")


def test_the_repositorys_claims_are_read_and_have_the_reference_projects_four():
    claims = read_claims(Path("config/claims.yaml"))
    assert len(claims) >= 12
    assert sum(one.source.startswith("the reference project") for one in claims) == 4
    assert {"cells", "stores", "layers", "hit_rates", "cost_repeats"} <= set(claimed_tables(claims))
    assert claimed_records(claims) == ["sweep", "point", "rung"]


def test_the_claims_at_equal_speed_are_about_scenarios_of_the_ladder():
    configs = [
        yaml.safe_load(Path("config", name).read_text())
        for name in ("experiments/ladder.yaml", "experiments/equal_speed.yaml")
    ]
    text = Path(configs[1]["claims"]).read_text()
    assert claimed_tables(read_claims(Path(configs[1]["claims"]))) == ["cells"]
    named = set(re.findall(r'scenario="(\w+)"', text))
    assert len(named) == 4
    assert named <= set(configs[0]["experiment"]["scenarios"])


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
    path = written(tmp_path, claim(), claim("median(layers.share)", id="other"))
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
    with pytest.raises(UserError, match=r"stores\.csv: column gbps has 'fast' where a number is wanted"):
        stage.read_csv(tmp_path / "stores.csv")
    with pytest.raises(UserError, match="there is no table other; allowed are cells"):
        stage.read_csv(tmp_path / "other.csv")
    with pytest.raises(UserError, match="not a table"):
        stage.read_csv(tmp_path / "cells.csv")
    with pytest.raises(UserError, match="does not begin with a record"):
        stage.source_of(tmp_path / "bad.jsonl")


def test_no_claims_are_said_in_words(tmp_path):
    assert claims_text(claims_table(read_claims(written(tmp_path)), {}, [], 64)).startswith("No claims")
