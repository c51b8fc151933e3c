"""Stage check_recommended: starts the recommended store from its files, and has the engine's files read by its own parsers.

python -m workflow.hyperkv.recommend.check_recommended --recommendation results/recommended/recommendation.json --files results/recommended/files --pythons '{"current": "results/build/current/venv/bin/python"}' --out results/recommended/check.json
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import redis

from ...plugin.lmcache_striped.secret import Secret
from ..base.cli import run_stage
from ..base.errors import StoreError, UserError, printable
from ..base.options import Spec
from ..machine.own_folder import socket_folder
from ..machine.processes import LOOPBACK, OwnedProcess, free_port
from ..records.frames import read_json
from ..stores.applied import told_by
from ..stores.redis_client import bounded
from ..stores.registry import store_class
from ..stores.server import ServerStore

CHECKED, NOT_CHECKED = "checked", "not checked"
_READY_S = 60.0
_REPLY_S = 30.0
_STOP_S = 120.0
_PARSER_S = 300.0
_OVERRIDDEN = ("dir", "port", "unixsocket")


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it could be, and what was found or why it was not."""

    what: str
    status: str
    detail: str


def main(*, recommendation: Path, files: Path, pythons: Spec, out: Path) -> None:
    """Check, and write what was and what was not checked. A fault is an error.

    Args:
        recommendation: recommendation.json.
        files: folder of its files.
        pythons: JSON: by pair the interpreter of its environment of vllm and lmcache.
        out: JSON file for what was found.
    """
    chosen = read_json(recommendation)
    checks = check(chosen, files, pythons.get(chosen["pair"], "python3"))
    out.write_text(json.dumps([asdict(item) for item in checks], indent=2) + "\n")
    for item in checks:
        told = printable(f"hyperkv check_recommended: {item.what}: {item.status}: {item.detail}")
        print(told, file=sys.stderr)


def check(recommendation: Mapping[str, Any], folder: Path, engine_python: str) -> list[Check]:
    """Everything about the files in `folder` that this machine can check. Raises UserError naming the first fault."""
    checks = []
    for server in recommendation["servers"]:
        if os.access(server["program"], os.X_OK):
            checks += [check_server(server, folder), check_unit(folder / server["unit"])]
        else:
            why = f"this machine has no program {server['program']}"
            checks += [Check(server[key], NOT_CHECKED, why) for key in ("script", "unit")]
    if not recommendation["servers"]:
        checks.append(Check("store", NOT_CHECKED, "the recommended scenario starts no server"))
    engine = missing_engine(engine_python)
    for name, look in (("lmcache.yaml", check_lmcache), ("vllm.sh", check_vllm)):
        if name not in recommendation["files"]:
            why = recommendation["not_written"].get("vllm.sh, lmcache.yaml", "the scenario needs none")
            checks.append(Check(name, NOT_CHECKED, f"there is no such file: {why}"))
        else:
            checks.append(Check(name, NOT_CHECKED, engine) if engine else look(folder / name, engine_python))
    if "lmcache-server.sh" in recommendation["files"]:
        checks.append(
            Check("lmcache-server.sh", NOT_CHECKED, "LMCache's server reads its words only when it starts")
        )
    return checks


def check_server(server: Mapping[str, Any], folder: Path) -> Check:
    """Start a store process from its script at a free port, in a folder of its own; set and get a value; end it.

    Raises UserError or StoreError when it does not start, loses the value, or runs with other settings than written.
    """
    script = (folder / server["script"]).absolute()
    store = cast("type[ServerStore]", store_class(server["store"]))
    wanted = {key: value for key, value in server["settings"].items() if key not in _OVERRIDDEN}
    with (
        tempfile.TemporaryDirectory(prefix="hyperkv-check-", dir=folder.absolute()) as scratch,
        socket_folder() as short,
    ):
        port = free_port()
        directory, log = short / "data dir", Path(scratch) / "log"
        (real := Path(scratch) / directory.name).mkdir()
        directory.symlink_to(real)  # its files beside the others, its socket by a path that the kernel takes
        place = {"HYPERKV_PORT": str(port), "HYPERKV_DIR": str(directory)}
        process = OwnedProcess(["sh", str(script)], log=log, label=server["script"], env=place)
        try:
            process.start()
            secret = Secret.of(server["password"])
            client = bounded(LOOPBACK, port, _REPLY_S, password=None if secret is None else secret.value())
            process.wait_ready(lambda: _answers(client), _READY_S)
            round_trip(client, server, process)
            if (line := store.complaint(process.tail(200))) is not None:
                raise UserError(f"{server['script']}: MALLOC_CONF: {line}")
            applied = told_by(client)
            client.close()
        except redis.RedisError as error:
            process.check_alive(1.0)
            raise StoreError(f"{server['script']}: {error}") from error
        finally:
            process.stop(_STOP_S)
    faults, _ = store.unlike(wanted, applied, server["ignored_settings"])
    if faults:
        raise UserError(
            f"{server['script']}: the server runs with other settings than written: {'; '.join(faults)}"
        )
    size = f"{server['value_bytes'] >> 10} KiB"
    return Check(
        server["script"],
        CHECKED,
        f"started, kept and returned a value of {size}, runs with {len(wanted)} settings as written, ended",
    )


