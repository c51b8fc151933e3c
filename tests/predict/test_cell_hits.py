"""The hit rate of a cell, predicted of its very own requests, against the cell itself; and what is not predicted."""

from copy import deepcopy

import pytest

from tests.helpers import refused
from tests.kept import KEPT, kept
from tests.record_factory import cell
from tests.workloads.kinds import EXCERPT
from workflow.hyperkv.engines.replay.cells import measure_cell
from workflow.hyperkv.predict.cell_hits import predicted_hit_rate
from workflow.hyperkv.workloads.factory import make_workload

(DIRECT,) = (folder for folder in KEPT if folder.name == "2026-11-29-direct")


@pytest.fixture(scope="module", params=["dram", "files"])
def measured(request, tmp_path_factory) -> dict:
    """A cell of one client of each scenario: its requests come one after the other, as the simulation has them."""
    return measure_cell(cell(tmp_path_factory.mktemp("cell"), request.param, load=1)).dump()


@pytest.fixture(scope="module")
def of_vllm() -> dict:
    """A cell of a real engine, which asks its tier for the whole prompt."""
    return next(record for record in kept(DIRECT).of("cell") if record["scenario"] == "h100_direct_mp")


def test_with_one_client_a_tiers_hit_rate_is_what_is_predicted(measured):
    assert measured["values"]["hit_rate"] > 0
    assert predicted_hit_rate(measured) == pytest.approx(measured["values"]["hit_rate"])


def test_a_real_engines_cell_is_predicted_of_its_own_load_and_repeat(of_vllm):
    assert predicted_hit_rate(of_vllm) == pytest.approx(of_vllm["values"]["hit_rate"], rel=0.01)
    with refused("not those that its workload and seed make"):
        predicted_hit_rate(of_vllm | {"load": 5})
    with refused("not those that its workload and seed make"):
        predicted_hit_rate(of_vllm | {"repeat": 2})


def test_without_a_tier_and_hbm_there_is_nothing_to_predict():
    computed = next(record for record in kept(DIRECT).of("cell") if record["scenario"] == "h100_none")
    assert predicted_hit_rate(computed) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"scenario": {"gate": "ttft"}}, "a gate decides"),
        ({"scenario": {"load_queue_bytes": 1}}, "a gate decides"),
        ({"engines": 2}, "of several engines"),
        ({"loop": "open"}, "with an open loop"),
        ({"workload": {"conversations": 39, "prefix_tokens": [80, 120]}}, "not those that its workload"),
    ],
)
def test_what_is_not_predicted_is_said(of_vllm, changes, why):
    record = deepcopy(of_vllm)
    for key, value in changes.items():
        record["spec"][key] = record["spec"][key] | value if isinstance(value, dict) else value
    with refused(why):
        predicted_hit_rate(record)


def test_hbm_of_unknown_size_is_not_predicted(of_vllm):
    record = deepcopy(of_vllm)
    record["effective"]["prefix_caching"] = True
    with refused("vllm.hbm_kv_bytes is not set"):
        predicted_hit_rate(record)
    record["spec"]["vllm"]["hbm_kv_bytes"] = 1 << 30
    assert predicted_hit_rate(record) >= predicted_hit_rate(of_vllm)


def test_answers_count_as_the_running_engine_showed_them(of_vllm):
    record = deepcopy(of_vllm)
    record["effective"]["save_decode_cache"] = not of_vllm["effective"]["save_decode_cache"]
    assert predicted_hit_rate(record) != predicted_hit_rate(of_vllm)


def test_a_trace_is_predicted_one_by_one_whatever_loop_its_configuration_has(of_vllm):
    record = deepcopy(of_vllm)
    trace = {"kind": "trace", "trace": str(EXCERPT)}
    record["spec"]["workload"] = trace
    record["spec"]["loadgen"]["conversations_per_client"] = None
    record["requests"]["prompt_tokens"] = [each.turns[-1].prompt_end for each in make_workload(trace, 1)]
    closed = predicted_hit_rate(record)
    record["spec"]["loop"] = "open"
    assert predicted_hit_rate(record) == closed > 0
