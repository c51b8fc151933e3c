"""Fits of a store's speed and of a prompt's compute time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.estimates import Curve, Line


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
