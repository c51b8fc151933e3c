"""The command that a message tells the reader to give: it works as it stands, pasted into the shell that started the run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

_OPTIONS = "HYPERKV_CONFIG_OPTIONS"  # what the run was given, for its stages' messages
_MADE = {
    "build_kvrocks": "kvrocks",
    "build_patched_kvrocks": "kvrocks-patched",
    "ladder": "ladder",
    "array": "array",
}
_CARRIED = ("--configfile", "--configfiles", "--config")

_PLAIN = re.compile(r"[\w./+-]+")  # a word that Makefile takes as it is


def snakemake_command(target: str, cores: str | int = "all", configured: bool = True) -> str:
    """'.venv/bin/snakemake --cores all TARGET --configfile my.yaml': this environment's Snakemake, which need not be on PATH.

    Where `make` does the same here, 'make kvrocks CONFIG=my.yaml'. configured: with the configuration of this run, unless
    that is what stops it.
    """
    beside = Path(sys.executable).with_name("snakemake")
    program = beside if beside.exists() else Path(shutil.which("snakemake") or "snakemake")
    if program.is_absolute() and program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    options = os.environ.get(_OPTIONS, "") if configured else ""
    if (
        cores == "all"
        and program == Path(".venv/bin/snakemake")
        and (shorter := _make_command(target, options))
    ):
        return shorter
    return " ".join(filter(None, [shlex.quote(str(program)), "--cores", str(cores), target, options]))


def _make_command(target: str, options: str) -> str | None:
    """What does it in a checkout whose environment `make` made; None where nothing shorter does the same."""
    if target not in _MADE or not (Path("Makefile").is_file() and Path(".venv/installed").exists()):
        return None
    files = shlex.split(options)
    own = files[:3] == ["--configfile", "config/scenarios.yaml", "config/config.yaml"]
    if shutil.which("make") is None or (files and not own) or not all(map(_PLAIN.fullmatch, files)):
        return None
    told = shlex.quote(" ".join(files[3:]))
    return f"make {_MADE[target]}" + (f" CONFIG={told}" if files[3:] else "")


def keep_config_options(argv: Sequence[str]) -> None:
    """Remember the configuration that a Snakemake was started with, unless one that started this process did."""
    os.environ.setdefault(_OPTIONS, shlex.join(config_options(argv)))


def config_options(argv: Sequence[str]) -> list[str]:
    """The words of a Snakemake's command line that say its configuration: files, and keys."""
    found: list[str] = []
    taking = False
    for word in argv[1:]:
        if word.startswith("-"):
            taking = word.partition("=")[0] in _CARRIED
        if taking:
            found.append(word)
    return found
