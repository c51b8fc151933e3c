"""What is done to a run of the workflow, and to what it leaves: each fault by its name, all random from one generator."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.soak import machine
from tests.soak.checkout import Checkout

if TYPE_CHECKING:
    from tests.soak.workflow import Scene

Fault = Callable[["Scene"], None]
DAMAGES = ("truncate", "empty", "flip", "append", "repeat a line", "delete", "not UTF-8")
_SERVERS = ("valkey", "rocksdb.server", "null_server", "kvrocks")
_DISK_MIB = 256
_FILE_BYTES = 8192


def damage(path: Path, kind: str, rng: random.Random) -> None:
    """Change a file as a broken disk, an editor or a half copy would. An empty one is deleted by every kind but `append`."""
    whole = path.read_bytes()
    if kind == "append":
        path.write_bytes(whole + b'{"a": 1}\nrubbish\n')
    elif kind == "delete" or not whole:
        path.unlink()
    elif kind == "truncate":
        path.write_bytes(whole[: rng.randrange(len(whole))])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "flip":
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
    elif kind == "not UTF-8":
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + b"\xff\xfe\x80" + whole[place:])
    else:
        lines = whole.splitlines(keepends=True)
        place = rng.randrange(len(lines))
        path.write_bytes(b"".join([*lines[: place + 1], *lines[place:]]))


def stages(checkout: Checkout) -> list[psutil.Process]:
    """Running stages of a checkout: `python -m workflow.hyperkv.…`, servers apart."""
    return [
        process
        for process, command in _commands(checkout)
        if "-m workflow.hyperkv." in command and ".stores." not in command and not _is_shell(command)
    ]


def shells(checkout: Checkout) -> list[psutil.Process]:
    """The shells between snakemake and its stages."""
    return [process for process, command in _commands(checkout) if _is_shell(command)]


def servers(checkout: Checkout) -> list[psutil.Process]:
    """Running servers of a checkout's stores."""
    return [
        process
        for process, command in _commands(checkout)
        if any(word in command for word in _SERVERS) and "--spec" not in command
    ]


def _commands(checkout: Checkout) -> list[tuple[psutil.Process, str]]:
    found = []
    for process in checkout.processes():
        with contextlib.suppress(psutil.Error):
            found.append((process, " ".join(process.cmdline())))
    return found


def _is_shell(command: str) -> bool:
    return os.path.basename(command.split(" ", 1)[0]) in ("bash", "sh") and "workflow.hyperkv" in command


# A run that is disturbed


def _signalled(number: int, group: bool) -> Fault:
    def fault(scene: Scene) -> None:
        run = scene.run_at_work()
        run.signal(number, group)
        scene.see_end(run)

    return fault


def _hung_up(scene: Scene) -> None:
    run = scene.run_at_work(terminal=True)
    run.hang_up()
    scene.see_end(run)


def _target_killed(find: Callable[[Checkout], list[psutil.Process]], number: int) -> Fault:
    def fault(scene: Scene) -> None:
        scene.make_work()
        run = scene.checkout.start()
        found: list[psutil.Process] = []
        deadline = time.monotonic() + 90
        skipped = scene.rng.randrange(4)
        seen: set[int] = set()
        while run.running and time.monotonic() < deadline:
            found = find(scene.checkout)
            seen |= {process.pid for process in found}
            if found and len(seen) > skipped:
                break
            time.sleep(0.01)
        time.sleep(scene.rng.random() * 0.3)
        scene.remember()
        for process in found[:1]:
            with contextlib.suppress(psutil.Error):
                scene.say(" ".join(process.cmdline()[:4]).strip()[-50:])
                process.send_signal(number)
        scene.see_end(run)

    return fault


# Two at once


def _two_runs(scene: Scene) -> None:
    scene.make_work()
    first = scene.checkout.start()
    time.sleep(scene.rng.random() * 12)
    second = scene.checkout.start()
    for run in (first, second):
        run.wait(300)
    for run in (first, second):
        scene.see_end(run)


