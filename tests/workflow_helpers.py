"""What the tests of the whole workflow share: a copy of the checkout, a tiny config, and snakemake on both."""

import atexit
import contextlib
import gc
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.helpers import eventually, hear_the_keyboard
from workflow.hyperkv.records.record_file import read_records

REPOSITORY = Path(__file__).parents[1]
PARSED = ".snakemake/hyperkv/parsed.json"
CONFIGS = ["config/scenarios.yaml", "config/config.yaml", "tiny.yaml"]
TARGETS = "all sweep profile predict stores layers tables figures decide recommend capacity tune ladder array"

# A context is at most 80 + 2 x 48 = 176 tokens of 32 KiB, 5.5 MiB: one fits into HBM, three do not.
TINY: dict[str, Any] = {
    "workload": {
        "conversations": 3,
        "turns": [4, 4],
        "prefix_tokens": [64, 80],
        "user_tokens": [16, 24],
        "answer_tokens": [16, 24],
    },
    "replay": {"hbm_kv_bytes": "6 MiB"},
    "evidence": {"device_share_min": 0},
    "scenarios": {
        "dram": {"chunk_tokens": [16, 32], "dram_pool_bytes": "64 MiB"},
        "files": {"chunk_tokens": 16},
        "rocksdb_resp": {"chunk_tokens": 16},
        "valkey_resp": {"chunk_tokens": 16},
        "valkey_redis": {"chunk_tokens": 16},
    },
    "experiment": {
        "scenarios": ["none", "dram", "rocksdb_resp", "valkey_resp", "valkey_redis"],
        "loads": [1, 2],
        "active_conversations": 3,
        "repeats": 1,
    },
    "profile": {
        "scenarios": ["valkey_resp"],
        "value_bytes": [262144],
        "point_bytes": 1048576,
        "repeats": 1,
    },
    "layers": {
        "scenarios": ["valkey_resp"],
        "value_bytes": [262144],
        "connections": [1],
        "point_bytes": 1048576,
        "repeats": 2,
    },
    "predict": {"cases": {"reference": {"workload": {"conversations": 5}}}},
    "figures": {"chunk_tokens": 16},
}


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config with values set under dotted keys; ... takes the key away."""
    copy = deepcopy(dict(config))
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = copy
        for parent in parents:
            section = section.setdefault(parent, {})
        if value is ...:
            del section[last]
        else:
            section[last] = value
    return copy


def merged(*configs: Mapping[str, Any]) -> dict[str, Any]:
    """Configs on top of each other as snakemake merges them: mappings merge, all else is replaced."""
    result: dict[str, Any] = {}
    for config in configs:
        for key, value in config.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def become_snakemake(folder: Path, environment: Mapping[str, str], argv: list[str], output: int) -> int:
    """In a fork, whose own process this is from now on: snakemake with these words in the folder. Its exit status."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    os.closerange(3, 4096)
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, os.fdopen(1, "w"), os.fdopen(2, "w")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    logging.root.handlers.clear()
    atexit._clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("workflow", "tests")]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(path for path in sys.path if path not in ("", str(REPOSITORY)))]
    sys.argv = [sys.modules["snakemake"].__path__[0] + "/__main__.py", *argv]
    from snakemake.cli import main

    sys.modules["snakemake.shell"].STDOUT = sys.stdout  # of jobs; it was looked up at the import
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


