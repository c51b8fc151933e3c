"""Half `workflow`: runs that are disturbed, the same command again until it works, and what must hold then.

Every round begins with a copy of one finished checkout, so that it can be repeated by itself.
"""

from __future__ import annotations

import contextlib
import copy
import random
import re
import shutil
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.soak import invariants, machine
from tests.soak.checkout import Checkout, Run
from tests.soak.faults import FAULTS, damage, stages
from tests.soak.invariants import Asked, Cell
from tests.soak.report import Chosen, Finding, Report, Round
from tests.workflow_helpers import TINY

_TRIES = 5
_TRIES_ALIKE = 3
_RUN_S = 400
_LEFT_S = 45
_SCENARIOS = ("none", "dram", "files", "rocksdb_resp", "valkey_resp")
_CHANGEABLE = ("files", "rocksdb_resp", "valkey_resp")

# The smoke configuration's stages with as little to measure as keeps them all: sizes are bytes, so that records can be
# held against them as they are.
CONFIG: dict[str, Any] = {
    "workload": TINY["workload"],
    "replay": {"hbm_kv_bytes": 6 << 20},
    "evidence": {"device_share_min": 0},
    "scenarios": {
        "dram": {"chunk_tokens": 16, "dram_pool_bytes": 64 << 20},
        **{name: {"chunk_tokens": 16} for name in _CHANGEABLE},
    },
    "experiment": {"scenarios": [*_SCENARIOS], "loads": [1, 2], "active_conversations": 3, "repeats": 2},
    "profile": {
        "scenarios": ["valkey_resp"],
        "value_bytes": [262144],
        "point_bytes": 1 << 20,
        "repeats": 2,
    },
    **{section: TINY[section] for section in ("layers", "predict", "figures")},
}

# What a message may ask for, and how it is followed to the letter.
_DELETE = re.compile(r"(?:delete|remove|rm) (?:-\S+ )?`?(?P<path>[^\s`]*(?:results|\.snakemake)/[^\s`;,:]+)")
_DELETE_IT = re.compile(
    r"(?P<path>[^\s`]*(?:results|\.snakemake)/[^\s`;,:]+)[^\n]*; (?:delete|remove) (?:the file|it)\b"
)


def asked_of(config: Mapping[str, Any]) -> Asked:
    """What a configuration asks of the sweep."""
    experiment = config["experiment"]
    return Asked(
        {name: config["scenarios"].get(name, {}) for name in experiment["scenarios"]},
        experiment["loads"],
        experiment["repeats"],
        {"workload": config["workload"], "replay": config["replay"], "evidence": config["evidence"]},
        config.get("data_dir"),
    )


def remedies(output: str, folder: Path) -> list[Path]:
    """Files of the checkout that a message asks to delete."""
    named = [match["path"] for pattern in (_DELETE, _DELETE_IT) for match in pattern.finditer(output)]
    paths = [(folder / name.rstrip(".)'\"")).resolve() for name in dict.fromkeys(named)]
    return [path for path in paths if path.is_relative_to(folder.resolve()) and path.exists()]


