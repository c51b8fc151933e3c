"""The table of pairs on its page, from records that are kept."""

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.report import pairs_page


def tried(pair, connector, verdict, reason, damage=None, **known):
    unknown = dict.fromkeys(("alike", "hit_tokens", "prompt_tokens", "served_bytes"))
    about = {"pair": pair, "connector": connector, "verdict": verdict, "reason": reason, "damage": damage}
    return unknown | about | {"prompts": 3, "measured_at": "2026-11-29T05:00:00+00:00"} | known


def test_the_page_has_the_newest_trial():
    assert pairs_page.table(pairs_page.newest(pairs_page.KEPT)) in pairs_page.PAGE.read_text(), (
        "run `make docs`"
    )


def test_a_row_per_connector_and_one_for_a_pair_of_which_all_the_same_is_said():
    moved = {"alike": 3, "hit_tokens": 1280, "prompt_tokens": 1393, "served_bytes": 29498052}
    records = [
        tried("new", None, "safe", "computed twice"),
        tried("new", "mp", "safe", "loaded", **moved),
        tried("new", "mp", "wrong answers", "a | b", damage="swapped", **moved),
        tried("old", None, "not tried", "no torch"),
        tried("old", "mp", "not tried", "no torch"),
    ]
    assert pairs_page.table(records).splitlines()[2:] == [
        "| new | none | safe |  |  |  | computed twice | 2026-11-29 |",
        "| new | `mp` | safe | 3 of 3 | 1,280 of 1,393 | 29,498,052 | loaded | 2026-11-29 |",
        "| new | `mp`, values swapped | wrong answers | 3 of 3 | 1,280 of 1,393 | 29,498,052 | a \\| b | 2026-11-29 |",
        "| old | all | not tried |  |  |  | no torch | 2026-11-29 |",
    ]


def test_without_a_kept_trial_there_is_no_table(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder with records\.jsonl"):
        pairs_page.main(kept=tmp_path, page=tmp_path / "page.md")
