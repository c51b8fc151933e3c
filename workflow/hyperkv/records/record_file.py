"""A JSONL file of records: its last line, the closing line, says what the lines before it are, so that none is lost unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..base.durable import replace_durably
from ..base.errors import UserError
from .kinds.record import CLOSED_SINCE

_UNKNOWN_CODE = "unknown"
_MEND = "delete the file to measure it again"


@dataclass(frozen=True)
class Identity:
    """What records depend on, 12 hex digits each: their slice of the configuration with the files it names, and the code."""

    spec: str
    code: str

    @classmethod
    def of_text(cls, text: str) -> Identity:
        """The identity that `str` of it made."""
        return cls(*text.split("/"))

    def __str__(self) -> str:
        return f"{self.spec}/{self.code}"


def write_records(
    path: Path, keys: Sequence[str], records: Sequence[Mapping[str, Any]], made: Identity
) -> None:
    """Write a file of records, each with its key, and the closing line: whole or not at all, on disk before this returns.

    Raises ValueError for a figure that JSON has not, OSError when the disk refuses.
    """
    body = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
    replace_durably(path, body + _closing_line(body, list(keys), made))


def read_records(path: Path, asked: Identity | None = None) -> list[dict[str, Any]]:
    """The records of a whole file, without its closing line.

    asked: what they must have been measured with. Files from before there were closing lines are read without. Raises
    UserError naming the file, and the line where there is one, for anything that is missing, more, damaged or of another
    configuration.
    """
    data = path.read_bytes()
    if not data.strip():
        raise UserError(f"{path}: it is empty; {_MEND}")
    records = _parsed(path, data)
    if not any("closing" in record for record in records):
        return _unclosed(path, data, records, asked)
    made = _checked(path, data)
    if asked is not None and made != asked:
        what = "of another configuration" if made.spec != asked.spec else "measured by other code"
        raise UserError(f"{path}: its records are {what} than what is asked for; {_MEND}")
    return records[:-1]


def identity_in(path: Path) -> Identity | None:
    """What a whole file of records says that it was measured with; None for a file that is not there, not whole, or older."""
    try:
        return _checked(path, path.read_bytes()) if path.is_file() else None
    except (OSError, UserError):
        return None


def disown(path: Path) -> None:
    """Have a whole file of records say that it is not known which code measured it: what asks for one refuses it."""
    data = path.read_bytes()
    made = _checked(path, data)
    *lines, last = data.splitlines(keepends=True)
    body = b"".join(lines)
    keys = json.loads(last)["closing"]["keys"]
    replace_durably(path, body + _closing_line(body, keys, Identity(made.spec, _UNKNOWN_CODE)))


def is_whole(path: Path) -> bool:
    """Whether a file ends with a closing line that is true of the lines before it."""
    return identity_in(path) is not None


def _parsed(path: Path, data: bytes) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), 1):
        try:
            record = json.loads(line.decode())
        except UnicodeDecodeError:
            raise UserError(f"{path}:{number}: not text; {_MEND}") from None
        except ValueError as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise UserError(f"{path}:{number}: not JSON ({told}); {_MEND}") from None
        except RecursionError:
            raise UserError(f"{path}:{number}: not JSON (nested too deeply); {_MEND}") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: not a record; {_MEND}")
        records.append(record)
    return records


def _unclosed(
    path: Path, data: bytes, records: list[dict[str, Any]], asked: Identity | None
) -> list[dict[str, Any]]:
    versions = [record.get("schema_version") for record in records]
    if asked is not None or any(isinstance(version, int) and version >= CLOSED_SINCE for version in versions):
        raise UserError(
            f"{path}: its closing line is missing, so it is cut short or of an older version; {_MEND}"
        )
    lines = data.removesuffix(b"\n").split(b"\n")
    if len(set(lines)) < len(lines):
        raise UserError(f"{path}: a line is there twice; {_MEND}")
    return records


def _checked(path: Path, data: bytes) -> Identity:
    """What the closing line says of the identity, once all else that it says has been found true."""
    body = data[: data.removesuffix(b"\n").rfind(b"\n") + 1]
    try:
        said = json.loads(data[len(body) :].decode())["closing"]
        keys, made = said["keys"], Identity(said["spec"], said["code"])
        are_distinct = len(set(keys)) == len(keys)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(f"{path}: its last line is no whole closing line; {_MEND}") from None
    if not are_distinct or body.count(b"\n") != len(keys) or data != body + _closing_line(body, keys, made):
        raise UserError(f"{path}: its lines are not those that were measured; {_MEND}")
    repeat = _repeat_in(path, body)
    if repeat is not None and path.stem.isdigit() and repeat != int(path.stem):
        raise UserError(f"{path}: its records are of repeat {repeat}; {_MEND}")
    return made


def _repeat_in(path: Path, body: bytes) -> int | None:
    """The repeat that a file of the sweep's is of, by its first record; None for other records."""
    records = _parsed(path, body.partition(b"\n")[0]) if body else []
    return next(
        (record.get("repeat") for record in records if record.get("record") in ("cell", "single")), None
    )


def _closing_line(body: bytes, keys: list[str], made: Identity) -> bytes:
    """The last line of a file whose other lines are `body`; its checksum is of them and of itself."""
    said = {"keys": keys, "lines": len(keys), **asdict(made)}
    digest = hashlib.sha256(body + json.dumps(said).encode()).hexdigest()
    return json.dumps({"closing": said | {"sha256": digest}}).encode() + b"\n"
