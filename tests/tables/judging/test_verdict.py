"""Verdicts on claims: from tables to confirmed, refuted or undecided, with the reason."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables.judging.written import EQUAL_SPEED, RATIO, cells, claim, median, read
from workflow.hyperkv.records.stats import Interval
from workflow.hyperkv.tables.judging.claim import KINDS
from workflow.hyperkv.tables.judging.verdict import judge_claim, verdict


def judged(tmp_path, tables, value=RATIO, condition=None, *, compared=64, **more):
    return judge_claim(read(tmp_path, value, condition, **more), tables, compared)


def held_against(**condition):
    """A claim with that condition."""
    return KINDS["ratio"].model_validate(claim(condition=condition))


ENDS = st.floats(-10, 10)
CONDITIONS = st.tuples(
    ENDS, ENDS, st.sampled_from(["at_least", "above"]), st.sampled_from(["at_most", "below"])
)
INTERVALS = st.lists(st.floats(-15, 15), min_size=3, max_size=3).map(
    lambda values: Interval(sorted(values)[1], min(values), max(values))
)


@given(CONDITIONS, INTERVALS, st.floats(0, 1))
def test_verdicts_are_three_and_follow_every_value_of_the_interval(condition, interval, share):
    one, other, low, high = condition
    edges = [min(one, other), max(one, other) + 1]

    def holds(value):
        above = value >= edges[0] if low == "at_least" else value > edges[0]
        return above and (value <= edges[1] if high == "at_most" else value < edges[1])

    found = verdict(held_against(**dict(zip((low, high), edges, strict=True))), interval)
    inside = min(max(interval.low + share * (interval.high - interval.low), interval.low), interval.high)
    values = [interval.low, interval.median, interval.high, inside]
    if found == "confirmed":
        assert all(map(holds, values))
    elif found == "refuted":
        assert not any(map(holds, values))
    else:
        assert found == "undecided"
        assert any(interval.low <= edge <= interval.high for edge in edges)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"above": 1}, "confirmed"),
        ({"at_least": 2}, "confirmed"),
        ({"above": 2}, "undecided"),
        ({"at_least": 2.1}, "undecided"),
        ({"above": 3}, "refuted"),
        ({"below": 2}, "refuted"),
        ({"at_least": 2, "at_most": 2.5}, "confirmed"),
        ({"at_least": 2.1, "at_most": 2.2}, "undecided"),
        ({"at_most": 2}, "undecided"),
    ],
)
def test_the_edges_of_a_condition(condition, expected):
    assert verdict(held_against(**condition), Interval(2.2, 2.0, 2.5)) == expected


def test_without_an_interval_nothing_is_decided():
    assert verdict(held_against(above=1), Interval(5.0, None, None)) == "undecided"


def test_a_ratio_is_paired_by_repeat(tmp_path):
    found = judged(tmp_path, {"cells": cells()}, condition={"at_least": 2})
    assert (found.verdict, found.interval) == ("confirmed", Interval(2.0, 2.0, 2.5))
    assert "rps_per_gpu of dram-64, load 4; rps_per_gpu of files-64, load 4; paired by repeat" in found.reason
    assert "the GPU is modelled" in found.reason
    assert sum(used.count for used in found.used) == 6


def test_refuted_and_undecided(tmp_path):
    assert judged(tmp_path, {"cells": cells()}, condition={"below": 2}).verdict == "refuted"
    found = judged(tmp_path, {"cells": cells()}, condition={"above": 2})
    assert found.verdict == "undecided"
    assert found.reason.startswith("the interval spans the condition's edge")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"over": {"store": "kvrocks"}}, "not measured: no row of cells has store kvrocks, load highest"),
        ({"where": {"load": 3}}, "not measured: no row of cells has store dram, load 3"),
        ({"where": {"repeat": 1}}, "cells with store dram, repeat 1 are several cells of one repeat, load 1 or 4"),
        ({"column": "hit_rate"}, "not measured: cells.csv has no column hit_rate"),
        ({"where": {"model": "x"}}, "cells.csv has no column model"),
        ({"table": "cost_repeats"}, "not measured: there is no table cost_repeats"),
        ({"table": "scenarios"}, "not measured: table scenarios has no rows"),
        ({"column": "tps_per_user"}, "it divides by a value of 0"),
    ],
)  # fmt: skip
def test_what_was_not_measured_is_undecided_with_the_reason(tmp_path, changes, reason):
    rows = cells()
    rows.loc[rows["store"] == "files", "tps_per_user"] = 0.0
    found = judged(tmp_path, {"cells": rows, "scenarios": pd.DataFrame()}, **changes)
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
    value = median("cells", "rps_per_gpu", store=["kvrocks", "files", "dram"], load="highest")
    found = judged(tmp_path, {"cells": cells()}, value)
    assert found.used[0].rows["scenario"].unique().tolist() == ["files-64"]


CHUNKS = {
    "kind": "difference",
    "table": "cells",
    "column": "hit_rate",
    "where": {"store": ["dram", "files"], "load": "highest"},
    "of": {"chunk_tokens": "lowest"},
    "minus": {"chunk_tokens": "highest"},
}


def test_both_sides_take_the_first_preference_of_which_both_have_rows(tmp_path):
    small = cells().assign(hit_rate=0.8)
    large = small[small["store"] == "files"].assign(scenario="files-256", chunk_tokens=256, hit_rate=0.7)
    found = judged(
        tmp_path, {"cells": pd.concat([small, large], ignore_index=True)}, CHUNKS, vary=["chunk_tokens"]
    )
    assert [part.rows["scenario"].iloc[0] for part in found.used] == ["files-64", "files-256"]
    assert (found.verdict, found.interval.median) == ("refuted", pytest.approx(0.1))


def test_rows_are_not_compared_with_themselves(tmp_path):
    found = judged(tmp_path, {"cells": cells().assign(hit_rate=0.8)}, CHUNKS, vary=["chunk_tokens"])
    assert (found.verdict, found.reason) == ("undecided", "not measured: both sides are the same rows")


def test_compared_is_the_configurations_chunk(tmp_path):
    value = median("cells", "rps_per_gpu", store="dram", load="lowest", chunk_tokens="compared")
    assert judged(tmp_path, {"cells": cells()}, value).interval.median == 9.0
    assert "no row" in judged(tmp_path, {"cells": cells()}, value, compared=16).reason


def test_one_alone_of_several_repeats_that_gives_a_value_is_said_so(tmp_path):
    rows = cells()
    slow = (rows["store"] == "files") & (rows["repeat"] > 1)
    apart = rows.assign(tps_per_user=rows["tps_per_user"].where(~slow, rows["tps_per_user"] / 1000))
    found = judged(tmp_path, {"cells": apart}, EQUAL_SPEED)
    assert found.interval.low is None
    assert found.reason.startswith("no interval: one alone of 3 repeats met an equal speed;")
    for column, value in (("valid", False), ("rps_per_gpu", float("nan"))):
        rows = cells()
        rows.loc[(rows["store"] == "files") & (rows["repeat"] > 1), column] = value
        for written in (EQUAL_SPEED, RATIO):
            found = judged(tmp_path, {"cells": rows}, written)
            assert found.reason.startswith("no interval: one alone of 3 repeats gave a value;"), column


def test_equal_speed_is_taken_on_the_curves(tmp_path):
    found = judged(tmp_path, {"cells": cells()}, EQUAL_SPEED)
    assert found.verdict == "confirmed"
    assert found.interval.median == pytest.approx(6.5 / 5.5)
    assert "rps_per_gpu at equal tps_per_user of dram-64" in found.reason
    few = cells()[cells()["load"] == 4]
    assert "share no TPS/user" in judged(tmp_path, {"cells": few}, EQUAL_SPEED).reason


COSTS = {
    "kind": "ratio",
    "table": "cost_repeats",
    "column": "usd_per_million_tokens",
    "of": {"store": "files"},
    "over": {"store": "dram"},
}


@pytest.mark.parametrize(
    ("capped", "condition", "expected"),
    [
        ((), {"below": 1}, "confirmed"),
        (("files",), {"below": 1}, "confirmed"),
        (("dram",), {"below": 1}, "undecided"),
        (("files", "dram"), {"below": 1}, "confirmed"),
        (("files",), {"at_least": 0.2}, "undecided"),
        (("dram",), {"at_least": 0.2}, "confirmed"),
        (("dram",), {"above": 1}, "undecided"),
        (("files",), {"above": 1}, "refuted"),
    ],
)
def test_a_cost_at_the_highest_load_may_be_lower_and_that_may_decide_otherwise(
    tmp_path, capped, condition, expected
):
    rows = cells(dram=(4.0, 4.0, 4.0), files=(1.0, 1.0, 1.0))
    rows = rows[rows["load"] == 4].assign(at="slo", load=None)
    rows["usd_per_million_tokens"] = rows["rps_per_gpu"]
    rows["users_at_least"] = rows["store"].isin(capped)
    found = judged(tmp_path, {"cost_repeats": rows}, COSTS, condition)
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
STORES_RATIO = {
    "kind": "ratio",
    "table": "stores",
    "column": "gbps",
    "of": {"store": "valkey"},
    "over": {"store": "kvrocks"},
}


def test_tables_of_medians_are_compared_by_the_ends_of_their_intervals(tmp_path):
    found = judged(tmp_path, {"stores": STORES}, STORES_RATIO)
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
    found = judged(tmp_path, {"stores": STORES.assign(**changes)}, STORES_RATIO)
    assert found.verdict == "undecided"
    assert reason in found.reason


def test_predictions_alone_decide_nothing(tmp_path):
    rates = pd.DataFrame(
        {"case": ["c"], "hit_rate": [0.8], "hit_rate_low": [0.7], "hit_rate_high": [0.9], "seeds": 5}
    )
    found = judged(tmp_path, {"hit_rates": rates}, median("hit_rates", "hit_rate", case="c"))
    assert (found.verdict, found.interval) == ("undecided", Interval(0.8, 0.7, 0.9))
    assert found.reason.startswith("predicted only: hit_rate of")


def test_a_predicted_value_stands_in_while_nothing_is_measured(tmp_path):
    rates = pd.DataFrame(
        {
            "case": ["c", "c"],
            "chunk_tokens": [256, 1024],
            "hit_rate": [0.8, 0.7],
            "hit_rate_low": [0.75, 0.65],
            "hit_rate_high": [0.85, 0.75],
            "seeds": 5,
        }
    )
    sides = {"of": {"chunk_tokens": 256}, "minus": {"chunk_tokens": 1024}}
    value = {"kind": "difference", "table": "cells", "column": "hit_rate", **sides}
    predicted = {"table": "hit_rates", "column": "hit_rate", "where": {"case": "c"}, **sides}
    found = judged(tmp_path, {"hit_rates": rates}, value, predicted=predicted)
    assert (found.verdict, found.interval.median) == ("undecided", pytest.approx(0.1))
    assert (found.interval.low, found.interval.high) == pytest.approx((0.0, 0.2))
    assert found.reason == "not measured: there is no table cells; the value is predicted"
    missing = judged(tmp_path, {}, value, predicted=predicted)
    assert missing.interval == Interval(None, None, None)
    assert (missing.reason, missing.used) == ("not measured: there is no table cells", ())


@pytest.mark.parametrize(
    ("shares", "verdict", "value"),
    [
        ((0.6, 0.3, 0.1), "confirmed", 2.0),
        ((0.3, 0.1, 0.6), "refuted", 0.5),
        ((0.6, None, 0.3), "undecided", None),
    ],
)
def test_the_largest_of_several_counts_and_a_share_that_is_not_known_decides_nothing(
    tmp_path, shares, verdict, value
):
    names = ("serialization", "device", "server_side")
    rows = [
        {"layer": name, "share": share, "share_low": share, "share_high": share, "repeats": 3}
        for name, share in zip(names, shares, strict=True)
    ]
    written = {
        "kind": "ratio",
        "table": "layers",
        "column": "share",
        "of": {"layer": "serialization"},
        "over": [{"layer": "device"}, {"layer": "server_side"}],
    }
    found = judged(tmp_path, {"layers": pd.DataFrame(rows)}, written)
    assert (found.verdict, found.interval.median) == (verdict, value and pytest.approx(value))
    if value is None:
        assert found.reason == "not measured: layers with layer device has no share"


def test_both_sides_are_of_one_pair(tmp_path):
    """The first that has both; and where none has, they are not compared."""
    other = cells(dram=(9.0, 9.0, 9.0)).assign(pair="current", versions="a")
    other = other[other["store"] == "dram"]
    rows = pd.concat([other, cells().assign(pair="reference", versions="b")], ignore_index=True)
    assert judged(tmp_path, {"cells": rows}).interval.median == 2.0
    apart = rows[(rows["pair"] == "current") | (rows["store"] == "files")]
    assert (
        "differ in pair (current: dram-64; reference: files-64)" in judged(tmp_path, {"cells": apart}).reason
    )
