"""Quantities: paired by repeat where they can be, else by the ends of their intervals."""

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.records.stats import Interval, median_interval
from workflow.hyperkv.tables.judging.measured import Quantity, Unmeasured, combined

POSITIVE = st.floats(0.1, 1e3)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=6)
OPERATIONS = st.sampled_from([operator.sub, operator.truediv, max])


def sampled(values) -> Quantity:
    return Quantity.sampled(dict(enumerate(values, start=1)))


def spanned(median, low, high) -> Quantity:
    return Quantity(Interval(median, low, high))


@given(PAIRS, OPERATIONS)
def test_samples_are_paired_repeat_by_repeat(pairs, apply):
    found = combined(apply, sampled(a for a, _ in pairs), sampled(b for _, b in pairs))
    assert found.interval == median_interval([apply(a, b) for a, b in pairs])


@given(st.lists(POSITIVE, min_size=2, max_size=6), POSITIVE)
def test_what_all_repeats_share_has_no_width_however_much_they_differ(values, factor):
    found = combined(operator.truediv, sampled(factor * value for value in values), sampled(values)).interval
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


@given(PAIRS, OPERATIONS)
def test_pairing_is_never_wider_than_the_ends_allow(pairs, apply):
    one, other = sampled(a for a, _ in pairs), sampled(b for _, b in pairs)
    ranges = [
        spanned(q.interval.median, min(q.samples.values()), max(q.samples.values())) for q in (one, other)
    ]
    paired, loose = combined(apply, one, other).interval, combined(apply, *ranges).interval
    slack = 1e-9 * max(1.0, abs(loose.low), abs(loose.high))
    assert loose.low - slack <= paired.low <= paired.high <= loose.high + slack


def test_only_repeats_that_both_have_count():
    one, other = Quantity.sampled({1: 4.0, 2: 9.0}), Quantity.sampled({2: 3.0, 3: 1.0})
    assert combined(operator.truediv, one, other).samples == {2: 3.0}
    with pytest.raises(Unmeasured, match="no repeat has both values"):
        combined(operator.truediv, Quantity.sampled({1: 4.0}), Quantity.sampled({2: 3.0}))


def test_intervals_alone_are_combined_by_their_ends():
    assert combined(operator.truediv, spanned(4, 2, 6), spanned(2, 1, 3)).interval == Interval(
        2.0, 2 / 3, 6.0
    )
    assert combined(operator.sub, spanned(4, 2, 6), spanned(2, 1, 3)).interval == Interval(2, -1, 5)
    assert combined(max, spanned(1, 0, 2), spanned(3, 1, 4)).interval == Interval(3, 1, 4)


def test_a_part_without_an_interval_takes_it_from_the_whole():
    assert combined(operator.sub, spanned(1, None, None), spanned(2, 1, 3)).interval == Interval(
        -1, None, None
    )


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (sampled([1.0, 1.0]), sampled([0.0, 1.0]), "a value of 0"),
        (sampled([1.0, 1.0]), sampled([0.0, 0.0]), "a value of 0"),
        (spanned(1, 1, 1), spanned(1, -1, 2), "interval spans 0"),
        (spanned(1, 1, 1), spanned(0, -1, 2), "a value of 0"),
        (spanned(1e308, 1e308, 1e308), spanned(1e-5, 1e-5, 1e-5), "not a finite number"),
    ],
)
def test_dividing_by_nothing_is_unmeasured(one, other, message):
    with pytest.raises(Unmeasured, match=message):
        combined(operator.truediv, one, other)


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf]])
def test_samples_must_be_there_and_finite(values):
    with pytest.raises(Unmeasured):
        sampled(values)
