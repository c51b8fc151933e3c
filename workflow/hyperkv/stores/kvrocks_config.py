"""Kvrocks's configuration file: rendered from settings, and held against what the running server says.

Syntax (config_util.cc of Kvrocks 2.10): one `key value` a line, split at blanks, `#` begins a comment, a value with
blanks at its ends, `#` or quotes is quoted. Sizes of RocksDB's buffers and caches are in MiB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UserError
from ..processes import LOOPBACK

PROGRAM = Path("results/build/kvrocks/kvrocks")
PATCHED_PROGRAM = Path("results/build/kvrocks-patched/kvrocks")
BUILD_COMMAND = "snakemake --cores all build_kvrocks"
OWN_KEYS = ("dir", "port", "daemonize", "log-dir", "pidfile", "supervised", "socket-fd", "unixsocket")
BULK_KEY = "proto-max-bulk-len"
BULK_DEFAULT_BYTES = 512 << 20
_UNITS = {"k": 10, "m": 20, "g": 30, "t": 40}
_REACHABLE = {LOOPBACK, "0.0.0.0", "localhost"}


def complete(
    settings: Mapping[str, object],
    *,
    directory: Path,
    port: int,
    value_bytes: int,
    socket: str | None = None,
) -> dict[str, str]:
    """Every key of the configuration file, as text: the settings and what the store sets itself.

    `workers: cores` becomes the number of usable cores; proto-max-bulk-len is raised when a value needs it.
    Raises UserError naming the key.
    """
    given = {key: _text(key, value) for key, value in settings.items()}
    for key in OWN_KEYS:
        if key in given:
            raise UserError(f"store kvrocks: settings.{key} is set by the workflow; leave it out")
    if given.get("workers") == "cores":
        given["workers"] = str(len(os.sched_getaffinity(0)))
    needed = -(-value_bytes >> 20) << 20
    if BULK_KEY not in given and needed > BULK_DEFAULT_BYTES:
        given[BULK_KEY] = str(needed)
    if (most := in_bytes(given.get(BULK_KEY, str(BULK_DEFAULT_BYTES)))) is not None and most < value_bytes:
        raise UserError(
            f"store kvrocks: settings.{BULK_KEY}: {given[BULK_KEY]} is below the value's size {value_bytes}; "
            f"Kvrocks would refuse every SET"
        )
    given.setdefault("bind", LOOPBACK)
    if not _REACHABLE & set(given["bind"].split()):
        raise UserError(
            f"store kvrocks: settings.bind: {given['bind']!r} lacks {LOOPBACK}, where the client is"
        )
    own = {"dir": str(directory), "port": str(port), "log-dir": "stdout", "daemonize": "no"}
    return own | ({} if socket is None else {"unixsocket": socket}) | given


def rendered(complete_settings: Mapping[str, str]) -> str:
    """The configuration file's text."""
    return "".join(f"{key} {_quoted(value)}\n" for key, value in complete_settings.items())


def differences(
    wanted: Mapping[str, str], applied: Mapping[str, str], ignorable: Sequence[str]
) -> tuple[list[str], list[str]]:
    """What the server did not take over: faults, and the keys of `ignorable` that it does not know.

    wanted: keys of the configuration file. applied: the server's answer to CONFIG GET *.
    """
    faults, ignored = [], []
    for key, value in wanted.items():
        if key not in applied and key in ignorable:
            ignored.append(key)
        elif key not in applied:
            faults.append(f"{key} is not a key of this Kvrocks")
        elif not _same(value, applied[key]):
            faults.append(f"{key} is {applied[key]!r}, not {value!r}")
    return faults, ignored


def warning(complete_settings: Mapping[str, str]) -> str | None:
    """A line for a server that others can reach without a password, else None."""
    others = [word for word in complete_settings["bind"].split() if word not in (LOOPBACK, "localhost")]
    if not others or complete_settings.get("requirepass"):
        return None
    return f"store kvrocks: bind {' '.join(others)} without requirepass: anybody who reaches it can read and delete"


def in_bytes(text: str) -> int | None:
    """Bytes of a number with an optional k, m, g or t; None for anything else."""
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in _UNITS else (text, "")
    if not number.lstrip("-").isdigit():
        return None
    return int(number) << _UNITS.get(unit, 0)


def _text(key: str, value: object) -> str:
    text = str(value).strip()
    if not key or any(character in key for character in " \t=#'\""):
        raise UserError(f"store kvrocks: settings: {key!r} is not a key")
    if not text or text.startswith("="):
        raise UserError(
            f"store kvrocks: settings.{key}: {str(value)!r} is wrong; Kvrocks reads `key value`, without ="
        )
    if "\n" in text:
        raise UserError(f"store kvrocks: settings.{key} has more than one line")
    return text


def _quoted(value: str) -> str:
    if not any(character in value for character in "#'\"\\"):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _same(wanted: str, applied: str) -> bool:
    if wanted == applied or wanted.lower() == applied.lower() in ("yes", "no"):
        return True
    number = in_bytes(wanted)
    return number is not None and number == in_bytes(applied)
