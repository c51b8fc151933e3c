"""What tests of several folders share."""

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

from workflow.hyperkv.base.cli import call
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.record_file import Identity, write_records

T = TypeVar("T")


def eventually(poll: Callable[[], T], within_s: float = 60.0) -> T:
    """Poll until the value is true and return it, at first each 5 ms, then less often, since looking through all processes keeps a
    core busy. Raises AssertionError when that takes too long.
    """
    began = time.monotonic()
    while not (value := poll()):
        waited = time.monotonic() - began
        assert waited < within_s, f"not within {within_s} s"
        time.sleep(min(0.05, max(0.005, waited / 10)))
    return value


def hear_the_keyboard() -> None:
    """In a process that is to be started: undo that a shell has what it starts in the background ignore SIGINT and SIGQUIT."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def refused(words: str, error: type[Exception] = UserError) -> Iterator[None]:
    """The block raises the error with one line in which the regular expression is found."""
    with pytest.raises(error, match=words) as caught:
        yield
    assert "\n" not in str(caught.value)


def free_ports_in_a_row(count: int) -> int:
    """The first of so many free TCP ports on loopback, below those that the system gives to connections."""
    for port in random.sample(range(20000, 30000), 1000):
        with ExitStack() as stack, suppress(OSError):
            for number in range(count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
            return port
    raise AssertionError("no free ports")


@contextmanager
def mounted_tmpfs(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of its own at `folder`, which is made, or hidden by it. Skips the test where mounting is not permitted."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, timeout=10).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def command(module: ModuleType, *words: object) -> None:
    """Run a stage in this process, with a command line."""
    call(module.main, [str(word) for word in words])


def write_as_a_stage(path: Path, records: list[dict]) -> None:
    """A file of records with the closing line that a stage gives it."""
    write_records(
        path, [str(number) for number in range(len(records))], records, Identity("0" * 12, "0" * 12)
    )


def is_stopped(pid: int) -> bool:
    """Whether every thread has stopped: a signal reaches a busy one a moment later."""
    states = [
        task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return set(states) == {"T"}
