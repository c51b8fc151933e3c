"""The soak's command line: `python -m tests.soak --help`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import cyclopts

from tests.soak.faults import FAULTS
from tests.soak.report import Chosen, Report, say
from tests.soak.stores import soak_stores, subjects
from tests.soak.workflow import soak_workflow


def _program(variable: str, built: str, on_path: str = "") -> Path | None:
    if named := os.environ.get(variable):
        return Path(named)
    if Path(built).exists():
        return Path(built)
    found = shutil.which(on_path) if on_path else None
    return Path(found) if found else None


def _wrong(line: str) -> int:
    print(f"python -m tests.soak: error: {line}", file=sys.stderr)
    return 2


def soak(
    half: Literal["all", "stores", "workflow"] = "all",
    *,
    minutes: float = 60.0,
    seed: int | None = None,
    round: int | None = None,
    kills: int | None = None,
    fault: str = "",
    kvrocks: Path | None = None,
    kvrocks_patched: Path | None = None,
    dir: Path | None = None,
    keep: bool = False,
) -> int:
    """Kill stores and judge every byte that is read (`stores`); disturb runs and hold what they leave against what was
    asked (`workflow`). Exit status: 0, 1 when something was found, 2 for a wrong option, 130 when interrupted.

    Parameters
    ----------
    half
        with `all` the two share the time
    minutes
        time for all rounds
    seed
        decides everything that is random; without one it is drawn, and printed
    round
        repeat this round alone; name its half and seed, too
    kills
        half `stores` ends after so many SIGKILLs instead of its time
    fault
        only rounds whose fault, or whose store and client, have this in their name
    kvrocks
        a program; default $KVROCKS_BIN, what `make kvrocks` built, or the one on PATH
    kvrocks_patched
        with its record beside it; default $KVROCKS_PATCHED_BIN, or what `make kvrocks-patched` built
    dir
        folder for everything; default a temporary one
    keep
        leave the folders of rounds with findings
    """
    names = [*FAULTS] if half == "workflow" else [*map(str, subjects(Path(), Path(), True))]
    if round is not None and (half == "all" or seed is None):
        return _wrong("--round needs --seed and the half, stores or workflow")
    if fault and (half == "all" or not any(fault in name for name in names)):
        return _wrong(f"--fault needs the half, stores or workflow; its names are {', '.join(names)}")
    kvrocks = kvrocks or _program("KVROCKS_BIN", "results/build/kvrocks/kvrocks", "kvrocks")
    kvrocks_patched = kvrocks_patched or _program(
        "KVROCKS_PATCHED_BIN", "results/build/kvrocks-patched/kvrocks"
    )
    for program in filter(None, (kvrocks, kvrocks_patched)):
        if not os.access(program, os.X_OK):
            return _wrong(f"{program} is not a program")
    chosen = Chosen(round, kills, fault, keep, kvrocks, kvrocks_patched)
    report = Report(random.SystemRandom().randrange(1 << 16) if seed is None else seed)
    folder = Path(tempfile.mkdtemp(prefix="hyperkv-soak-", dir=dir)).resolve()
    say(f"soak · seed {report.seed} · {half} · {minutes:g} minutes · {folder}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    begun, seconds = time.monotonic(), minutes * 60
    try:
        if half != "workflow":
            soak_stores(report, folder / "stores", seconds if half == "stores" else seconds / 2, chosen)
        if half != "stores":
            soak_workflow(report, folder / "workflow", begun + seconds - time.monotonic(), chosen)
    except KeyboardInterrupt:
        return 130
    finally:
        if not (keep and report.findings):
            shutil.rmtree(folder, ignore_errors=True)
        say("\n".join(report.summary()))
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(cyclopts.App(name="python -m tests.soak", default_command=soak)())
