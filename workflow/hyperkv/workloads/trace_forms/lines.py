"""The records of a trace file, whatever packed it and whatever they are written in."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ...base.documents import Unreadable, from_json, refuse_endless
from ...base.errors import UserError

Record = tuple[int, dict[str, Any]]
Opener = Callable[..., IO[str]]
TAKEN = "JSON lines, a JSON array, or a table with a header such as CSV, plain or .gz, .bz2, .xz or .zst"
_HEAD_BYTES = 1 << 12
_DELIMITERS = ",\t;"
_SPACE = re.compile(r"[\s\x00]*")


def _open_zstd(path: Path, mode: str, encoding: str) -> IO[str]:
    import pyarrow

    return io.TextIOWrapper(pyarrow.input_stream(str(path), compression="zstd"), encoding=encoding)


_PACKED: dict[bytes, Opener] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}
_BINARY = {
    b"PAR1": "a Parquet file; write its rows as JSON lines",
    b"ARROW1": "an Arrow file; write its rows as JSON lines",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"%PDF": "a PDF file; name the trace itself",
    b"\xff\xfe": "UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8",
}
_LFS = b"version https://git-lfs"


def at(where: str, number: int) -> str:
    """A record's place in messages. number: its line, or less than 0 for its number in an array."""
    return f"{where}:{number}" if number > 0 else f"{where}: item {-number}"


def records_of(path: Path, where: str) -> Iterator[Record]:
    """(number, record) of a trace, number as in `at`; blank lines are skipped. None at all for a file that is empty.

    where: how messages name the file. Raises UserError: one line that says what the file is and what to do.
    """
    lines = iter(_lines_of(path, where))
    for number, first in enumerate(lines, start=1):
        if first.strip():
            yield from _records(first, lines, number, where)
            return


def _records(first: str, lines: Iterator[str], number: int, where: str) -> Iterator[Record]:
    """The records of a text that begins with `first`, its line `number`."""
    text = first.strip()
    if text.startswith("<"):
        raise UserError(f"{where}:{number}: a web page or XML; download the file itself; a trace is {TAKEN}")
    if text.startswith(("{", "[")):
        if text.startswith("{") and _is_json(text):
            return _of_lines(chain([first], lines), number, where)
        return _of_text("\n" * (number - 1) + first + "".join(lines), where)
    delimiter = max(_DELIMITERS, key=text.count)
    if text.count(delimiter):
        return _of_table(chain([first], lines), delimiter, number, where)
    raise UserError(f"{where}:{number}: not JSON and no table; a trace is {TAKEN}")


def _of_lines(lines: Iterable[str], number: int, where: str) -> Iterator[Record]:
    loads = json.loads
    rest = iter(lines)
    for index, line in enumerate(rest, start=number):
        try:
            values = loads(line)
        except (ValueError, RecursionError):
            if not line.strip():
                continue
            raise UserError(f"{at(where, index)}: {_no_record(line, rest)}") from None
        if type(values) is not dict:
            raise UserError(f"{at(where, index)}: not a JSON object; write one JSON object a line")
        yield index, values


def _no_record(line: str, rest: Iterator[str]) -> str:
    """What is wrong with a line that is no JSON. rest: the lines after it."""
    try:
        from_json(line)
    except Unreadable as error:
        if not line.endswith(("\n", "\r")) or not any(after.strip() for after in rest):
            return f"the last line is cut off, {error}; take the line out, or get the trace again"
        return f"{error}; write one JSON object a line"
    return "not a JSON object; write one JSON object a line"


def _of_text(text: str, where: str) -> Iterator[Record]:
    """Records of one or more JSON values, one after the other, objects or arrays of them, over any number of lines."""
    decode, place = json.JSONDecoder().raw_decode, 0
    line, counted = 1, 0
    while True:
        found = _SPACE.match(text, place)
        place = found.end() if found else place
        if place == len(text):
            return
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = decode(text, place)
        except RecursionError:
            raise UserError(f"{at(where, line)}: JSON nested too deep; a trace is {TAKEN}") from None
        except json.JSONDecodeError as error:
            cut = "cut off, " if error.pos >= len(text.rstrip()) else ""
            raise UserError(
                f"{at(where, error.lineno)}: {cut}not JSON ({error.msg}); a trace is {TAKEN}"
            ) from None
        except ValueError as error:  # a number of too many digits
            raise UserError(f"{at(where, line)}: not JSON ({error}); a trace is {TAKEN}") from None
        items = enumerate(value, start=1) if isinstance(value, list) else [(-line, value)]
        for number, item in items:
            if type(item) is not dict:
                raise UserError(f"{at(where, -number)}: not a JSON object; a trace is {TAKEN}")
            yield -number, item


def _of_table(lines: Iterable[str], delimiter: str, number: int, where: str) -> Iterator[Record]:
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    before = number - 1
    try:
        header = [name.strip() for name in next(reader)]
        for row in reader:
            if not any(row):
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{at(where, before + reader.line_num)}: {len(row)} values for the header's {len(header)} columns; "
                    "take the line out, or get the trace again"
                )
            yield before + reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UserError(
            f"{at(where, before + reader.line_num)}: no table ({error}); a trace is {TAKEN}"
        ) from None


def _is_json(text: str) -> bool:
    try:
        from_json(text)
    except Unreadable:
        return False
    return True


def _lines_of(path: Path, where: str) -> Iterator[str]:
    """The text lines of a file: unpacked, without a byte order mark, whatever ends a line."""
    try:
        refuse_endless(path)
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise UserError(f"{where}: no such file; set workload.trace to a trace's path") from None
    except IsADirectoryError:
        raise UserError(
            f"{where}: a folder; set workload.trace to a file in it, or to one made of its files by cat FOLDER/*.json > trace.json"
        ) from None
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror}); make it readable") from None
    if head.startswith(_LFS):
        raise UserError(
            f"{where}: a git-lfs pointer, not the trace itself; run `git lfs pull` where it was cloned, or download the file"
        )
    for magic, words in _BINARY.items():
        if head.startswith(magic):
            raise UserError(f"{where}: {words}; a trace is {TAKEN}")
    opened: Opener = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), open)
    try:
        with opened(path, "rt", encoding="utf-8-sig") as lines:
            yield from lines
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8 text; a trace is {TAKEN}") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{where}: cannot be unpacked ({error}); get the trace again") from None