def round_trip(client: redis.Redis, server: Mapping[str, Any], process: OwnedProcess) -> None:
    """Set and get a value as large as a chunk. Raises StoreError."""
    value = os.urandom(server["value_bytes"])
    client.set("hyperkv-check", value)
    if client.get("hyperkv-check") != value:
        process.check_alive(1.0)
        raise StoreError(f"{server['script']}: GET does not return what was set")


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def command_words(script: str) -> list[str]:
    """The words that a script executes, less those it is called with."""
    line = next(line for line in script.splitlines() if line.startswith("exec "))
    words = shlex.split(line)[1:]
    return words[:-1] if words[-1] == "$@" else words


def check_unit(path: Path) -> Check:
    """Have systemd read a unit. Raises UserError with its words when it refuses."""
    if shutil.which("systemd-analyze") is None:
        return Check(path.name, NOT_CHECKED, "there is no systemd-analyze (package systemd)")
    done = _run(["systemd-analyze", "verify", "--man=no", str(path.absolute())], "systemd-analyze")
    complaints = [line for line in done.stderr.splitlines() if path.name in line]
    if done.returncode or complaints:
        raise UserError(f"{path.name}: {'; '.join(complaints) or done.stderr.strip() or done.returncode}")
    return Check(path.name, CHECKED, "systemd-analyze verify has no complaint")


def missing_engine(python: str) -> str | None:
    """Why the engine's files cannot be checked, None when they can."""
    if shutil.which(python) is None:
        return f"no engine environment: there is no {python}"
    code = "import importlib.util as u, sys; sys.exit(not (u.find_spec('vllm') and u.find_spec('lmcache')))"
    if _run([python, "-c", code], python).returncode:
        return f"no engine environment: {python} has no vllm and lmcache"
    return None


_READ_LMCACHE = """
import json, sys
from lmcache.v1.config import LMCacheEngineConfig
config = LMCacheEngineConfig.from_file(sys.argv[1])
written = json.load(open(sys.argv[1]))
missing = [key for key in written if not hasattr(config, key)]
other = [f"{key} is {getattr(config, key)!r}, not {value!r}" for key, value in written.items()
         if key not in missing and getattr(config, key) != value]
faults = [f"{key} is not a key of this LMCache" for key in missing] + other
sys.exit("; ".join(faults) if faults else 0)
"""
_READ_VLLM = """
import importlib, sys
def first(*names):
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("vllm"):
                raise
    sys.exit(f"elsewhere: {', '.join(names)}")
cli = first("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
parsers = first("vllm.utils.argparse_utils", "vllm.utils")
arguments = cli.make_arg_parser(parsers.FlexibleArgumentParser()).parse_args(sys.argv[1:])
cli.validate_parsed_serve_args(arguments)
"""
_ELSEWHERE = "elsewhere: "


def check_lmcache(path: Path, python: str) -> Check:
    """Have LMCache read its configuration. Raises UserError when it does not take a key over."""
    return _parsed(path, [python, "-c", _READ_LMCACHE, str(path)], "LMCache reads every key as written")


def check_vllm(path: Path, python: str) -> Check:
    """Have vLLM parse its command line. Raises UserError when it refuses a word."""
    words = command_words(path.read_text())
    return _parsed(
        path, [python, "-c", _READ_VLLM, *words[words.index("--model") :]], "vLLM's parser takes every word"
    )


def _parsed(path: Path, argv: list[str], praise: str) -> Check:
    """A check by a program of the engine's environment, whose last line on stderr says what is wrong."""
    done = _run(argv, path.name)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else f"status {done.returncode}"
    if done.returncode and last.startswith(_ELSEWHERE):
        return Check(
            path.name, NOT_CHECKED, f"this vLLM keeps its parser {last.replace(_ELSEWHERE, 'not in ')}"
        )
    if done.returncode:
        raise UserError(f"{path.name}: {last}")
    return Check(path.name, CHECKED, praise)


def _run(argv: list[str], label: str) -> subprocess.CompletedProcess[str]:
    """A program's end. Raises UserError when it takes too long."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=_PARSER_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{label}: no answer within {_PARSER_S:.0f} s") from error


if __name__ == "__main__":
    sys.exit(run_stage("check_recommended", main))
