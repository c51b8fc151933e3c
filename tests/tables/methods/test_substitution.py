"""Layers as paired differences: known layers are recovered, remainders are exact, and verdicts follow from intervals."""

from itertools import product

import pytest

from tests.record_factory import ROCKSDB, VALKEY
from workflow.hyperkv.records.stats import Interval
from workflow.hyperkv.tables.methods.substitution import (
    UNEXPLAINED,
    agree,
    distinguishable,
    layers_of,
    seconds_by_layer,
    serialization_verdict,
    share_interval,
)

RUNGS = {
    "loopback": 1.0,
    "null": 1.5,
    "valkey": 1.75,
    "store_ram_warm": 3.75,
    "store_ram_cold": 3.25,
    "store_disk": 7.25,
    "client_redis": 4.75,
    "whole": 7.5,
}
DISK = {
    "wire": 1.0,
    "protocol": 0.5,
    "server_memory": 0.25,
    "engine": 2.0,
    "cold_engine": -0.5,
    "device": 4.0,
}


def test_known_layers_are_recovered_and_the_rest_is_exact():
    assert seconds_by_layer(layers_of(ROCKSDB, "get"), RUNGS) == DISK | {UNEXPLAINED: 0.25}


def test_layers_and_the_rest_add_up_to_the_whole():
    for connector, operation in product(("resp", "redis"), ("set", "get")):
        found = seconds_by_layer(layers_of(ROCKSDB | {"connector": connector}, operation), RUNGS)
        assert sum(found.values()) == RUNGS["whole"]


def test_redis_py_is_what_it_costs_more_than_our_client():
    found = seconds_by_layer(layers_of(VALKEY | {"connector": "redis"}, "set"), RUNGS | {"whole": 4.75})
    assert (found["client"], found[UNEXPLAINED]) == (3.0, 0.0)


def test_stripes_are_what_they_cost_or_save_against_one_value():
    rungs = RUNGS | {"client_striped": 1.25, "whole": 1.25}
    found = seconds_by_layer(layers_of(VALKEY | {"connector": "striped"}, "get"), rungs)
    assert (found["client"], found[UNEXPLAINED]) == (-0.5, 0.0)


@pytest.mark.parametrize(
    ("scenario", "definitions"),
    [
        (VALKEY, ["loopback", "null - loopback", "valkey - null"]),
        ({"tier": "ssd", "store": "files", "connector": "inprocess"}, ["device"]),
        ({"tier": "dram", "store": "dram", "connector": "inprocess"}, ["memcpy"]),
    ],
)
def test_a_scenario_has_the_layers_of_its_store_and_connector(scenario, definitions):
    for operation in ("set", "get"):
        assert [layer.definition for layer in layers_of(scenario, operation)] == definitions


def test_only_a_get_meets_a_cold_engine():
    definitions = {layer.name: layer.definition for layer in layers_of(ROCKSDB, "set")}
    assert definitions["engine"] == "store_ram_warm - valkey"
    assert definitions["device"] == "store_disk - store_ram_warm"
    assert definitions.keys() | {"cold_engine"} == {layer.name for layer in layers_of(ROCKSDB, "get")}
    assert "cold_engine" not in definitions


def test_what_was_not_measured_leaves_its_layers_and_the_rest_unknown():
    found = seconds_by_layer(layers_of(ROCKSDB, "get"), RUNGS | {"store_disk": None})
    assert found == DISK | {"device": None, UNEXPLAINED: None}
    assert seconds_by_layer(layers_of(ROCKSDB, "get"), RUNGS | {"whole": None}) == DISK | {UNEXPLAINED: None}


@pytest.mark.parametrize(
    ("low", "high", "told"), [(0.1, 2, True), (-2, -0.1, True), (-0.1, 2, False), (0, 1, False)]
)
def test_an_interval_that_spans_zero_tells_nothing(low, high, told):
    assert distinguishable(Interval(1.0, low, high)) is told


def test_one_repeat_and_no_repeat_tell_nothing():
    assert not distinguishable(Interval(1.0, None, None))
    assert not distinguishable(Interval(None, None, None))


def test_shares_are_of_the_same_repeat_s_whole():
    share = share_interval([1.0, 4.0, 9.0], [2.0, 8.0, 18.0])
    assert (share.median, share.low, share.high) == (0.5, 0.5, 0.5)
    assert share_interval([1.0, None, 1.0], [4.0, 1.0, None]).median == 0.25


def span(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("serialization", "device", "server_side", "wanted"),
    [
        (span(0.5, 0.6), span(0.1, 0.2), span(0.1, 0.2), "confirmed"),
        (span(0.1, 0.2), span(0.5, 0.6), span(0.1, 0.2), "refuted"),
        (span(0.2, 0.3), span(0.1, 0.15), span(0.5, 0.6), "refuted"),
        (span(0.2, 0.4), span(0.3, 0.5), span(0.1, 0.2), "undecided"),
        (span(0.4, 0.5), span(0.1, 0.2), span(0.3, 0.6), "undecided"),
        (span(0.4, 0.5), span(0.1, 0.2), span(0.3, 0.4), "undecided"),
        (span(0.4, 0.5), span(0.1, 0.4), span(0.1, 0.2), "undecided"),
        (span(0.4, 0.5), span(0.1, 0.2), Interval(None, None, None), "undecided"),
        (span(0.4, 0.5), span(0.45, 0.5), span(0.51, 0.6), "refuted"),
        (span(0.4, 0.5), Interval(0.1, None, None), Interval(0.1, None, None), "undecided"),
        (Interval(None, None, None), span(0.5, 0.6), span(0.1, 0.2), "undecided"),
    ],
)
def test_the_verdict_needs_intervals_that_do_not_overlap(serialization, device, server_side, wanted):
    assert serialization_verdict(serialization, device, server_side) == wanted


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (1.0, 0.8, True),
        (0.8, 1.0, True),
        (1.0, 0.79, False),
        (0.0, 0.0, True),
        (None, 1.0, None),
        (1.0, None, None),
    ],
)
def test_two_figures_agree_within_a_fifth_of_the_larger(one, other, wanted):
    assert agree(one, other) is wanted
