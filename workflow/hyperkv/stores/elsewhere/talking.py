"""A process that answers each line on its stdin by one on its stdout."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from typing import ClassVar

from ...base.errors import StoreError
from ...machine.processes import OwnedProcess


class TalkingProcess(OwnedProcess):
    """The log receives its stderr."""

    stdin: ClassVar[int] = subprocess.PIPE
    stdout: ClassVar[int | None] = subprocess.PIPE
    _said = b""

    def ask(self, line: str, timeout_s: float) -> str:
        """The line with which it answers `line`. Raises StoreError when it has ended, or does not answer in time."""
        process = self._process
        if process is None or process.stdin is None:
            raise StoreError(f"{self.label} is not there any more")
        with contextlib.suppress(OSError):  # it has ended, which reading tells
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        return self.next_line(timeout_s)

    def next_line(self, timeout_s: float) -> str:
        """What it says next on stdout. Raises StoreError."""
        assert self._process is not None
        assert self._process.stdout is not None
        stdout, deadline, poll = self._process.stdout.fileno(), time.monotonic() + timeout_s, select.poll()
        poll.register(stdout, select.POLLIN)
        while b"\n" not in self._said:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise StoreError(f"{self.label} did not answer within {timeout_s:.0f} s: {self.last_line()}")
            if not (read := os.read(stdout, 1 << 16)):
                raise StoreError(f"{self.label} has ended: {self.last_line()}")
            self._said += read
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def hang_up(self, timeout_s: float) -> None:
        """End its stdin, and wait for its end so long at most."""
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def stop(self, timeout_s: float = 15.0) -> None:
        process = self._process
        super().stop(timeout_s)
        for pipe in () if process is None else (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