class Scene:
    """One round: its checkout, what was asked of it, and what was found.

    damaged: files were changed by hand, so that a run may ask for something before it works. must_be_empty: folders in
    which nothing is to be left. itself: the original is the round's own checkout, instead of a copy.
    """

    def __init__(
        self,
        original: Checkout,
        folder: Path,
        rng: random.Random,
        config: Mapping[str, Any],
        itself: bool = False,
    ):
        self.rng, self.folder, self._original = rng, folder, original
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.stack = contextlib.ExitStack()
        self.damaged = False
        self.must_be_empty: list[Path] = []
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self._before: dict[Cell, dict[str, Any]] = {}
        self._changed: set[Path] = set()
        self._damaged_files: dict[Path, bytes | None] = {}
        self._checkouts: list[Checkout] = []
        self.checkout = original if itself else self.another_checkout()

    # What faults use

    def another_checkout(self) -> Checkout:
        """A further copy of the finished checkout."""
        number = len(self._checkouts)
        made = self._original.copied(self.folder / f"checkout-{number}", self.folder / f"scratch-{number}")
        self._checkouts.append(made)
        return made

    def say(self, note: str) -> None:
        """Something for the round's line."""
        self.notes.append(note)

    @property
    def asked(self) -> Asked:
        return asked_of(self.config)

    def configuration(self) -> dict[str, Any]:
        """The present configuration, to come back to."""
        return copy.deepcopy(self.config)

    def configure(self, config: Mapping[str, Any]) -> None:
        """Take another configuration; what was remembered of the last one counts no more."""
        self.config = copy.deepcopy(dict(config))
        self._before = {}
        for checkout in self._checkouts:
            checkout.configure(self.config)

    def change_workload(self) -> None:
        """Another workload: every cell is stale."""
        self.config["workload"]["user_tokens"] = [16, 24 + self.rng.randrange(1, 8)]
        self.configure(self.config)

    def make_work(self) -> None:
        """Delete or change something, so that a run has something to measure."""
        kind = self.rng.choices(["deleted", "changed", "more loads", "workload", "profile"], [5, 3, 1, 1, 1])[
            0
        ]
        self.say(kind)
        if kind == "deleted":
            for name in self.rng.sample(self.config["experiment"]["scenarios"], self.rng.choice([1, 2, 3])):
                shutil.rmtree(self.checkout.results / "sweep" / name, ignore_errors=True)
        elif kind == "changed":
            self.config["scenarios"][self.rng.choice(_CHANGEABLE)]["timeout_s"] = self.rng.choice([20, 25])
        elif kind == "more loads":
            self.config["experiment"]["loads"] = self.rng.choice([[1], [1, 2, 3]])
        elif kind == "workload":
            self.change_workload()
        else:
            self.config["profile"]["value_bytes"] = [131072]
            self.config["layers"]["value_bytes"] = [131072]
        self.checkout.configure(self.config)

    def run_at_work(self, work: bool = True, **options: Any) -> Run:
        """A run that has got somewhere: mostly a stage is running, else any moment."""
        if work:
            self.make_work()
        run = self.checkout.start(**options)
        if self.rng.random() < 0.3:
            run.wait(self.rng.random() * 25)
        else:
            wanted = self.rng.randrange(1, 8)
            seen: set[int] = set()
            deadline = time.monotonic() + 60
            while run.running and len(seen) < wanted and time.monotonic() < deadline:
                seen |= {process.pid for process in stages(self.checkout)}
                time.sleep(0.02)
            run.wait(self.rng.random())
        self.remember()
        return run

    def remember(self) -> None:
        """What is measured now, and as asked, is to be kept."""
        self._before |= invariants.measured(self.checkout.results, self.asked)

    def may_change(self, path: Path) -> None:
        """A file that was damaged, or marked as incomplete: its cells may be measured again."""
        self._changed.add(path)

    def damage(self, path: Path, kind: str) -> None:
        """Damage a file. A run may ask for something because of it, and must notice it when it is a result."""
        self.damaged = True
        self.may_change(path)
        damage(path, kind, self.rng)
        if path.is_relative_to(self.checkout.results) and path.suffix != ".partial":
            self._damaged_files[path] = path.read_bytes() if path.exists() else None

    def see_end(self, run: Run) -> int:
        """Wait for a run's end and hold what it left running and said; its exit status."""
        if not run.wait(_RUN_S):
            self._found("ends", f"it did not end within {_RUN_S} s: {run.output[-150:]}")
        if left := run.left(_LEFT_S):
            shown = "; ".join(machine.described(process) for process in left[:3])
            self._found("left", f"{len(left)} processes {_LEFT_S} s after the end: {shown}")
        status = run.end()
        self._extend(invariants.errors_are_lines(run.output, status, run.killed))
        return status

    # After the fault

    def settle(self, checkout: Checkout) -> None:
        """The same command until it succeeds. What a message asks for is done."""
        errors: list[str] = []
        while len(errors) < _TRIES and not (errors and errors[-_TRIES_ALIKE:] == [errors[-1]] * _TRIES_ALIKE):
            run = checkout.start()
            status = self.see_end(run)
            if status == 0:
                self.say(f"{len(errors) + 1} {'tries' if errors else 'try'}")
                return
            errors.append(_last_error(run.output))
            named = remedies(run.output, checkout.folder)
            if not named or not self.damaged:
                self._found("again", f"the same command did not work: {errors[-1]}")
            for path in named:
                self.say(f"deleted {path.name} as told")
                self._changed.add(path)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not named:
                self._unblock(checkout, run.output)
        self._found("again", f"it did not work {len(errors)} times: {errors[-1]}")

    def _unblock(self, checkout: Checkout, output: str) -> None:
        """Follow Snakemake's own advice, so that the round goes on; that it was needed is a finding already."""
        if "--unlock" in output or "--rerun-incomplete" in output:
            self.see_end(checkout.start("--unlock"))
        if "--rerun-incomplete" in output:
            self.see_end(checkout.start("--rerun-incomplete"))

    def hold(self, checkout: Checkout) -> None:
        """All invariants of a finished checkout."""
        results, asked = checkout.results, self.asked
        self._extend(invariants.of_checkout(checkout.folder, asked))
        for folder in (checkout.scratch, Path(self.config["layers"]["memory_dir"]), *self.must_be_empty):
            self._extend(invariants.folders_left(folder))
        if checkout is self.checkout:
            changed = {path.relative_to(results) for path in self._changed if path.is_relative_to(results)}
            kept = {
                cell: record
                for cell, record in self._before.items()
                if Path("sweep") / cell[0] / f"{cell[1]}.jsonl" not in changed
            }
            self._extend(invariants.noticed(self._damaged_files))
            self._extend(invariants.kept(kept, invariants.measured(results, asked)))

    def nothing_to_do(self) -> None:
        """A finished checkout has nothing more to do."""
        run = self.checkout.start("--dry-run")
        run.wait(120)
        run.end()
        if "Nothing to be done" not in run.output:
            self._found("settled", f"after a run that went well there is more to do: {run.output[-200:]}")

    def close(self) -> None:
        """End what is left of the round: processes, mounts."""
        for checkout in self._checkouts:
            machine.kill_all(checkout.processes())
        self.stack.close()
        for mount in machine.mounts_below(self.folder):
            self._found("left", f"a mount: {mount}")
            machine.unmount(Path(mount))

    def _found(self, invariant: str, text: str) -> None:
        self._extend([Finding(invariant, text)])

    def _extend(self, findings: list[Finding]) -> None:
        self.findings += [finding for finding in findings if finding not in self.findings]


