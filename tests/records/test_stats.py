"""Medians, their intervals, and ratios at equal TPS/user."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.records.stats import Interval, interval_word, iso_tps_ratio, median, median_interval


def test_three_repeats_give_their_median_and_their_range():
    assert median_interval([3.0, 1.0, 2.0]) == Interval(2.0, 1.0, 3.0)


def test_equal_repeats_give_an_interval_of_no_width():
    assert median_interval([4.0] * 5) == Interval(4.0, 4.0, 4.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Interval(None, None, None)),
        ([None, None], Interval(None, None, None)),
        ([7], Interval(7.0, None, None)),
        ([None, 7, None], Interval(7.0, None, None)),
        ([0.0], Interval(0.0, None, None)),
    ],
)
def test_unknown_values_are_left_out_and_never_0(values, expected):
    assert median_interval(values) == expected
    assert median(values) == expected.median


def test_none_changes_nothing_beside_known_values():
    assert median_interval([1.0, None, 2.0, 5.0]) == median_interval([1.0, 2.0, 5.0])
    assert median([None, 1.0, None, 2.0]) == 1.5


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5))
def test_of_up_to_five_it_is_their_range_and_is_called_so(values):
    found = median_interval(values)
    assert (found.low, found.high) == pytest.approx((min(values), max(values)))
    assert interval_word(len(values)) == "range"


def test_of_more_it_is_narrower_and_is_a_95_percent_interval():
    found = median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert found.low > 1.0
    assert found.high < 6.0
    assert interval_word(6) == "95 % interval"


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8))
def test_the_interval_holds_the_median_and_lies_in_the_range(values):
    found = median_interval(values)
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= found.low <= found.median + slack
    assert found.median - slack <= found.high <= max(values) + slack
    assert found.median == np.median(values)
    assert found == median_interval(values)


def test_many_repeats_narrow_the_interval_around_the_true_median():
    values = list(np.random.default_rng(3).normal(10, 1, 400))
    found = median_interval(values)
    assert found.low < 10 < found.high
    assert 0.1 < found.high - found.low < 0.4  # 2 * 1.96 * 1.2533 / sqrt(400) = 0.246


def test_iso_tps_ratio_by_hand():
    # shared TPS/user 20..40, middle 30: baseline 4 (halfway from 5 to 3), other 3 (a quarter of the way from 4 to 0)
    baseline = [(40.0, 3.0), (20.0, 5.0)]
    other = [(60.0, 0.0), (20.0, 4.0)]
    assert iso_tps_ratio(baseline, other) == pytest.approx(4 / 3)
    assert iso_tps_ratio(other, baseline) == pytest.approx(3 / 4)


def test_iso_tps_ratio_of_a_curve_with_itself_is_1():
    curve = [(50.0, 1.0), (30.0, 4.0), (10.0, 5.0)]
    assert iso_tps_ratio(curve, curve) == 1


@pytest.mark.parametrize(
    ("baseline", "other"),
    [
        ([(10, 1), (20, 2)], [(30, 1), (40, 2)]),
        ([(10, 1), (20, 2)], [(20, 1), (40, 2)]),
        ([(10, 1)], [(5, 1), (20, 2)]),
        ([(10, 1), (20, 2)], []),
        ([(10, 1), (20, 2)], [(10, 0), (20, 0)]),
    ],
    ids=["no overlap", "one shared point", "one point", "no points", "nothing finished"],
)
def test_iso_tps_ratio_that_cannot_be_taken_is_none(baseline, other):
    assert iso_tps_ratio(baseline, other) is None
