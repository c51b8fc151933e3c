"""How far a run is, in one line that stays below what Snakemake says: steps, stage, cell, time left; and in a log file."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from ..sweep.progress import time_left

SECONDS_BETWEEN_LINES = 30  # where the line cannot be written over
SECONDS_BETWEEN_STAGES = 5
REFRESH_S = 1
_SNAKEMAKES = "DefaultStreamHandler"
_REPLACED = ("run_info", "job_started", "job_finished", "progress")
_SELECTING = "Select jobs to execute..."


class StatusLine(logging.Handler):
    """Hears Snakemake's events and says how far the run is.

    plan: the sweep's count of cells (sweep.progress). log: a file that gets a line with every finished job. On a terminal the
    line is written over; elsewhere it comes when the stage changes, though not within 5 s, and else once in 30 s.
    """

    def __init__(self, plan: Path, log: Path, stream: TextIO, clock: Callable[[], float] = time.monotonic):
        super().__init__(logging.INFO)
        self._plan, self._log, self._stream, self._clock = plan, log, stream, clock
        self._left: Counter[str] = Counter()  # jobs by rule
        self._done = self._all = 0
        self._running: dict[Any, tuple[str, float]] = {}  # rule and start by job
        self._took: dict[str, list[float]] = {}  # seconds by rule
        self._stage = self._said_stage = ""
        self._said_at = float("-inf")
        self._shown = stream.isatty()

    def emit(self, record: logging.LogRecord) -> None:
        """Count what the event says and show the line."""
        event = str(getattr(record, "event", ""))
        if event == "run_info":
            stats = {rule: count for rule, count in vars(record)["stats"].items() if rule != "total"}
            self._left, self._all, self._done = Counter(stats), sum(stats.values()), 0
            self._begin_log()
        elif event == "job_info":
            self._running[vars(record)["jobid"]] = (vars(record)["rule_name"], self._clock())
            self._stage = _stage_of(vars(record).get("output") or []) or self._stage
        elif event == "job_finished" and (job := self._running.pop(vars(record)["job_id"], None)):
            self._took.setdefault(job[0], []).append(self._clock() - job[1])
            self._left[job[0]] -= 1
            self._done += 1
            self._write_log(job[0])
        else:
            return
        self.show()

    def line(self) -> str:
        """'hyperkv: 12 of 80 steps · sweep: cell 3 of 51 · about 2 min left', without what is not known yet."""
        parts = [f"{self._done} of {self._all} steps"]
        if self._stage:
            cells = self._cells() if self._stage == "sweep" else ""
            parts.append(f"{self._stage}: {cells}" if cells else self._stage)
        if (seconds := self.left_s()) is not None:
            parts.append(time_left(seconds))
        return "hyperkv: " + " · ".join(parts)

    def left_s(self) -> float | None:
        """Seconds that the jobs left take: each as long as its rule's until now, as all jobs where none has ended yet."""
        every = [seconds for took in self._took.values() for seconds in took]
        if not every:
            return None
        return sum(
            count * fmean(self._took.get(rule) or every) for rule, count in self._left.items() if count > 0
        )

    def show(self) -> None:
        """Write the line: over the one before on a terminal, else when it is due."""
        if not self._all:
            return
        now = self._clock()
        with contextlib.suppress(OSError, ValueError):
            if self._shown:
                width = shutil.get_terminal_size().columns - 1
                self._stream.write(f"{self.line()[:width]}\x1b[K\r")
            elif now - self._said_at >= (
                SECONDS_BETWEEN_LINES if self._stage == self._said_stage else SECONDS_BETWEEN_STAGES
            ):
                self._stream.write(f"{self.line()}\n")
                self._said_stage, self._said_at = self._stage, now
            self._stream.flush()

    def end(self) -> None:
        """Leave the terminal's line empty."""
        if self._shown and self._all:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write("\x1b[K")
                self._stream.flush()

    def keep_fresh(self) -> None:
        """Show the line again every second, for cells that are measured within one job; on a terminal only."""
        if self._shown:
            threading.Thread(target=self._refresh, daemon=True).start()

    def _refresh(self) -> None:
        while True:
            time.sleep(REFRESH_S)
            with self.lock or contextlib.nullcontext():
                self.show()

    def _cells(self) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            plan = json.loads(self._plan.read_text())
            return f"cell {min(plan['done'] + 1, plan['cells'])} of {plan['cells']}"
        return ""

    def _begin_log(self) -> None:
        with contextlib.suppress(OSError):
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._log.write_text("")

    def _write_log(self, rule: str) -> None:
        with contextlib.suppress(OSError), self._log.open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {self.line()} · made: {rule}\n")


def listen(quiet: Collection[Any] | None, plan: str, log: str) -> None:
    """Show the line from now on. quiet: what Snakemake is not to say; with rules among it the line is all that is said of jobs."""
    from snakemake.logging import logger
    from snakemake.settings.enums import Quietness

    status = StatusLine(Path(plan), Path(log), sys.stderr)
    told = quiet or ()
    if Quietness.RULES in told:
        for handler in logger.handlers:
            if handler.name == _SNAKEMAKES:
                handler.addFilter(_is_not_of_jobs)
    if Quietness.ALL not in told:
        logger.addHandler(status)
        status.keep_fresh()
        atexit.register(status.end)


def _is_not_of_jobs(record: logging.LogRecord) -> bool:
    return str(getattr(record, "event", "")) not in _REPLACED and record.getMessage() != _SELECTING


def _stage_of(output: Collection[str]) -> str:
    """'sweep' of results/sweep/…."""
    for path in output:
        parts = Path(path).parts
        if len(parts) > 2 and parts[0] == "results":
            return parts[1]
    return ""
