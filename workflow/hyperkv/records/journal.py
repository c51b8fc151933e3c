"""A JSONL result that appears whole, and the partial file that keeps what was measured until then."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..base.digests import canonical_digest, short_digest
from ..base.durable import aside_of, replace_durably, sync_folder
from ..base.errors import UserError, say
from .record_file import Identity, write_records

_BEGIN = '{"sum": "'
_LINE = re.compile(r'\{"sum": "([0-9a-f]{12})", ')


class Journal:
    """Records by key (a load, a point), kept in `<out>.partial` until `finish` makes `<out>`.

    identity, kept_for: what a record depends on; records of another identity are left unused and replaced. A damaged
    partial file loses its damaged bytes alone, which are moved to `<out>.partial.damaged`. Raises UserError when another
    process, on any node, has a journal of the same `out`.
    """

    def __init__(self, out: Path, identity: Identity, *kept_for: Any):
        self._out = out
        self._partial = out.with_name(out.name + ".partial")
        self._identity = identity
        self._digest = canonical_digest([str(identity), *kept_for])
        out.parent.mkdir(parents=True, exist_ok=True)
        self._lock = out.with_name(out.name + ".lock")
        self._held = _locked(self._lock, out)
        self._records: dict[str, dict[str, Any]] = {}
        for line in _kept_lines(self._partial):
            if line["digest"] == self._digest:
                self._records[line["key"]] = line["record"]
        if self._records:  # rewritten, so that the next record does not continue a torn line
            kept = "".join(self._line(key, record) for key, record in self._records.items())
            replace_durably(self._partial, kept.encode())
        else:
            self._partial.unlink(missing_ok=True)

    def has(self, key: Any) -> bool:
        """Whether the record of `key` is already kept."""
        return str(key) in self._records

    def record(self, key: Any) -> dict[str, Any]:
        """The kept record of `key`."""
        return self._records[str(key)]

    def append(self, key: Any, record: dict[str, Any]) -> None:
        """Keep a record, on disk before this returns. Raises UserError when the disk refuses."""
        line = self._line(str(key), record)
        try:
            is_new = not self._partial.exists()
            with self._partial.open("a") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self._partial.parent)
        except OSError as error:
            raise UserError(
                f"cannot write {self._partial}: {error.strerror}; free space and run again"
            ) from error
        self._records[str(key)] = record

    def finish(self, keys: list[Any], common: dict[str, Any], identity: Identity | None = None) -> None:
        """Write `<out>` with the records of `keys`, in that order, each with `common` added, and its closing line.

        identity: what the closing line says, when the records as a whole depend on more than each of them.
        """
        names = [str(key) for key in keys]
        records = [self._records[name] | common for name in names]
        write_records(self._out, names, records, identity or self._identity)
        self._partial.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)
        self._held.close()

    def _line(self, key: str, record: dict[str, Any]) -> str:
        text = json.dumps({"digest": self._digest, "key": key, "record": record}, allow_nan=False)
        return f'{_BEGIN}{short_digest(text)}", {text[1:]}\n'


def _kept_lines(partial: Path) -> list[dict[str, Any]]:
    """The lines of a partial file that are as they were written; what is between them is moved aside and named."""
    try:
        kind = partial.lstat().st_mode
    except FileNotFoundError:
        return []
    aside = aside_of(partial)
    if not stat.S_ISREG(kind):
        partial.rename(aside)
        say(f"{partial} was no file; it is now {aside}, and what it was to keep is measured again")
        return []
    text = partial.read_bytes().decode("latin-1")  # a byte a character; what is written is ASCII
    lines, damaged, end = [], [], 0
    for start, stop, line in _whole_lines(text):
        damaged.append(text[end:start])
        lines.append(line)
        end = stop
    torn = text[end:].lstrip("\n")
    if not (torn.startswith(_BEGIN) or _BEGIN.startswith(torn)) or "\n" in torn:
        damaged.append(torn)  # else it is the line that was being written when the run was stopped
    if lost := "".join(damaged).strip("\n"):
        aside.write_bytes(lost.encode("latin-1"))
        say(
            f"{partial} was damaged; {len(lines)} records of it are whole and kept, {len(lost)} bytes are none and are "
            f"now in {aside}"
        )
    return lines


def _whole_lines(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Start, end and value of every line of a journal in a text, wherever it is, whose checksum is right."""
    decoder, position = json.JSONDecoder(), 0
    while found := _LINE.search(text, position):
        position = found.end()
        try:
            line, stop = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            continue
        ours = line.keys() == {"sum", "digest", "key", "record"} and isinstance(line["record"], dict)
        if ours and short_digest("{" + text[found.end() : stop]) == found[1]:
            yield found.start(), stop, line
            position = stop


def _locked(path: Path, out: Path) -> IO[str]:
    """The open file that keeps other processes from `out` for as long as this one lives (lockf, so over NFS too)."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags, 0o666), "r+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise UserError(
            f"{out} is being measured already, by another process or job; wait for it or end it (on a cluster: squeue, "
            f"scancel), then run again"
        ) from None
    except OSError:
        pass  # a file system without locks
    return file
