"""Table and figure of a search, from records made up here."""

import json

import pytest

from workflow.hyperkv.figures.tune import draw_tune
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary
from workflow.hyperkv.tables.tune import tune_table

METRIC = "ttft_p50_ms"


def trial(number, cost, state="complete", reason=None):
    entry = {"cost_s_per_ktokens": cost, "set_gbps": 1.0, "get_gbps": 2.0, "device_share": 1.0}
    return {
        "record": "trial", "scenario": "valkey_striped", "trial": number, "state": state, "reason": reason,
        "parameters": {"connections": number + 1}, "cost_s_per_ktokens": cost,
        "rounds": [] if cost is None else [entry, entry], "spent_s": 1.0,
    }  # fmt: skip


def cell(phase, candidate, repeat, value, reasons=()):
    evidence = {"device_share": 0.9}
    return {
        "record": "finalist", "scenario": "valkey_striped", "metric": METRIC, "phase": phase, "candidate": candidate,
        "repeat": repeat, "parameters": {"connections": candidate + 1}, "value": value, "valid": not reasons,
        "reasons": list(reasons), "cell": {"evidence": evidence, "served_from": "ram", "cell_s": 2.0} if value else None,
    }  # fmt: skip


TRIALS = [
    trial(0, 0.3),
    trial(1, 0.1),
    trial(2, 0.2, "pruned", "pruned after 1 rounds"),
    trial(3, None, "failed", "store valkey (pid 1) died"),
]
CELLS = [
    *(cell("finals", 0, repeat, 20.0 + repeat) for repeat in (1, 2)),
    *(cell("finals", 1, repeat, 10.0 + repeat) for repeat in (1, 2)),
    cell("finals", 2, 1, None, ["store valkey (pid 1) died"]),
    cell("finals", 2, 2, 9.0, ["2 chunks came back with wrong bytes"]),
    *(cell("proof", candidate, 3, 20.0 - 10 * candidate) for candidate in (0, 1)),
]


def evidence(importances, better=True):
    proof = {"parameters": {"connections": 2}, "gain": 2.0, "gain_low": 1.5, "gain_high": 2.5}
    return {
        "better": better,
        "before_after": proof,
        "scenario": "valkey_striped",
        "engine": "replay",
        "objective": {"metric": METRIC, "load": 2},
        "in_words": "valkey_striped: better: connections 2",
        "study": {"trials": 4, "failed": 1, "spent_s": 60.0, "importances": importances},
        "finalists": [
            {"candidate": number, "parameters": {"connections": number + 1}} for number in range(3)
        ],
    }


def test_every_trial_and_cell_is_a_row_with_its_reason():
    table = tune_table(TRIALS, CELLS)
    assert list(table) == list(columns_dictionary()["tune"])
    assert list(table["state"]) == [
        "complete",
        "complete",
        "pruned",
        "failed",
        *["valid"] * 4,
        "failed",
        "invalid",
        *["valid"] * 2,
    ]
    failed = table[table["state"] == "failed"]
    assert list(failed["reason"]) == ["store valkey (pid 1) died"] * 2
    assert failed["value"].isna().all()
    assert json.loads(table.iloc[1]["parameters"]) == {"connections": 2}
    assert table.iloc[1]["get_gbps"] == 2.0


def test_the_figure_shows_failures_the_best_so_far_and_the_proof():
    history, bars, cells = draw_tune(
        tune_table(TRIALS, CELLS), evidence({"connections": 0.7, "processes": 0.3})
    ).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in history.lines}
    assert lines["best so far"] == [0.3, 0.1]
    assert lines["the scenario as it is"] == [0.3]
    assert lines["ended early"] == [0.2]
    assert len(lines["failed"]) == 1
    assert [label.get_text() for label in bars.get_yticklabels()] == ["processes", "connections"]
    names = [label.get_text() for label in cells.get_xticklabels()]
    assert names == ["as it is", "no. 1", "no. 2", "as it is", "no. 1"]
    assert {"chosen on these requests", "proof, on others"} < {text.get_text() for text in cells.texts}
    assert "no valid\ncell" in [text.get_text() for text in cells.texts]


def test_without_importances_and_cells_it_is_drawn_all_the_same():
    figure = draw_tune(tune_table([trial(0, None, "failed", "x")], []), evidence(None))
    assert "too few complete trials" in [text.get_text() for text in figure.axes[1].texts]


@pytest.mark.parametrize(
    ("better", "words"), [(True, "; better"), (False, "not proved better, so that stays")]
)
def test_the_title_says_what_is_proved(better, words):
    figure = draw_tune(tune_table(TRIALS, CELLS), evidence(None, better))
    title = figure.get_suptitle()
    assert title.startswith(
        "valkey_striped: no. 1 is 2.00 [1.50, 2.50] times as good as the scenario as it is"
    )
    assert words in title
    nothing = {**evidence(None), "before_after": None, "in_words": "valkey_striped: nothing found better"}
    assert (
        draw_tune(tune_table(TRIALS, CELLS), nothing)
        .get_suptitle()
        .startswith("valkey_striped: nothing found")
    )