def _last_error(output: str) -> str:
    """The last line that says what went wrong."""
    lines = [line.strip() for line in output.splitlines()]
    ours = [place for place, line in enumerate(lines) if "error:" in line or line.startswith("config:")]
    theirs = [place for place, line in enumerate(lines) if "Error" in line or "Exception" in line]
    for place in reversed(ours or theirs):
        return " ".join(lines[place : place + 2]) if lines[place].endswith(":") else lines[place]
    return output[-150:]


def soak_workflow(report: Report, folder: Path, seconds: float, chosen: Chosen) -> None:
    """Rounds until the time is over, each fault once in every turn, in an order of the seed."""
    folder.mkdir(parents=True)
    begun = time.monotonic()
    config = copy.deepcopy(CONFIG)
    if chosen.kvrocks is not None:
        config["kvrocks"] = {"source": "binary", "binary": str(chosen.kvrocks.resolve())}
        config["scenarios"]["kvrocks_resp"] = {"chunk_tokens": 16}
        config["experiment"]["scenarios"].append("kvrocks_resp")
    config["layers"]["memory_dir"] = f"/dev/shm/{folder.parent.name}"
    original = Checkout.cloned(folder / "original", folder / "scratch")
    try:
        original.configure(config)
        _first_run(report, original, config)
        only = chosen.round
        number = 1 if only is None else only
        while only is not None or time.monotonic() - begun < seconds:
            if only is not None or chosen.fault in _fault_of(report.seed, number):
                report.add(_round(report.seed, number, original, folder, config, chosen.keep))
            number += 1
            if only is not None:
                return
    finally:
        machine.kill_all(original.processes())
        shutil.rmtree(config["layers"]["memory_dir"], ignore_errors=True)


def _fault_of(seed: int, number: int) -> str:
    """The name of a round's fault; rounds count from 1."""
    turn, place = divmod(number - 1, len(FAULTS))
    return random.Random(f"{seed} workflow turn {turn}").sample([*FAULTS], len(FAULTS))[place]


def _first_run(report: Report, original: Checkout, config: Mapping[str, Any]) -> None:
    """The undisturbed run that all rounds begin from: round 0."""
    started = time.monotonic()
    scene = Scene(original, original.folder, random.Random(report.seed), config, itself=True)
    scene.settle(original)
    scene.hold(original)
    report.add(
        Round("workflow", 0, "no fault", scene.findings, ", ".join(scene.notes), time.monotonic() - started)
    )


def _round(
    seed: int, number: int, original: Checkout, folder: Path, config: Mapping[str, Any], keep: bool
) -> Round:
    started = time.monotonic()
    name = _fault_of(seed, number)
    rng = random.Random(f"{seed} workflow {number}")
    own = folder / f"round-{number}"
    scene = Scene(original, own, rng, config)
    try:
        FAULTS[name](scene)
        scene.remember()
        scene.settle(scene.checkout)
        scene.hold(scene.checkout)
        if rng.random() < 0.3:
            scene.nothing_to_do()
    except Exception as error:  # the next rounds are not to be lost by it
        scene.findings.append(Finding("soak", f"the round itself failed: {type(error).__name__}: {error}"))
        traceback.print_exc()
    finally:
        scene.close()
        if not (keep and scene.findings):
            shutil.rmtree(own, ignore_errors=True)
    return Round("workflow", number, name, scene.findings, ", ".join(scene.notes), time.monotonic() - started)
