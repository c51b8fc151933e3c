"""Fits of a store's speed and of a prompt's compute time."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.estimates import Curve, Line
from workflow.plugin.lmcache_striped.store_work import StoreWork


@given(
    fixed=st.floats(0, 0.1), per_unit=st.floats(1e-4, 0.1), noise=st.floats(0, 0.05), seed=st.integers(0, 99)
)
def test_a_line_is_found_from_loads_of_several_sizes(fixed, per_unit, noise, seed):
    rng, line = np.random.default_rng(seed), Line()
    for _ in range(60):
        x = float(rng.integers(1, 100))
        line.observe(x, (fixed + per_unit * x) * (1 + noise * rng.uniform(-1, 1)))
    for x in (5, 50):
        assert line.seconds(x) == pytest.approx(
            fixed + per_unit * x, rel=(0.02 if x == 50 else 0.1) + 3 * noise
        )


@given(st.lists(st.tuples(st.floats(-1, 1e9), st.floats(-1, 1e4)), max_size=30))
def test_whatever_is_observed_nothing_is_negative(observed):
    line = Line()
    for x, seconds in observed:
        line.observe(x, seconds)
    assert line.fixed >= 0
    assert line.per_unit > 0 or not line.seen


@given(factor=st.floats(0.02, 50), size=st.integers(1, 50))
def test_a_line_follows_a_change_of_speed_within_a_few_observations_of_one_size(factor, size):
    line = Line()
    for x in (1, 50, 10, 30, 3, 20):
        line.observe(x, 0.002 + 0.01 * x)
    for _ in range(6):
        line.observe(size, factor * (0.002 + 0.01 * size))
    assert line.seconds(size) == pytest.approx(factor * (0.002 + 0.01 * size), rel=0.3)


@given(
    fixed=st.floats(0, 0.05),
    per_token=st.floats(1e-6, 1e-3),
    per_pair=st.floats(0, 1e-7),
    new=st.integers(1, 40_000),
    context=st.integers(0, 40_000),
)
def test_a_curve_of_its_own_form_is_found_exactly(fixed, per_token, per_pair, new, context):
    def seconds(tokens, before=0):
        return fixed + per_token * tokens + per_pair * tokens * (before + tokens / 2)

    curve = Curve([[tokens, seconds(tokens)] for tokens in (1032, 4104, 8200, 32776)])
    assert curve.seconds(new, context) == pytest.approx(seconds(new, context), rel=1e-3)


def test_tokens_beside_those_of_other_prompts_take_what_the_step_takes_longer():
    curve = Curve([[tokens, 0.02 + 1e-5 * tokens] for tokens in (100, 1_000, 10_000)])
    assert curve.seconds(1_000, 0, 2_000) == pytest.approx(0.01)
    assert curve.seconds(np.array([1_000, 2_000]), 500, np.array([0, 2_000])) == pytest.approx([0.03, 0.02])
    pairs = Curve([[tokens, 1e-8 * tokens**2 / 2] for tokens in (100, 1_000, 10_000)])
    assert pairs.seconds(1_000, 0, 5_000) == pytest.approx(pairs.seconds(1_000))


@given(
    least=st.floats(0.005, 0.05),
    per_token=st.floats(1e-5, 1e-4),
    per_pair=st.floats(0, 3e-9),
    beside=st.integers(4_096, 60_000),
    new=st.integers(100, 4_000),
)
def test_a_step_that_takes_some_seconds_however_short_does_not_make_tokens_behind_others_cheap(
    least, per_token, per_pair, beside, new
):
    """Beside prompts that take longer than the least step by themselves each token costs what it costs in a long prompt."""

    def own(tokens):
        return per_token * tokens + per_pair * tokens**2 / 2

    lengths = [2**power for power in range(4, 16)]
    curve = Curve([[tokens, max(least, own(tokens))] for tokens in lengths])
    assume(2 * least < own(beside))
    assert curve.seconds(new, 0, beside) == pytest.approx(own(new), rel=0.05, abs=2e-4)


def test_a_curve_goes_through_its_points_and_reads_arrays():
    points = [[1000, 0.1], [2000, 0.15], [3000, 0.4], [2000, 0.16]]
    curve = Curve(points)
    assert curve.seconds(np.array([1000, 2000, 3000]), 0) == pytest.approx([0.1, 0.16, 0.4])
    assert np.diff(curve.seconds(np.arange(1, 9000, 10), 0)).min() > -1e-3


@pytest.mark.parametrize("points", [[[1000, 0.2]], [[1000, 0.2], [2000, 0.4]], [[1000, 0.2], [2000, 0.2]]])
def test_few_points_are_enough(points):
    curve = Curve(points)
    assert curve.seconds(1000) == pytest.approx(0.2)
    assert curve.seconds(500) > 0
    assert curve.seconds(500, 5000) == curve.seconds(500)


def test_a_promise_is_given_up_in_its_own_time_whatever_was_promised_before():
    store = StoreWork(chunk_bytes=1_000)
    load = store.waits(["seen"], 1_000, 0.0)
    store.begins(load, 0.0)
    store.ends(load, 1.0, True)
    store.promise(["long"], 100.0, None)
    store.promise(["short", "too"], 5.0, None)
    owed_s = []
    for now in (4.0, 6.0, 101.0):
        store.expire(now)
        owed_s.append(store.wait_s(now)[0])
    assert owed_s == pytest.approx([3.0, 1.0, 0.0])
    assert store.idle
