"""Who of a process's threads used its CPU time, finely enough for a transfer of milliseconds."""

from __future__ import annotations

from collections import defaultdict
from operator import itemgetter
from pathlib import Path


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
