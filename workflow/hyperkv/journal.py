"""A JSONL result that appears whole, and the partial file that keeps what was measured until then."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

from .errors import UserError


def canonical_digest(value: Any) -> str:
    """12 hex digits that name a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Journal:
    """Records by key (a load, a point), kept in `<out>.partial` until `finish` makes `<out>`.

    identity: what the records depend on; a partial file of another identity is left unused and replaced. Raises
    UserError when another process, on any node, has a journal of the same `out`.
    """

    def __init__(self, out: Path, identity: Any):
        self._out = out
        self._partial = out.with_name(out.name + ".partial")
        self._digest = canonical_digest(identity)
        out.parent.mkdir(parents=True, exist_ok=True)
        self._lock = out.with_name(out.name + ".lock")
        self._held = _locked(self._lock, out)
        kept = self._kept_lines()
        self._records: dict[str, dict[str, Any]] = {line["key"]: line["record"] for line in kept}
        if kept:  # rewritten, so that the next record does not continue a torn line
            _replace(self._partial, [json.dumps(line) for line in kept])
        else:
            self._partial.unlink(missing_ok=True)

    def _kept_lines(self) -> list[dict[str, Any]]:
        if not self._partial.exists():
            return []
        lines = []
        for text in self._partial.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break  # the line that was being written when the run was stopped
        return [line for line in lines if line["digest"] == self._digest]

    def has(self, key: Any) -> bool:
        """Whether the record of `key` is already kept."""
        return str(key) in self._records

    def record(self, key: Any) -> dict[str, Any]:
        """The kept record of `key`."""
        return self._records[str(key)]

    def append(self, key: Any, record: dict[str, Any]) -> None:
        """Keep a record, on disk before this returns. Raises UserError when the disk refuses."""
        line = json.dumps({"digest": self._digest, "key": str(key), "record": record}, allow_nan=False)
        try:
            with self._partial.open("a") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write {self._partial}: {error.strerror}; free space and run again"
            ) from error
        self._records[str(key)] = record

    def finish(self, keys: list[Any], common: dict[str, Any]) -> None:
        """Write `<out>` with the records of `keys`, in that order, each with `common` added."""
        lines = [json.dumps(self._records[str(key)] | common, allow_nan=False) for key in keys]
        _replace(self._out, lines)
        self._partial.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)
        self._held.close()


def _locked(path: Path, out: Path) -> IO[str]:
    """The open file that keeps other processes from `out` for as long as this one lives (lockf, so over NFS too)."""
    file = path.open("w")
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


def _replace(path: Path, lines: list[str]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("\n".join(lines) + "\n")
    os.replace(temporary, path)
