"""What a measurement took: CPU time of a process's threads, finely enough for a transfer of milliseconds, and the machine's energy."""

from __future__ import annotations

import importlib
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from .watch import every

POWERCAP = Path("/sys/class/powercap")
_EVERY_S = 1.0


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


@dataclass(frozen=True)
class Energy:
    """Joules of a time. cpu: of all CPU packages and the memory that they count (RAPL). gpu: of the GPUs in use, their memory
    included (NVML). None for what this machine or this user is not told."""

    cpu: float | None = None
    gpu: float | None = None


class EnergyMeter:
    """Reads the machine's counters of energy every second; `between` is what was used from one time of time.time() to another."""

    def __init__(self, rapl: Rapl, gpus: Gpus):
        self._rapl, self._gpus = rapl, gpus
        self._read: list[tuple[float, float | None, float | None]] = []

    def read(self) -> None:
        self._read.append((time.time(), self._rapl.joules(), self._gpus.joules()))

    def between(self, begin_s: float, end_s: float) -> Energy:
        """Between two times, the counters taken to rise evenly from reading to reading."""
        return Energy(*(self._used(column, begin_s, end_s) for column in (1, 2)))

    def _used(self, column: int, begin_s: float, end_s: float) -> float | None:
        found = [(each[0], each[column]) for each in self._read]
        known = [(at, joules) for at, joules in found if joules is not None]
        if len(known) < len(found) or len(known) < 2:
            return None
        return _at(known, end_s) - _at(known, begin_s)


@contextmanager
def energy_metered(gpus: int, visible: str | None, powercap: Path = POWERCAP) -> Iterator[EnergyMeter]:
    """A meter that reads while the block runs. gpus: how many are in use, the first of those in `visible` (CUDA_VISIBLE_DEVICES)."""
    with Gpus(gpus, visible) as used:
        meter = EnergyMeter(Rapl(powercap), used)
        meter.read()
        with every(_EVERY_S, meter.read):
            yield meter
        meter.read()


class Rapl:
    """Energy of the CPU packages, and of memory where it is counted beside them: Linux's powercap, which root may read.

    Source: Documentation/power/powercap/powercap.rst. A counter begins again at its max_energy_range_uj, minutes apart under load.
    """

    def __init__(self, powercap: Path = POWERCAP):
        self._zones = [
            zone
            for zone in sorted(powercap.glob("intel-rapl:*"))
            if _text(zone / "name").startswith(("package", "dram"))
        ]
        self._last: dict[Path, int] = {}
        self._joules = 0.0

    def joules(self) -> float | None:
        """Since the first call; None without a zone, and where one cannot be read."""
        try:
            for zone in self._zones:
                now = int((zone / "energy_uj").read_text())
                used = now - self._last.get(zone, now)
                if used < 0:
                    used += int((zone / "max_energy_range_uj").read_text())
                self._last[zone] = now
                self._joules += used / 1e6
        except (OSError, ValueError):
            self._zones = []
        return self._joules if self._zones else None


class Gpus:
    """Energy of GPUs since their driver was loaded, as NVML counts it. A context manager."""

    def __init__(self, count: int, visible: str | None):
        self._count = count
        self._named = [] if visible is None else [word.strip() for word in visible.split(",")]
        self._nvml: Any = None
        self._handles: list[Any] = []

    def __enter__(self) -> Gpus:
        if self._count:
            try:
                self._nvml = importlib.import_module("pynvml")
                self._nvml.nvmlInit()
                self._handles = [self._handle(number) for number in range(self._count)]
            except Exception:  # no package, no driver, a GPU by a name that NVML does not know
                self._handles = []
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles:
            self._nvml.nvmlShutdown()

    def _handle(self, number: int) -> Any:
        name = self._named[number] if self._named else str(number)
        if name.isdigit():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(name))
        return self._nvml.nvmlDeviceGetHandleByUUID(name)

    def joules(self) -> float | None:
        """None where NVML does not tell of every GPU in use."""
        try:
            told = [self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in self._handles]
        except Exception:  # NVMLError of whatever kind, such as a GPU before Volta
            return None
        return sum(told) / 1e3 if told else None


def _at(readings: list[tuple[float, float]], at_s: float) -> float:
    times, joules = zip(*readings, strict=True)
    return float(np.interp(at_s, times, joules))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
