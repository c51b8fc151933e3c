"""Where a server's CPU goes, by sampling its stacks with `perf` while it is measured."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from . import perf_categories

# Above the 99 to 499 that is usual, since a point is short: a sampled share needs hundreds of samples.
FREQUENCY_HZ = 1999
_TIMEOUT_S = 20.0
_NO_KERNEL = "perf may not sample the kernel (kernel.perf_event_paranoid); run as root or lower it to 1"
_FIELDS = "period,event,ip,sym,dso"


@cache
def why_not() -> str | None:
    """None when perf can sample another process here, else the reason, in one line. Probed once."""
    if shutil.which("perf") is None:
        return "perf is not installed"
    with tempfile.TemporaryDirectory(prefix="hyperkv-") as folder:
        command = ["perf", "record", *_options(Path(folder) / "probe"), "-p", str(os.getpid()), "--", "true"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"perf does not run: {error}"
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return f"perf may not sample: {lines[0] if lines else f'status {done.returncode}'}"
    return None


class Sampler:
    """perf on one process between `start` and `stop`. One that cannot be has `shares` None and a `reason`."""

    def __init__(self, pid: int):
        self.shares: dict[str, float] | None = None
        self.samples = 0
        self.reason = why_not()
        self._pid = pid
        self._perf: subprocess.Popen | None = None
        self._folder = ""

    def start(self) -> None:
        """Attach, and return when samples are being taken."""
        if self.reason is not None:
            return
        self._folder = tempfile.mkdtemp(prefix="hyperkv-")
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        command = ["perf", "record", *_options(self._data), "-p", str(self._pid)]
        command += ["--delay", "-1", "--control", f"fd:{orders},{answers}"]
        try:
            self._perf = subprocess.Popen(
                command,
                pass_fds=(orders, answers),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(orders)
            os.close(answers)
        self._say("enable")

    def stop(self) -> None:
        """End sampling and fill in `shares`."""
        if self._perf is None:
            return
        self._say("disable")
        try:
            self._perf.send_signal(signal.SIGINT)
            self._perf.wait(_TIMEOUT_S)
            if self.reason is None:
                text = _script(self._data)
                self.samples = sum(1 for _ in perf_categories.samples(text))
                self.shares = None if perf_categories.user_only(text) else perf_categories.shares(text)
                self.reason = None if self.shares else _NO_KERNEL if self.samples else "perf took no sample"
        except (OSError, subprocess.SubprocessError) as error:
            self.reason = f"perf failed: {error}"
        finally:
            self.close()

    def close(self) -> None:
        """End perf whatever state it is in, and remove its files."""
        if self._perf is not None:
            self._perf.kill()
            self._perf.wait()
            self._perf = None
            os.close(self._orders)
            os.close(self._answers)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return Path(self._folder) / "perf.data"

    def _say(self, order: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, f"{order}\n".encode())
        ready, _, _ = select.select([self._answers], [], [], _TIMEOUT_S)
        if not ready or b"ack" not in os.read(self._answers, 64):
            self.reason = f"perf did not answer to {order}"


def _options(data: Path) -> list[str]:
    """Frame-pointer call graphs into `data`; no build ids, since the programs are still there when it is read.

    Without events of BPF programs, whose thread takes half a second to end.
    """
    return ["-q", "-g", "-F", str(FREQUENCY_HZ), "-B", "-N", "--no-bpf-event", "-o", str(data)]


def _script(data: Path) -> str:
    command = ["perf", "script", "-i", str(data), "--no-inline", "-F", _FIELDS]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
