"""A checkout in which the workflow runs, and one run of it: started, watched, disturbed, and gone at the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import resource
import select
import shutil
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.soak import machine

REPOSITORY = Path(__file__).parents[2]
CONFIG = "soak.yaml"
_MARK = "HYPERKV_SOAK"
_OPTIONS = ["--cores", "all", "--keep-going", "--scheduler", "greedy", "--quiet", "rules", "host", "reason"]
_CONFIGS = ["--configfile", "config/scenarios.yaml", "config/config.yaml", CONFIG]
_LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__")


class Checkout:
    """A folder with the repository in it. scratch: its folder for temporary files, which is to be empty after a run."""

    def __init__(self, folder: Path, scratch: Path):
        self.folder, self.scratch = folder, scratch
        self.mark = f"{_MARK}={folder}"
        scratch.mkdir(parents=True, exist_ok=True)

    @classmethod
    def cloned(cls, folder: Path, scratch: Path) -> Checkout:
        """`git clone` of this repository, with what is changed in its working tree, and this one's environment."""
        git = ["git", "-c", "advice.detachedHead=false"]
        subprocess.run([*git, "clone", "-q", str(REPOSITORY), str(folder)], check=True, timeout=120)
        listing = [*git, "-C", str(REPOSITORY), "ls-files", "-mo", "--exclude-standard", "-z"]
        names = subprocess.run(listing, check=True, capture_output=True, text=True, timeout=30).stdout
        for name in filter(None, names.split("\0")):
            if (source := REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        (folder / ".venv").symlink_to((REPOSITORY / ".venv").resolve())
        return cls(folder, scratch)

    def copied(self, folder: Path, scratch: Path) -> Checkout:
        """Everything but git's own, results and Snakemake's records included."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=_LEFT_OUT)
        return Checkout(folder, scratch)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write what goes on top of the repository's own configuration."""
        (self.folder / CONFIG).write_text(yaml.safe_dump(dict(config)))

    def start(self, *arguments: str, terminal: bool = False, file_bytes: int | None = None) -> Run:
        """Snakemake as the Makefile calls it. terminal: with a terminal of its own, which can be hung up. file_bytes: the
        most that a file may have (RLIMIT_FSIZE)."""
        return Run(self, [*arguments, *_OPTIONS, *_CONFIGS], terminal, file_bytes)

    def processes(self) -> list[psutil.Process]:
        """What runs of this checkout."""
        return machine.processes_of(self.mark, [self.folder, self.scratch])


class Run:
    """One call of snakemake in a session of its own. Its output is collected in `output`."""

    def __init__(self, checkout: Checkout, arguments: list[str], terminal: bool, file_bytes: int | None):
        self.checkout = checkout
        self.killed = self._hung_up = False
        self._parts: list[bytes] = []
        bin_dir = (checkout.folder / ".venv" / "bin").resolve()
        dropped = ("PYTHONPATH", "VIRTUAL_ENV", "SNAKEMAKE_PROFILE", "SNAKEMAKE_OUTPUT_CACHE")
        name, _, value = checkout.mark.partition("=")
        environment = {key: text for key, text in os.environ.items() if key not in dropped} | {
            name: value,
            "PATH": f"{bin_dir}:{os.environ['PATH']}",
            "TMPDIR": str(checkout.scratch),
            "COLUMNS": "200",
            "TERM": "dumb",
        }
        if terminal:
            self._master, end = pty.openpty()
        else:
            self._master, end = os.pipe()
        self.process = subprocess.Popen(
            [str(bin_dir / "python"), "-m", "snakemake", *arguments],
            cwd=checkout.folder,
            env=environment,
            stdin=end if terminal else subprocess.DEVNULL,
            stdout=end,
            stderr=end,
            start_new_session=True,
            preexec_fn=lambda: _prepared(terminal, file_bytes),
        )
        os.close(end)
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        with contextlib.suppress(OSError):
            while not self._hung_up:
                ready, _, _ = select.select([self._master], [], [], 0.05)
                if ready and not (part := os.read(self._master, 1 << 16)):
                    return
                if ready:
                    self._parts.append(part)

    @property
    def output(self) -> str:
        """What both streams have said so far."""
        return b"".join(self._parts).decode(errors="replace").replace("\r\n", "\n")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def hang_up(self) -> None:
        """Take the terminal away, as a dropped ssh does."""
        self.killed = self._hung_up = True
        self._reader.join(5)
        self._close()

    def _close(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def signal(self, number: int, group: bool) -> None:
        """A signal to snakemake, or to everything in its group."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return not self.running

    def end(self) -> int:
        """Kill what is left of it; its exit status."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        machine.kill_all(self.checkout.processes())
        self._reader.join(5)
        self._hung_up = True
        self._close()
        return self.process.returncode

    def left(self, within_s: float) -> list[psutil.Process]:
        """What still runs of the checkout when so many seconds have passed; at once when nothing does."""
        deadline = time.monotonic() + within_s
        while (found := self.checkout.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


def _prepared(terminal: bool, file_bytes: int | None) -> None:
    """In the child: signals as a shell at a terminal leaves them, and what the run is to have."""
    machine.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
