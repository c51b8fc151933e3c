"""Figures of a cell from its requests, against values worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.cells.samples import Sample, closed_loop_window_s, window_values


def sample(arrival: float, first: float, finish: float, answer: int = 11, hit: int = 0) -> Sample:
    return Sample(arrival, first, finish, 100, answer, hit, hit)


def test_figures_per_gpu_are_divided_by_the_gpus():
    requests = [Sample(0.0, 0.1, 1.0, 10, 2, 5), Sample(1.0, 1.1, 2.0, 10, 2, 5)]
    one, two = (window_values(requests, 4.0, {"ttft_ms": 500}, gpus) for gpus in (1, 2))
    assert (one["rps_per_gpu"], two["rps_per_gpu"]) == (0.5, 0.25)
    assert (one["goodput_rps"], two["goodput_rps"]) == (0.5, 0.25)
    per_gpu = ("rps_per_gpu", "goodput_rps")
    assert {k: v for k, v in one.items() if k not in per_gpu} == {
        k: v for k, v in two.items() if k not in per_gpu
    }


def test_values_by_hand():
    requests = [sample(0, 1, 2), sample(1, 1.5, 5, hit=50), sample(6, 7, 8)]
    values = window_values(requests, 4.0)
    assert values["requests"] == 2
    assert values["rps_per_gpu"] == pytest.approx(1 / 4)
    assert values["tps_per_user"] == pytest.approx(22 / 6)
    assert values["ttft_p50_ms"] == pytest.approx(750)
    assert values["itl_p50_ms"] == pytest.approx((100 + 350) / 2)
    assert values["hit_rate"] == values["external_hit_rate"] == pytest.approx(50 / 200)
    assert values["goodput_rps"] is None


def test_goodput_counts_the_answers_that_keep_every_bound():
    requests = [sample(0, 0.4, 1.4), sample(0, 0.6, 1.6), sample(0, 0.4, 3.4)]
    assert window_values(requests, 4.0, {"ttft_ms": 500, "itl_ms": None})["goodput_rps"] == pytest.approx(
        2 / 4
    )
    assert window_values(requests, 4.0, {"ttft_ms": 500, "itl_ms": 100})["goodput_rps"] == pytest.approx(
        1 / 4
    )
    assert window_values(requests, 4.0, {"ttft_ms": None, "itl_ms": None})["goodput_rps"] is None


def test_an_answer_of_one_token_has_no_itl():
    assert window_values([sample(0, 1, 1, answer=1)], 2.0)["itl_p50_ms"] is None


def test_hits_below_hbm_are_unknown_when_the_engine_does_not_tell():
    assert window_values([Sample(0, 1, 2, 10, 2, 5)], 3.0)["external_hit_rate"] is None


def test_nothing_measured_is_unknown_and_not_zero():
    values = window_values([], 0.0)
    assert values["requests"] == 0
    assert {values[key] for key in ("rps_per_gpu", "tps_per_user", "ttft_p50_ms", "hit_rate")} == {None}


def test_the_window_ends_when_the_first_client_finds_no_conversation_left():
    conversations = {
        "a": [sample(0, 1, 2), sample(2, 3, 4)],
        "b": [sample(0, 1, 9)],
        "c": [sample(4, 5, 6)],
    }
    assert closed_loop_window_s(conversations) == 6


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 50)), min_size=1))
def test_the_window_is_within_the_run(spans):
    conversations = {i: [sample(start, start, start + length)] for i, (start, length) in enumerate(spans)}
    window = closed_loop_window_s(conversations)
    assert max(start for start, _ in spans) <= window <= max(start + length for start, length in spans)