class Checkout:
    """A folder with the repository's files in which snakemake and stages run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python_path = ""

    @classmethod
    def new(cls, folder: Path, config: Mapping[str, Any] = TINY) -> "Checkout":
        """Copy what git tracks or would track, results apart, and what was kept here of the code: parsed, compiled; write the config."""
        listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(
            listing, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=30
        )
        for name in names.stdout.split("\0"):
            source = REPOSITORY / name
            if source.is_file() and not name.startswith("results/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / name)
        if (parsed := REPOSITORY / PARSED).exists():
            (folder / PARSED).parent.mkdir(parents=True)
            shutil.copy(parsed, folder / PARSED)
        for compiled in (REPOSITORY / "workflow").rglob("*.pyc"):
            (copied := folder / compiled.relative_to(REPOSITORY)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(compiled, copied)
        checkout = cls(folder)
        checkout.configure(config)
        return checkout

    def copy(self, folder: Path, keep_mtimes: bool = True) -> "Checkout":
        """Everything, snakemake's records and the results included, in another folder."""
        keep = shutil.copy2 if keep_mtimes else shutil.copy
        shutil.copytree(self.folder, folder, copy_function=keep, symlinks=True)
        return Checkout(folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write the config that goes on top of the repository's own."""
        (self / "tiny.yaml").write_text(yaml.safe_dump(dict(config)))

    def spec(self, scenario: str) -> str:
        """The scenario's slice of the config, as the rule hands it to the stage."""
        from workflow.hyperkv.config.config import checked
        from workflow.hyperkv.config.plan import sweep_spec

        layers = [yaml.safe_load((self / name).read_text()) for name in CONFIGS]
        return sweep_spec(checked(merged(*layers)), scenario)

    def environment(self) -> dict[str, str]:
        """What programs in the folder are given."""
        users = {name: value for name, value in os.environ.items() if not name.startswith("HYPERKV_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**users, "PATH": path, "PYTHONPATH": self.python_path, "COLUMNS": "200"}

    @contextlib.contextmanager
    def start(self, *argv: str, end_all: bool = True) -> Iterator[subprocess.Popen[str]]:
        """A Python program in the folder, its group killed at the end, and with end_all whatever else runs in the folder.

        Its output, both streams, is in stdout.
        """
        process = subprocess.Popen(
            [sys.executable, *argv],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=hear_the_keyboard,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            for left in self.processes() if end_all else []:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()

    def run(self, *argv: str) -> tuple[int, str]:
        """Run a Python program in the folder to its end: exit status and output. It must leave no process."""
        with self.start(*argv) as process:
            output, _ = process.communicate(timeout=600)
            assert not self.processes(), output
        return process.returncode, output

    def snakemake_argv(self, *arguments: str) -> list[str]:
        """The command line, after python, of snakemake as the Makefile calls it."""
        options = ["--cores", "2", "--scheduler", "greedy", "--configfile", *CONFIGS]
        return ["-m", "snakemake", *arguments, *options]

    def profile_argv(self, profile: str, *targets: str) -> list[str]:
        """The same with a profile of workflow/profiles, which says what runs at once and where."""
        words = ["--workflow-profile", f"workflow/profiles/{profile}", "--configfile", *CONFIGS]
        return ["-m", "snakemake", *targets, *words]

    def interrupted(self, *argv: str) -> None:
        """Start a Python program and send it Ctrl-C once a RocksDB serves in the folder: it fails, and nothing goes on running."""
        with self.start(*argv) as process:
            eventually(lambda: self.processes("stores.rocksdb.server"), 120)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            assert process.returncode != 0
            eventually(lambda: not self.processes())

    def snakemake(self, *arguments: str) -> tuple[int, str]:
        """Run snakemake to its end: exit status and output. It must leave no process."""
        return self.forked(*self.snakemake_argv(*arguments)[2:])

    def forked(self, *argv: str) -> tuple[int, str]:
        """As `run` with snakemake and these words, in a fork of this process: that saves the time to import it."""
        from snakemake.cli import get_argument_parser

        get_argument_parser()  # which looks for plugins
        with tempfile.TemporaryFile() as file:
            if (pid := os.fork()) == 0:
                gc.freeze()  # what other tests left is not finalized here: in ast.parse a traceback of it ends Python 3.11
                status = 1
                try:
                    status = become_snakemake(self.folder, self.environment(), list(argv), file.fileno())
                    atexit._run_exitfuncs()
                    sys.stdout.flush()
                    sys.stderr.flush()
                finally:
                    os._exit(status)
            try:
                _, status = os.waitpid(pid, 0)
            except BaseException:
                os.killpg(pid, signal.SIGKILL)
                raise
            file.seek(0)
            output = file.read().decode()
        assert not self.processes(), output
        return os.waitstatus_to_exitcode(status), output

    def sweep_argv(self, scenario: str) -> list[str]:
        """The command line, after python, of the sweep stage for repeat 1 of a scenario."""
        words = ["--spec", self.spec(scenario), "--repeat", "1", "--out", f"results/sweep/{scenario}/1.jsonl"]
        return ["-m", "workflow.hyperkv.sweep.measure_scenario", *words]

    def sweep(self, scenario: str) -> tuple[int, str]:
        """Run the sweep stage for repeat 1 of a scenario: exit status and output."""
        return self.run(*self.sweep_argv(scenario))

    def planned(self, *targets: str) -> set[str]:
        """What snakemake would run for targets, or for all, each job as its rule and its wildcards' values: 'measure_scenario none 1'."""
        return self.looked(*targets)[1]

    def looked(self, *targets: str) -> tuple[str, set[str]]:
        """What a dry run says, and the jobs that it plans, as `planned` has them."""
        status, output = self.snakemake(*targets, "--dry-run")
        assert status == 0, output
        if "Nothing to be done" in output:
            return output, set()
        assert "This was a dry-run" in output, output
        jobs = set()
        for block in re.split(r"^\[.*\]$", output, flags=re.MULTILINE)[1:]:
            rule = re.search(r"^\w*rule (\w+):$", block, re.MULTILINE)
            assert rule, block
            found = re.search(r"^ +wildcards: (.*)$", block, re.MULTILINE)
            values = [item.split("=", 1)[1] for item in found[1].split(", ")] if found else []
            jobs.add(" ".join([rule[1], *values]))
        return output, jobs - set(TARGETS.split())

    def processes(self, command: str = "") -> list[psutil.Process]:
        """Running processes that work in the folder or name it, and have `command` in their command line."""
        mine = {os.getpid(), os.getppid()}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = [process.cwd(), *process.cmdline()]
                gone = process.status() == psutil.STATUS_ZOMBIE
                here = any(str(self.folder) in word for word in words) and command in " ".join(words)
                if process.pid not in mine and not gone and here:
                    found.append(process)
        return found

    def loads(self, scenario: str) -> list[int]:
        """The loads of a scenario's finished file, in its order."""
        path = self / f"results/sweep/{scenario}/1.jsonl"
        return [record["load"] for record in read_records(path)] if path.exists() else []

    def kept_loads(self, scenario: str) -> list[int]:
        """The loads that an unfinished sweep of a scenario has measured so far."""
        lines = [
            line for line in self._lines(f"results/sweep/{scenario}/1.jsonl.partial") if line.endswith("\n")
        ]
        return [int(json.loads(line)["key"]) for line in lines]

    def _lines(self, name: str) -> list[str]:
        path = self / name
        return path.read_text().splitlines(keepends=True) if path.exists() else []
