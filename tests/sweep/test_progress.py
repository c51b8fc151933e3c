"""One line per cell, counted across jobs; a missing or broken plan never stops a sweep."""

import json

import pytest

from tests.record_factory import unknown_cell
from workflow.hyperkv.sweep.progress import Progress, position, write_plan

GOOD = unknown_cell({}).model_copy(update={"cell_s": 1.26})


@pytest.mark.parametrize(
    ("done", "cells", "elapsed", "text"),
    [
        (3, 12, 30, "cell 3 of 12, 25%, about 90 s left · "),
        (1, 4, 40, "cell 1 of 4, 25%, about 2 min left · "),
        (4, 4, 40, "cell 4 of 4, 100%, about 0 s left · "),
        (5, 4, 40, ""),
    ],
)
def test_position(done, cells, elapsed, text):
    assert position(done, cells, elapsed) == text


def test_jobs_count_together(tmp_path, capsys):
    plan = tmp_path / "new/plan.json"
    write_plan(plan, 2)
    for repeat in (1, 2):
        progress = Progress(plan, "ssd", repeat)
        progress.begin(8)
        progress.end(GOOD)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("hyperkv sweep: cell 1 of 2, 50%")
    assert second.startswith("hyperkv sweep: cell 2 of 2, 100%")
    assert second.endswith("ssd repeat 2 load 8: 1.3 s")
    assert json.loads(plan.read_text())["done"] == 2


@pytest.mark.parametrize("content", [None, "", "{", "{}", "[]", '{"done": 0}'])
def test_no_usable_plan_no_totals(tmp_path, capsys, content):
    plan = tmp_path / "plan.json"
    if content is not None:
        plan.write_text(content)
    bad = GOOD.model_copy(update={"valid": False, "reasons": ["a", "b"], "cell_s": 2})
    Progress(plan, "ssd", 1).end(bad)
    assert capsys.readouterr().out == "hyperkv sweep: ssd repeat 1 load None: 2.0 s · INVALID: a; b\n"
