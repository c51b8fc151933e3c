"""A Kvrocks program: what it says it is, and how it gets to where the workflow looks for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..base.digests import sha256_of
from ..base.documents import from_json
from ..base.durable import appearing
from ..base.errors import UserError
from ..machine.machine_code import lacking, needs_of, unmet
from ..machine.processes import describe_exit
from .kvrocks_patches import patches_in

HOW_TO_GET_ONE = (
    "kvrocks.source: release, git or path builds one, conda takes conda-forge's (with --sdm conda), "
    "binary the programs that kvrocks.binary and kvrocks.patched_binary name"
)
_VERSION = re.compile(r"^kvrocks (?:version )?(\S+)(?: \(commit (\w+)\))?$", re.MULTILINE)
_TIMEOUT_S = 30
_OTHER_CPU = (
    " (it was built for another CPU: delete results/build/compiled and its entry in "
    "SNAKEMAKE_OUTPUT_CACHE, or set kvrocks.march to what all machines have, such as x86-64-v3)"
)


def parse_version(text: str) -> tuple[str, str | None] | None:
    """(version, commit) in the output of `kvrocks --version`, "unstable" being a version; None if it is not one.

    Source of the format: src/cli/main.cc and src/version_util.h of Kvrocks. A commit is only known to a program
    that was built in a git repository.
    """
    found = _VERSION.search(text)
    return (found[1], found[2]) if found else None


def describe(program: Path) -> dict[str, Any]:
    """Start `program --version`: version, commit, the program's sha256, and what it needs of a machine (None: not told).

    Raises UserError if it is no Kvrocks, or cannot start here.
    """
    if not program.is_file():
        raise UserError(f"there is no program {program}; {HOW_TO_GET_ONE}")
    if not os.access(program, os.X_OK):
        raise UserError(f"{program} is not executable; chmod +x it if it is a Kvrocks; {HOW_TO_GET_ONE}")
    needs = needs_of(program)
    if why := unmet(needs):
        raise UserError(f"{program} {why}; {HOW_TO_GET_ONE}")
    answer = _answer(program)
    version = parse_version(answer.stdout)
    if answer.returncode or version is None:
        said = (answer.stderr.strip() or answer.stdout.strip() or "nothing").splitlines()[-1]
        raise UserError(
            f"{program} is not a Kvrocks that runs here: --version ended with "
            f"{describe_exit(answer.returncode)} and said {said[:200]!r}{_mend(answer.returncode)}; {HOW_TO_GET_ONE}"
        )
    told = asdict(needs) if needs else None
    return {"version": version[0], "commit": version[1], "sha256": sha256_of(program), "needs": told}


def link_program(program: str, out: Path, record: Path, source: str, patched: bool = False) -> None:
    """Let `out` be a symlink to a program that is there, and `record` say what it is.

    program: a path, or a name that is looked up on PATH. source: binary or conda, which takes the program of its
    own environment only. patched: whether it must be a patched one; else it must not. Raises UserError.
    """
    found = shutil.which(program) if os.sep not in program else program
    if found is None:
        raise UserError(f"there is no program {program} on PATH; {HOW_TO_GET_ONE}")
    target = Path(os.path.abspath(os.path.expanduser(found)))
    if source == "conda" and not target.is_relative_to(os.environ.get("CONDA_PREFIX") or "/nowhere"):
        raise UserError("kvrocks.source conda takes conda-forge's Kvrocks: run snakemake with --sdm conda")
    key = "kvrocks.patched_binary" if patched else "kvrocks.binary"
    if target == Path(os.path.abspath(out)):
        raise UserError(f"{key} names {out}, which the workflow itself makes; name another program")
    described = describe(target)
    carried = carried_record(target, described["sha256"])
    patches = patches_in(target) or carried.get("patches", [])
    if patched and not patches:
        raise UserError(
            f"kvrocks.patched_binary: {target} does not say that it is patched, and no record beside it "
            f"({', '.join(path.name for path in _records_of(target))}) does: carry kvrocks.json of the build beside a "
            f"program that is as it was built, or build it anew with `make kvrocks-patched`: such a program says "
            f"it itself, stripped or not"
        )
    if patches and not patched:
        named = ", ".join(patch["name"] for patch in patches)
        raise UserError(
            f"kvrocks.binary: {target} is patched with {named}, so it is not Kvrocks as it comes; name it in "
            f"kvrocks.patched_binary, and a stock one in kvrocks.binary"
        )
    check_instructions(target, carried)
    document = {"source": source, "program": str(target), **described}
    document["program_sha256"] = document.pop("sha256")
    built = {key: value for key, value in carried.items() if key not in (*document, "patches")}
    document |= ({"patches": patches} if patches else {}) | ({"built": built} if built else {})
    _write_record(record, document)
    with appearing(out) as link:
        link.symlink_to(target)


def install_program(compiled: Path, out: Path, record: Path) -> None:
    """Copy a compiled program, executable, and the record beside it (`compiled`.json) to where they are used.

    A between-workflow cache hands over programs that are not executable and may come from another machine: this
    starts the program before it takes it. Raises UserError.
    """
    built = json.loads(compiled.with_name(f"{compiled.name}.json").read_text())
    with appearing(out) as copy:
        shutil.copyfile(compiled, copy)
        copy.chmod(0o755)
        check_instructions(compiled, built)
        if describe(copy)["sha256"] != built["program_sha256"]:
            raise UserError(f"{compiled} is not the program its record describes; delete it and run again")
        _write_record(record, built)


def carried_record(program: Path, sha256: str) -> dict[str, Any]:
    """The record of the build that lies beside a program and describes its very bytes; empty without one."""
    for path in _records_of(program):
        try:
            record = from_json(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("program_sha256") == sha256:
            return record
    return {}


def check_instructions(program: Path, record: Mapping[str, Any]) -> None:
    """Raises UserError when a program's record names instructions that this CPU lacks."""
    if missing := lacking(record.get("instructions") or []):
        raise UserError(
            f"{program} was built for {record.get('march_resolved') or record.get('march')} and may use "
            f"{', '.join(missing)}, which this CPU lacks{_OTHER_CPU}"
        )


def _records_of(program: Path) -> list[Path]:
    names = (f"{program.name}.json", f"{program.stem}.json", "kvrocks.json")
    return [program.with_name(name) for name in dict.fromkeys(names)]


def _mend(code: int) -> str:
    return _OTHER_CPU if code == -signal.SIGILL else ""


def _answer(program: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(program.absolute()), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{program} --version did not answer within {_TIMEOUT_S} s; {HOW_TO_GET_ONE}"
        ) from error
    except OSError as error:
        raise UserError(f"{program} does not start: {error.strerror}; {HOW_TO_GET_ONE}") from error


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    with appearing(path) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n")
