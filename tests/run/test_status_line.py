"""The line that says how far a run is: what is in it, how often it comes, where it is written over, what the log keeps."""

import io
import json
import logging

import pytest

from workflow.hyperkv.run.status_line import StatusLine, listen


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def heard(status: StatusLine, event: str, **told) -> None:
    """An event of Snakemake's, as its logger hands it on."""
    record = logging.LogRecord("snakemake", logging.INFO, "", 0, "", (), None)
    vars(record).update(told, event=event)
    status.handle(record)


@pytest.fixture
def run(tmp_path):
    """A started run of three cells' jobs and a table: the line, its stream and its clock."""

    def start(stream):
        clock = Clock()
        status = StatusLine(tmp_path / "plan.json", tmp_path / "run.log", stream, clock)
        heard(status, "run_info", stats={"measure_scenario": 3, "write_cells": 1, "total": 4})
        return status, clock

    return start


def begin(status, job, rule, output):
    heard(status, "job_info", jobid=job, rule_name=rule, output=[output])


def test_the_line_names_steps_stage_cell_and_the_time_left(run, tmp_path):
    stream = io.StringIO()
    status, clock = run(stream)
    assert status.line() == "hyperkv: 0 of 4 steps"
    begin(status, 1, "measure_scenario", "results/sweep/dram/1.jsonl")
    assert status.line() == "hyperkv: 0 of 4 steps · sweep"
    (tmp_path / "plan.json").write_text(json.dumps({"cells": 6, "done": 2}))
    clock.now += 50
    heard(status, "job_finished", job_id=1)
    assert status.line() == "hyperkv: 1 of 4 steps · sweep: cell 3 of 6 · about 2 min left"
    begin(status, 2, "write_cells", "results/tables/cells.csv")
    clock.now += 1
    heard(status, "job_finished", job_id=2)
    assert status.line() == "hyperkv: 2 of 4 steps · tables · about 2 min left"
    assert [line.split(" ", 1)[1] for line in (tmp_path / "run.log").read_text().splitlines()] == [
        "hyperkv: 1 of 4 steps · sweep: cell 3 of 6 · about 2 min left · made: measure_scenario",
        "hyperkv: 2 of 4 steps · tables · about 2 min left · made: write_cells",
    ]


def test_elsewhere_than_on_a_terminal_it_comes_with_a_new_stage_and_else_twice_a_minute(run):
    stream = io.StringIO()
    status, clock = run(stream)
    for job in range(3):
        begin(status, job, "measure_scenario", f"results/sweep/dram/{job}.jsonl")
        clock.now += 20
        heard(status, "job_finished", job_id=job)
    lines = stream.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == [
        "hyperkv: 0 of 4 steps", "hyperkv: 1 of 4 steps", "hyperkv: 3 of 4 steps",
    ]  # fmt: skip


def test_on_a_terminal_it_is_written_over_and_gone_at_the_end(run):
    stream = Terminal()
    status, _ = run(stream)
    begin(status, 1, "measure_scenario", "results/sweep/dram/1.jsonl")
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("hyperkv: 0 of 4 steps · sweep\x1b[K\r")
    status.end()
    assert stream.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("plan", ["", "{", '{"cells": 3}', "[]"])
def test_a_broken_plan_or_log_stops_nothing(run, tmp_path, plan):
    stream = io.StringIO()
    status, _ = run(stream)
    (tmp_path / "plan.json").write_text(plan)
    (tmp_path / "run.log").unlink()
    (tmp_path / "run.log").mkdir()
    begin(status, 1, "measure_scenario", "results/sweep/dram/1.jsonl")
    heard(status, "job_finished", job_id=1)
    assert "1 of 4 steps · sweep" in status.line()


def test_a_run_without_jobs_says_nothing(tmp_path):
    stream = io.StringIO()
    status = StatusLine(tmp_path / "plan.json", tmp_path / "run.log", stream)
    heard(status, "workflow_started")
    status.show()
    assert stream.getvalue() == ""


def test_snakemakes_own_loggers_hear_everything(tmp_path, monkeypatch):
    """Only its default stream is told less; a plugin's handler is left alone."""
    from snakemake.logging import logger
    from snakemake.settings.enums import Quietness

    default, plugin = logging.StreamHandler(io.StringIO()), logging.StreamHandler(io.StringIO())
    default.name = "DefaultStreamHandler"
    monkeypatch.setattr(logger, "handlers", [default, plugin])
    listen({Quietness.RULES}, str(tmp_path / "plan.json"), str(tmp_path / "run.log"))
    record = logging.LogRecord("snakemake", logging.INFO, "", 0, "Execute 1 jobs...", (), None)
    record.event = "job_started"
    assert (bool(default.filter(record)), bool(plugin.filter(record))) == (False, True)
    record.event = None
    assert default.filter(record)