def _shared_data_dir(scene: Scene) -> None:
    shared = scene.folder / "shared"
    shared.mkdir()
    other = scene.another_checkout()
    scene.config["data_dir"] = str(shared)
    scene.must_be_empty.append(shared)
    for checkout in (scene.checkout, other):
        checkout.configure(scene.config)
    first = scene.checkout.start()
    time.sleep(scene.rng.random() * 6)
    second = other.start()
    for run in (first, second):
        run.wait(300)
    for run in (first, second):
        scene.see_end(run)
    scene.settle(other)
    scene.hold(other)


# A disk that is full, or refuses


def _full_disk(scene: Scene) -> None:
    scene.make_work()
    if machine.can_mount():
        results, aside = scene.checkout.results, scene.folder / "aside"
        results.rename(aside)
        scene.stack.enter_context(machine.small_disk(results, _DISK_MIB))
        shutil.copytree(aside, results, symlinks=True, dirs_exist_ok=True)
        run = scene.run_at_work(work=False)
        filler = machine.fill(results)
    else:
        run, filler = scene.run_at_work(work=False, file_bytes=_FILE_BYTES), None
    scene.see_end(run)
    if filler is not None:
        filler.unlink()


def _read_only_results(scene: Scene) -> None:
    scene.make_work()
    results = scene.checkout.results
    if machine.can_mount():
        run = scene.run_at_work(work=False) if scene.rng.random() < 0.5 else None
        machine.mount("--bind", str(results), str(results))
        scene.stack.callback(machine.unmount, results)
        machine.mount("-o", "remount,ro,bind", str(results))
        scene.see_end(run or scene.checkout.start())
        machine.unmount(results)
        return
    modes = {path: path.stat().st_mode for path in [results, *results.rglob("*")] if path.is_dir()}
    for path in modes:
        path.chmod(0o500)
    scene.see_end(scene.checkout.start())
    for path, mode in modes.items():
        path.chmod(mode)


# Damaged files


def _damaged(pattern: str, *kinds: str) -> Fault:
    def fault(scene: Scene) -> None:
        folder = scene.checkout.folder
        found = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
        paths = [path for path in found if not {"reference", ".snakemake_timestamp"} & {*path.parts}]
        scene.remember()
        for path in scene.rng.sample(paths, min(len(paths), scene.rng.choice([1, 1, 2]))):
            kind = scene.rng.choice(kinds or DAMAGES)
            scene.say(f"{kind} {_named(path, folder)}")
            scene.damage(path, kind)

    return fault


def _named(path: Path, folder: Path) -> str:
    """A file's path, of Snakemake's metadata that of the output that it is about."""
    if path.parent.name != "metadata":
        return str(path.relative_to(folder))
    return f"metadata of {base64.b64decode(path.name).decode(errors='replace')}"


def _damaged_partial(scene: Scene) -> None:
    """A run is killed when a partial file has a line, and the file is damaged; one is made up when none was seen."""
    scene.make_work()
    run = scene.checkout.start()
    deadline = time.monotonic() + 60
    partial = None
    while run.running and partial is None and time.monotonic() < deadline:
        found = [
            path for path in scene.checkout.results.glob("sweep/*/*.partial") if path.stat().st_size > 100
        ]
        partial = scene.rng.choice(found) if found else None
        time.sleep(0.003)
    run.signal(signal.SIGKILL, True)
    scene.see_end(run)
    kind = scene.rng.choice(DAMAGES)
    if partial is None or not partial.exists():
        name = scene.rng.choice([*scene.asked.scenarios])
        partial = scene.checkout.results / "sweep" / name / "1.jsonl.partial"
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.with_suffix("").unlink(missing_ok=True)
        partial.write_bytes(
            scene.rng.choice([b"\xff\xfe\x00\n", b"[1]\n", b"{}\n", b'{"key": 1}\n', b"null\n"])
        )
        kind = "made up"
    else:
        scene.damage(partial, kind)
    scene.may_change(partial.with_suffix(""))
    scene.say(f"{kind} {partial.relative_to(scene.checkout.folder)}")
    scene.damaged = True


