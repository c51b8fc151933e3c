"""Dollars per hour and the point at an SLO, by hand and for any prices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables.costs import PRICES
from workflow.hyperkv.tables.methods.cost_model import (
    PARTS,
    Point,
    at_slo,
    endurance_years,
    usd_per_hour,
    usd_per_million,
)

LOWERS = ("amortisation_years", "ssd_tbw_tb")


# A larger drive of the same rating wears out dearer, and draws less per byte that is kept.
BOTH_WAYS = "ssd_capacity_gb"


def test_a_cost_worked_by_hand():
    found = usd_per_hour(PRICES, dram_bytes=100e9, ssd_bytes=500e9, written_bytes_per_s=1e6)
    assert found == {
        "gpu": 2.0,
        "server": pytest.approx(1.0),  # 8,766 USD over 8,766 hours
        "dram": pytest.approx(0.1),  # 100 GB of 8.766 USD over them
        "ssd": pytest.approx(0.05),  # 500 GB of 0.8766 USD; wear: 0.0072 TB an hour of 876.6 USD for 876.6 TB
        "power": pytest.approx((600 + 200 + 50 + 5) / 1000 * 2 * 0.1),
    }
    assert usd_per_million(3.6, 1000.0) == pytest.approx(1.0)
    assert usd_per_million(3.6, 0.0) is None


def test_two_gpus_cost_two_with_their_servers_and_one_tier():
    one, two = (usd_per_hour(PRICES, 100e9, 500e9, 1e6, gpus) for gpus in (1, 2))
    assert (two["gpu"], two["server"]) == (2 * one["gpu"], 2 * one["server"])
    assert (two["dram"], two["ssd"]) == (one["dram"], one["ssd"])
    assert two["power"] == pytest.approx((2 * 800 + 50 + 5) / 1000 * 2 * 0.1)


def test_an_ssd_costs_its_wear_where_that_is_more_than_its_capacity():
    found = usd_per_hour(PRICES, 0, 500e9, written_bytes_per_s=1e8)
    assert found["ssd"] == pytest.approx(0.72)  # 1e8 x 2 x 3,600 = 0.72 TB an hour, a USD each


def test_endurance_worked_by_hand():
    assert endurance_years(PRICES, 1e6) == pytest.approx(876.6e12 / 2e6 / 3600 / 8766)
    assert endurance_years(PRICES, None) is None
    assert endurance_years(PRICES, 0.0) is None


USES = st.tuples(st.floats(0, 1e13), st.floats(0, 1e13), st.one_of(st.none(), st.floats(0, 1e10)))


@given(
    USES,
    st.sampled_from(sorted({*PRICES} - {BOTH_WAYS})),
    st.lists(st.floats(0.01, 1e4), min_size=2, max_size=2),
    st.data(),
)
def test_a_cost_never_falls_when_a_price_rises(use, name, values, data):
    others = {key: data.draw(st.floats(0.01, 1e4), label=key) for key in PRICES}
    cheap, dear = (
        usd_per_hour(others | {name: value}, *use) for value in sorted(values, reverse=name in LOWERS)
    )
    for part in PARTS:
        assert cheap[part] <= dear[part] * (1 + 1e-12)
        assert cheap[part] >= 0


def point(load, tps=None, ttft=None, **more) -> Point:
    known = {
        "rps_per_gpu": 2.0 * load,
        "tokens_per_s": 100.0 * load,
        "answer_tokens_per_s": 10.0 * load,
        "dram_bytes": 0.0,
        "ssd_bytes": 0.0,
        "written_bytes_per_s": None,
    }
    return Point(load=load, tps_per_user=tps, ttft_p95_ms=ttft, **(known | more))


CURVE = [point(4, 40.0, 300.0), point(1, 100.0, 50.0), point(2, 80.0, 100.0)]


@pytest.mark.parametrize(
    ("tps", "ttft", "load", "at_least"),
    [
        (None, None, 4, True),
        (40.0, None, 4, True),
        (30.0, 400.0, 4, True),
        (60.0, None, 3, False),
        (None, 200.0, 3, False),
        (60.0, 150.0, 2.5, False),
        (80.0, None, 2, False),
        (100.0, None, 1, False),
        (101.0, None, None, False),
        (60.0, 49.0, None, False),
    ],
)
def test_users_at_an_slo_lie_between_measured_loads_and_never_beyond(tps, ttft, load, at_least):
    found, more = at_slo(CURVE, tps, ttft)
    assert (found and found.load) == load
    assert more is at_least
    if found:
        assert found.tokens_per_s == pytest.approx(100 * load)


def test_the_highest_load_that_keeps_an_slo_counts_though_a_lower_one_does_not():
    assert at_slo([point(1, 10.0), point(2, 100.0)], 50.0, None) == (point(2, 100.0), True)
    assert at_slo([point(1, 10.0), point(2, 100.0), point(3, 0.0)], 50.0, None)[0].load == 2.5


def test_what_one_of_two_loads_does_not_know_stays_unknown():
    curve = [point(1, 100.0, written_bytes_per_s=4.0), point(2, 50.0)]
    assert at_slo(curve, 75.0, None)[0].written_bytes_per_s is None
    assert at_slo([point(1), point(2, 50.0)], 50.0, None) == (point(2, 50.0), True)
    assert at_slo([point(1)], 50.0, None) == (None, False)
    assert at_slo([], None, None) == (None, False)


@given(
    st.lists(st.tuples(st.floats(1, 1e3), st.floats(1, 1e3)), min_size=1, max_size=5),
    st.floats(1, 1e3),
    st.floats(1, 1e3),
)
def test_the_point_at_an_slo_keeps_it(values, tps, ttft):
    curve = [point(load, *pair) for load, pair in enumerate(values, start=1)]
    found, _ = at_slo(curve, tps, ttft)
    if found is None:
        assert not any(p.tps_per_user >= tps and p.ttft_p95_ms <= ttft for p in curve)
    else:
        assert found.tps_per_user >= tps * (1 - 1e-9)
        assert found.ttft_p95_ms <= ttft * (1 + 1e-9)
        assert 1 <= found.load <= len(curve)
