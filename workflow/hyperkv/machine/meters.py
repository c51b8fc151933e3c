"""What a process has used, finely enough for a transfer of milliseconds; and who of its threads used it."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from .counters import process_counters

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Usage:
    """Totals of one process: CPU seconds (user and system, nanosecond steps) and page faults. None: not told."""

    cpu_s: float | None
    page_faults: int | None

    def minus(self, earlier: Usage) -> tuple[float | None, int | None]:
        """CPU seconds and page faults since an earlier reading."""
        return _less(self.cpu_s, earlier.cpu_s), _less(self.page_faults, earlier.page_faults)


def usage(pid: int) -> Usage:
    """Read a process's totals; None for what is not told, such as of a process that is gone."""
    found = process_counters(pid)
    return Usage(found.cpu_s, found.page_faults)


def thread_cpu_s(pid: int) -> dict[int, tuple[str, float]]:
    """Name and CPU seconds of every thread of a process, by thread id, from /proc/PID/task/*/schedstat."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            spent_ns = int((task / "schedstat").read_text().split()[0])
            found[int(task.name)] = ((task / "comm").read_text().strip(), spent_ns / 1e9)
        except (OSError, IndexError, ValueError):
            continue
    return found


def threads_since(pid: int, earlier: dict[int, tuple[str, float]]) -> dict[str, float]:
    """CPU seconds by thread name since an earlier `thread_cpu_s`; threads of one name together, idle ones left out."""
    spent: defaultdict[str, float] = defaultdict(float)
    for thread, (name, cpu_s) in thread_cpu_s(pid).items():
        spent[name] += cpu_s - earlier.get(thread, (name, 0.0))[1]
    most_first = sorted(spent.items(), key=itemgetter(1), reverse=True)
    return {name: cpu_s for name, cpu_s in most_first if cpu_s > 0}


def own_usage() -> Usage:
    """This process's totals."""
    return usage(os.getpid())


def _less(now: Number | None, then: Number | None) -> Number | None:
    return None if now is None or then is None else now - then
