"""The soak's command line.

    python -m tests.soak [all | stores | workflow] [--minutes 60] [--seed N] [--round N] [--kills N]

`stores` kills stores and judges every byte that is read; `workflow` disturbs runs of the workflow and holds what they
leave against what was asked. With `all` the two share the time. Exit status: 0, 1 when something was found, 2 for a
wrong option, 130 when interrupted. Everything that is random comes from the seed; what is found is printed with the
command that repeats its round.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.faults import FAULTS
from tests.soak.report import Report, say
from tests.soak.stores import soak_stores, subjects
from tests.soak.workflow import soak_workflow


def main() -> int:
    """Parse the command line and soak."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("half", nargs="?", default="all", choices=["all", "stores", "workflow"])
    parser.add_argument("--minutes", type=float, default=60.0, help="time for all rounds; default 60")
    parser.add_argument(
        "--seed", type=int, default=None, help="a number; without one it is drawn, and printed"
    )
    parser.add_argument("--round", type=int, default=None, help="repeat this round alone; name its half, too")
    parser.add_argument(
        "--kills", type=int, default=None, help="half stores ends after so many SIGKILLs instead of its time"
    )
    parser.add_argument(
        "--fault",
        default="",
        help="only rounds whose fault, or whose store and client, have this in their name",
    )
    parser.add_argument(
        "--kvrocks", type=Path, default=_program("KVROCKS_BIN", "results/build/kvrocks/kvrocks", "kvrocks")
    )
    parser.add_argument(
        "--kvrocks-patched",
        type=Path,
        default=_program("KVROCKS_PATCHED_BIN", "results/build/kvrocks-patched/kvrocks", None),
        help="with its record beside it; default $KVROCKS_PATCHED_BIN, or what make kvrocks-patched built",
    )
    parser.add_argument(
        "--dir", type=Path, default=None, help="folder for everything; default a temporary one"
    )
    parser.add_argument("--keep", action="store_true", help="leave the folders of rounds with findings")
    arguments = parser.parse_args()
    if arguments.round is not None and (arguments.half == "all" or arguments.seed is None):
        parser.error("--round needs --seed and the half, stores or workflow")
    names = [*FAULTS] if arguments.half == "workflow" else [*map(str, subjects(Path(), Path(), True))]
    if arguments.fault and (arguments.half == "all" or not any(arguments.fault in name for name in names)):
        parser.error(f"--fault needs the half, stores or workflow; its names are {', '.join(names)}")
    for program in (arguments.kvrocks, arguments.kvrocks_patched):
        if program is not None and not os.access(program, os.X_OK):
            parser.error(f"{program} is not a program")
    report = Report(random.SystemRandom().randrange(1 << 16) if arguments.seed is None else arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="hyperkv-soak-", dir=arguments.dir)).resolve()
    say(f"soak · seed {report.seed} · {arguments.half} · {arguments.minutes:g} minutes · {folder}")
    interrupted = False
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        _soak(arguments, report, folder)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if not (arguments.keep and report.findings):
            shutil.rmtree(folder, ignore_errors=True)
        say("\n".join(report.summary()))
    return 130 if interrupted else int(bool(report.findings))


def _soak(arguments: argparse.Namespace, report: Report, folder: Path) -> None:
    seconds = arguments.minutes * 60
    begun = time.monotonic()
    if arguments.half != "workflow":
        share = seconds if arguments.half == "stores" else seconds / 2
        soak_stores(
            report,
            folder / "stores",
            share,
            arguments.kills,
            arguments.round,
            arguments.fault,
            arguments.kvrocks,
            arguments.kvrocks_patched,
        )
    if arguments.half != "stores":
        left = max(seconds / 2, seconds - (time.monotonic() - begun)) if arguments.half == "all" else seconds
        soak_workflow(
            report,
            folder / "workflow",
            left,
            arguments.round,
            arguments.fault,
            arguments.keep,
            arguments.kvrocks,
        )


def _program(variable: str, built: str, on_path: str | None) -> Path | None:
    if named := os.environ.get(variable):
        return Path(named)
    if Path(built).exists():
        return Path(built)
    found = on_path and shutil.which(on_path)
    return Path(found) if found else None


if __name__ == "__main__":
    sys.exit(main())