def _planted(scene: Scene) -> None:
    """Locks and marks of incomplete files as a machine that was switched off leaves them."""
    store = scene.checkout.folder / ".snakemake"
    chosen = scene.rng.sample(sorted(scene.checkout.results.glob("sweep/*/*.jsonl")), 3)
    names = [str(path.relative_to(scene.checkout.folder)) for path in chosen]
    scene.remember()
    if scene.rng.random() < 0.7:
        (store / "locks").mkdir(exist_ok=True)
        (store / "locks" / "0.output.lock").write_text("\n".join(names) + "\n")
        (store / "locks" / "0.input.lock").write_text("workflow/hyperkv/sweep/measure_scenario.py\n")
        scene.say("locks")
    if scene.rng.random() < 0.7:
        for path, name in zip(chosen, names, strict=True):
            mark = base64.b64encode(name.encode()).decode()
            (store / "incomplete" / mark).write_text('{"external_jobid": null}')
            scene.may_change(path)
        scene.say("incomplete marks")


# Records of another configuration


def _back_and_forth(scene: Scene) -> None:
    """Another workload and back, while Snakemake's own records are deleted: nothing of the other may be taken for this one."""
    first = scene.configuration()
    for name in scene.rng.choice([("metadata",), ("metadata", "incomplete", "locks"), ("",)]):
        shutil.rmtree(scene.checkout.folder / ".snakemake" / name, ignore_errors=True)
    scene.change_workload()
    scene.settle(scene.checkout)
    scene.hold(scene.checkout)
    shutil.rmtree(scene.checkout.folder / ".snakemake" / "metadata", ignore_errors=True)
    if scene.rng.random() < 0.5:
        shutil.rmtree(scene.checkout.results / "tables")
    scene.configure(first)


def _copied_results(scene: Scene) -> None:
    """Results of another configuration, copied from another checkout: without Snakemake's records."""
    shutil.rmtree(scene.checkout.folder / ".snakemake")
    scene.change_workload()
    for path in scene.checkout.results.rglob("*"):
        if scene.rng.random() < 0.5 and path.is_file():
            os.utime(path)


FAULTS: dict[str, Fault] = {
    **{
        f"{signal.Signals(number).name} {'to the group' if group else 'to snakemake'}": _signalled(
            number, group
        )
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for group in (False, True)
    },
    "terminal hung up": _hung_up,
    "SIGKILL to a stage": _target_killed(stages, signal.SIGKILL),
    "SIGTERM to a stage": _target_killed(stages, signal.SIGTERM),
    "SIGHUP to a stage": _target_killed(stages, signal.SIGHUP),
    "SIGKILL to a shell": _target_killed(shells, signal.SIGKILL),
    "SIGTERM to a shell": _target_killed(shells, signal.SIGTERM),
    "SIGKILL to a server": _target_killed(servers, signal.SIGKILL),
    "SIGTERM to a server": _target_killed(servers, signal.SIGTERM),
    "two runs at once": _two_runs,
    "a shared data_dir": _shared_data_dir,
    "full disk": _full_disk,
    "read-only results": _read_only_results,
    "damaged records of the sweep": _damaged("results/sweep/*/*.jsonl"),
    "damaged records of the profile": _damaged("results/profile/**/*.jsonl"),
    "damaged tables": _damaged("results/tables/*.*"),
    "deleted results": _damaged("results/[frt]*/**/*.*", "delete"),
    "damaged Snakemake metadata": _damaged(".snakemake/metadata/*"),
    "damaged partial file": _damaged_partial,
    "planted locks and marks": _planted,
    "another configuration and back": _back_and_forth,
    "copied results": _copied_results,
}
