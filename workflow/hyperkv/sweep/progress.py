"""How far a sweep is: one line per cell, with the cells done, all cells and the time left."""

from __future__ import annotations

import fcntl
import json
import sys
import time
from pathlib import Path
from typing import Any

from ..records.kinds.cell import Swept


def write_plan(path: str | Path, cells: int) -> None:
    """Start counting: `cells` are going to be measured from now on. Called once per run of the workflow."""
    plan = Path(path)
    plan.parent.mkdir(parents=True, exist_ok=True)
    plan.write_text(json.dumps({"cells": cells, "done": 0, "started": time.time()}))


class Progress:
    """A line per finished cell. The plan file is shared by all jobs of a run; without one, no totals."""

    def __init__(self, plan: Path, scenario: str, repeat: int):
        self._plan = plan
        self._label = f"{scenario} repeat {repeat}"
        self._load: Any = None

    def begin(self, load: Any) -> None:
        """The cell of this load starts."""
        self._load = load

    def end(self, record: Swept) -> None:
        """The cell is measured: count it and say so in the log, and on the terminal of an invalid one."""
        state = "" if record.valid else f" · INVALID: {'; '.join(record.reasons)}"
        line = f"{self._label} load {self._load}: {record.cell_s:.1f} s{state}"
        print(
            f"hyperkv sweep: {self._position()}{line}", file=sys.stdout if state else sys.stderr, flush=True
        )

    def _position(self) -> str:
        try:
            with self._plan.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                plan = json.load(file)
                plan["done"] += 1
                file.seek(0)
                json.dump(plan, file)
                file.truncate()
            return position(plan["done"], plan["cells"], time.time() - plan["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def position(done: int, cells: int, elapsed_s: float) -> str:
    """'cell 3 of 12, 25 %, about 2 min left · ' after `done` cells took `elapsed_s` seconds."""
    if done > cells:
        return ""
    return f"cell {done} of {cells}, {done / cells:.0%}, {time_left(elapsed_s / done * (cells - done))} · "


def time_left(seconds: float) -> str:
    """'about 90 s left', 'about 2 min left'."""
    return f"about {f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:.0f} min'} left"
