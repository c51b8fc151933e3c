"""When an answer from a tier is right: token by token one of the control's."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workflow.hyperkv.pairs.verdict import judged, judged_control
from workflow.hyperkv.records.kinds.pairs import Asked

COMPUTED = [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
CONTINUED = [["a", "b", "c", "d"], ["e", "f", "x", "y"]]  # by rounding
PROMPTS = [100, 200]
BYTES = 10


def asked(kind, answers, cached=(0, 0), served=0):
    return Asked(
        kind=kind, prompt_tokens=PROMPTS, cached_tokens=list(cached), served_bytes=served, answers=answers
    )


CONTROL = [
    asked("computed", COMPUTED),
    asked("own cache", CONTINUED, (64, 192)),
    asked("computed", COMPUTED),
]


def loaded(answers, cached=(64, 192), served=2560, cold=COMPUTED):
    return judged(CONTROL, [asked("cold", cold), asked("warm", answers, cached, served)], BYTES, 0.8)


def test_the_control_says_how_much_it_agrees_with_itself():
    found = judged_control(CONTROL)
    assert (found.verdict, found.alike, found.agreed_tokens, found.hit_tokens) == ("safe", 2, 4, 256)
    assert "own cache: 1 as computed" in found.reason
    other = judged_control([*CONTROL[:2], asked("computed", CONTINUED)])
    assert (other.verdict, other.alike, other.agreed_tokens) == ("wrong answers", 1, 2)


@pytest.mark.parametrize("answers", [COMPUTED, CONTINUED])
def test_what_the_control_answers_computed_or_from_its_own_cache_is_right(answers):
    found = loaded(answers)
    assert (found.verdict, found.alike, found.agreed_tokens) == ("safe", 2, 4)
    assert (found.hit_tokens, found.served_bytes) == (256, 2560)


def test_a_token_that_is_not_the_controls_is_wrong_wherever_it_stands():
    found = loaded([COMPUTED[0], ["e", "f", "g", "other"]])
    assert (found.verdict, found.alike, found.agreed_tokens) == ("wrong answers", 1, 3)
    assert found.reason == "warm: 1 of 2 answers are not the control's"


def test_a_mixture_of_both_of_the_controls_answers_is_wrong():
    assert loaded([COMPUTED[0], ["e", "f", "g", "y"]]).verdict == "wrong answers"


def test_an_answer_that_is_cut_short_is_wrong():
    assert loaded([COMPUTED[0], ["e", "f"]]).verdict == "wrong answers"


def test_wrong_answers_of_the_pass_that_saves_count_as_well():
    found = loaded(COMPUTED, cold=[COMPUTED[0], ["z"] * 4])
    assert (found.verdict, found.reason) == ("wrong answers", "cold: 1 of 2 answers are not the control's")


@pytest.mark.parametrize(
    ("cached", "served", "why"),
    [
        ((0, 0), 0, "nothing was found again"),
        ((64, 192), 2000, "256 tokens count as found, of 2,560 bytes; 2,000 bytes were served"),
        ((64, 192), None, "256 tokens count as found, of 2,560 bytes; nobody counts bytes"),
    ],
)
def test_right_answers_without_hits_that_are_proved_are_not_safe(cached, served, why):
    found = loaded(COMPUTED, cached, served)
    assert (found.verdict, found.reason) == ("no hits", why)


def test_a_cold_pass_with_hits_proves_nothing():
    passes = [asked("cold", COMPUTED, (64, 0)), asked("warm", COMPUTED, (64, 192), 2560)]
    assert judged(CONTROL, passes, BYTES, 0.8).verdict == "no hits"


@given(st.lists(st.lists(st.sampled_from("abcdefghxy"), min_size=4, max_size=4), min_size=2, max_size=2))
def test_no_answer_but_the_controls_is_safe(answers):
    assume(
        any(
            answer not in (left, right)
            for answer, left, right in zip(answers, COMPUTED, CONTINUED, strict=True)
        )
    )
    assert loaded(answers).verdict == "wrong answers"
