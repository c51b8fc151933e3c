"""Which scenario is best, from which it cannot be told apart, and how that is said."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.recommend.ranking import Objective, ranked
from workflow.hyperkv.recommend.recommendation import parity_notes
from workflow.hyperkv.recommend.recommendation_text import answer
from workflow.hyperkv.records.templates import number

SECTION = {"objective": None, "load": None, "tps_per_user_min": None}
NO_SLO = {"ttft_ms": None, "itl_ms": None}
TIERS = {"none": "none", "dram": "dram", "files": "ssd"}


def objective(slo=NO_SLO, **changes) -> Objective:
    return Objective.of(SECTION | changes, slo)


def cells(values: dict, **columns) -> pd.DataFrame:
    """Rows of cells.csv: {(scenario, load): [RPS/GPU by repeat]}. columns: {(scenario, load): {column: value}}."""
    alike = {"store": "", "connector": "", "chunk_tokens": 64, "comparable_digest": "x", "valid": True}
    alike |= {"reasons": "", "served_from": "ram", "hit_rate": 0.5, "device_share": None}
    rows = [
        {"scenario": scenario, "load": load, "repeat": repeat, "tier": TIERS.get(scenario, "ssd"), **alike}
        | {"rps_per_gpu": value, "goodput_rps": value, "tps_per_user": 100.0 / load}
        | {"ttft_p50_ms": 100.0 / value, "ttft_p95_ms": 200.0 / value}
        for (scenario, load), by_repeat in values.items()
        for repeat, value in enumerate(by_repeat, 1)
    ]
    table = pd.DataFrame(rows)
    for (scenario, load, repeat), changes in columns.get("changes", {}).items():
        at = (table["scenario"] == scenario) & (table["load"] == load) & (table["repeat"] == repeat)
        for name, value in changes.items():
            table.loc[at, name] = value
    return table


def test_the_best_stands_with_its_best_load_and_is_compared_pair_by_pair():
    table = cells({("none", 1): [1, 2, 3], ("none", 2): [2, 3, 4], ("dram", 2): [4, 6, 8]})
    ranking = ranked(table, objective())
    assert (ranking.chosen.scenario, ranking.chosen.load) == ("dram", 2)
    (other,) = ranking.others
    assert (other.other.load, other.ratio.median, other.ratio.low, other.ratio.high) == (2, 2, 2, 2)
    assert other.apart is True
    assert answer(ranking, objective()) == (
        "Keep KV in DRAM with scenario dram: 6.00 [4.00, 8.00] requests per second and GPU at 2 clients, "
        "2.00 [2.00, 2.00] times as good as recompute."
    )


def test_recompute_that_is_best_is_said_plainly():
    ranking = ranked(cells({("none", 4): [5, 6, 7], ("files", 4): [2, 2, 2]}), objective())
    assert (ranking.chosen.scenario, ranking.for_simplicity) == ("none", False)
    text = answer(ranking, objective())
    assert text.startswith(
        "Do not offload, compute again: 6.00 [5.00, 7.00] requests per second and GPU at 4 clients"
    )
    assert "3.00 [2.50, 3.50] times as good as files" in text


def test_recompute_is_chosen_when_it_cannot_be_told_from_the_best():
    ranking = ranked(cells({("none", 1): [5, 6, 7], ("dram", 1): [5.5, 6.1, 6.9]}), objective())
    assert (ranking.chosen.scenario, ranking.for_simplicity) == ("none", True)
    assert [item.other.scenario for item in ranking.ties] == ["dram"]
    assert "dram and recompute cannot be told apart" in answer(ranking, objective())


def test_a_tie_with_another_store_is_said():
    ranking = ranked(
        cells({("none", 1): [1, 1, 1], ("dram", 1): [5, 6, 7], ("files", 1): [5.5, 5.9, 6.9]}), objective()
    )
    assert ranking.chosen.scenario == "dram"
    assert "files, the next (not told apart)" in answer(ranking, objective())


def test_one_repeat_decides_nothing_and_that_is_said():
    ranking = ranked(cells({("none", 1): [1.0], ("dram", 1): [1.1]}), objective())
    assert ranking.chosen.scenario == "dram"
    assert [item.apart for item in ranking.others] == [None]
    assert (ranking.ties, len(ranking.untold)) == ([], 1)
    assert "(one repeat, no interval)" in answer(ranking, objective())


def test_a_load_with_an_invalid_repeat_is_left_out_with_its_reason():
    bad = {("dram", 2, 3): {"valid": False, "reasons": "3 requests failed"}}
    table = cells({("none", 1): [1, 1, 1], ("dram", 1): [2, 2, 2], ("dram", 2): [9, 9, 9]}, changes=bad)
    ranking = ranked(table, objective())
    assert (ranking.chosen.scenario, ranking.chosen.load) == ("dram", 1)
    (left,) = ranking.left_out
    assert (left.scenario, left.load, left.reason) == ("dram", 2, "1 of 3 repeats invalid: 3 requests failed")


def test_a_tier_that_nothing_was_loaded_from_is_left_out():
    idle = {("dram", 1, repeat): {"served_from": "nothing"} for repeat in (1, 2)}
    table = cells({("none", 1): [1, 1], ("dram", 1): [9, 9], ("files", 1): [2, 2]}, changes=idle)
    ranking = ranked(table, objective())
    assert ranking.chosen.scenario == "files"
    assert [item.reason for item in ranking.left_out] == [
        "nothing was loaded from its tier, so its speed is that of recompute"
    ]
    table.loc[(table["scenario"] == "dram") & (table["repeat"] == 1), "served_from"] = "ram"
    ranking = ranked(table, objective())
    assert ranking.chosen.scenario == "files"
    assert [item.reason for item in ranking.left_out] == [
        "nothing was loaded from its tier in 1 of 2 repeats, so its speed is that of recompute there"
    ]


def test_nothing_valid_recommends_nothing():
    bad = {("dram", 1, 1): {"valid": False, "reasons": "store died"}}
    ranking = ranked(cells({("dram", 1): [1]}, changes=bad), objective())
    assert ranking.chosen is None
    assert "Nothing can be recommended" in answer(ranking, objective())
    assert "store died" in answer(ranking, objective())


def test_without_recompute_it_is_not_known_whether_offloading_pays():
    ranking = ranked(cells({("files", 1): [1, 2]}), objective())
    assert answer(ranking, objective()).endswith("so whether offloading pays is not known.")


def test_a_floor_of_tps_per_user_and_a_load_choose_what_counts():
    table = cells({("none", 1): [1, 1], ("none", 4): [3, 3], ("dram", 1): [2, 2], ("dram", 4): [9, 9]})
    floor = ranked(table, objective(tps_per_user_min=50))
    assert (floor.chosen.scenario, floor.chosen.load) == ("dram", 1)
    assert {item.reason for item in floor.left_out} == {"TPS/user 25 is below the floor of 50"}
    assert ranked(table, objective(load=4)).chosen.load == 4


def test_the_shortest_ttft_at_the_highest_common_load():
    by_load = {("none", 1): [1, 1], ("none", 2): [2, 2]}
    table = cells(by_load | {("dram", 1): [9, 9], ("dram", 2): [4, 4], ("dram", 4): [99, 99]})
    ranking = ranked(table, objective(objective="ttft"))
    assert (ranking.chosen.scenario, ranking.chosen.load) == ("dram", 2)
    assert ranking.others[0].ratio.median == 2
    with pytest.raises(UserError, match="share no load"):
        ranked(cells({("none", 1): [1], ("dram", 2): [1]}), objective(objective="ttft"))


def test_goodput_is_the_objective_when_there_is_an_slo():
    assert objective({"ttft_ms": 500, "itl_ms": None}).metric == "goodput_rps"
    assert objective().metric == "rps_per_gpu"
    with pytest.raises(UserError, match="no goodput_rps"):
        ranked(cells({("none", 1): [1]}).drop(columns="goodput_rps"), objective(objective="goodput"))


@given(
    st.lists(st.floats(0.01, 1e5), min_size=2, max_size=6),
    st.lists(st.floats(0.01, 1e5), min_size=2, max_size=6),
)
def test_the_best_median_is_chosen_or_recompute_that_ties_with_it(one, two):
    ranking = ranked(cells({("none", 1): one, ("dram", 1): two[: len(one)]}), objective())
    assert ranking.chosen is not None
    medians = [item.other.interval.median for item in ranking.others]
    if ranking.for_simplicity:
        assert ranking.chosen.scenario == "none"
        assert ranking.ties
    else:
        assert ranking.chosen.interval.median >= max(medians)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (1, "1.00"),
        (11.2345, "11.2"),
        (505.4, "505"),
        (999.7, "1,000"),
        (43210, "43,210"),
        (0.0512, "0.0512"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_what_is_of_another_pair_is_said_and_recompute_is_the_chosen_one_s_own():
    table = cells({("none", 4): [1, 1, 1], ("none_reference", 4): [4, 4, 4], ("dram", 4): [5, 5, 5]})
    table.loc[table["scenario"] == "none_reference", "tier"] = "none"
    table["pair"] = np.where(table["scenario"] == "none", "current", "reference")
    ranking = ranked(table, objective())
    assert ranking.chosen.scenario == "dram"
    text = answer(ranking, objective())
    assert "5.00 [5.00, 5.00] times as good as recompute of pair current" in text
    assert "1.25 [1.25, 1.25] times as good as recompute" in text
    (note,) = parity_notes(ranking)
    assert note.startswith(
        "dram and none differ in more than tier, store and connector: in pair (other versions"
    )


def test_recompute_of_another_pair_does_not_win_for_simplicity():
    table = cells({("none", 4): [5, 5, 5], ("none_reference", 4): [1, 1, 1], ("dram", 4): [6.0, 4.9, 6.0]})
    table.loc[table["scenario"] == "none_reference", "tier"] = "none"
    table["pair"] = np.where(table["scenario"] == "none", "current", "reference")
    assert ranked(table, objective()).chosen.scenario == "dram"


def test_where_all_are_asked_for_as_many_requests_first_tokens_count():
    assert Objective.of(SECTION, NO_SLO, closed=False).word == "ttft"
    assert Objective.of(SECTION, NO_SLO | {"ttft_ms": 500}, closed=False).word == "goodput"
    assert Objective.of(SECTION | {"objective": "rps_per_gpu"}, NO_SLO, closed=False).word == "rps_per_gpu"


def test_a_load_of_an_open_loop_is_no_whole_number():
    table = cells({("none", 0.4): [1.0], ("dram", 0.4): [2.0]}).assign(loop="open")
    best = ranked(table, Objective.of(SECTION, NO_SLO, closed=False)).chosen
    assert (best.scenario, best.load, best.facts["loop"]) == ("dram", 0.4, "open")
