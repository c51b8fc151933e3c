"""The lines of a trace file, whatever packed it, and what a file is that is no trace."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ..base.documents import Unreadable, from_json, refuse_endless
from ..base.errors import UserError

FORMS = (
    "a trace has one JSON object a line (plain, .gz, .bz2 or .xz) with timestamp, input_length, output_length and "
    "hash_ids: Mooncake's form (workload.block_tokens: 512, workload.time_unit: ms) or Bailian's (16, s)"
)
_HEAD_BYTES = 1 << 12
_PACKED: dict[bytes, Callable[..., IO[str]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_BINARY = {
    b"PAR1": "a Parquet file; write its rows as JSON lines",
    b"ARROW1": "an Arrow file; write its rows as JSON lines",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it with zstd -d",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"%PDF": "a PDF file; name the trace itself",
    b"\xff\xfe": "UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8",
}
_HELD = {
    "conversations?|messages|dialogu?e?": "conversations as text, as ShareGPT's form has",
    "turns|session_id": "a session of turns",
}
_LFS = b"version https://git-lfs"


def lines_of(path: Path, where: str) -> Iterator[str]:
    """The text lines of a trace: unpacked, without a byte order mark, whatever ends a line.

    where: how messages name the file. Raises UserError: one line that says what the file is and what to do.
    """
    try:
        refuse_endless(path)
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise UserError(f"{where}: no such file; set workload.trace to a trace's path") from None
    except IsADirectoryError:
        raise UserError(f"{where}: a folder; set workload.trace to a file in it") from None
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror}); make it readable") from None
    if head.startswith(_LFS):
        raise UserError(
            f"{where}: a git-lfs pointer, not the trace itself; run `git lfs pull` where it was cloned, or download the file"
        )
    for magic, words in _BINARY.items():
        if head.startswith(magic):
            raise UserError(f"{where}: {words}; {FORMS}")
    opened = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), open)
    try:
        with opened(path, "rt", encoding="utf-8-sig") as lines:
            yield from lines
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8 text; {FORMS}") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{where}: cannot be unpacked ({error}); download it again") from None


def no_trace(line: str, rest: str = "") -> str:
    """What a file is that begins with `line`, no request, in words, with what to do; "" when it looks like nothing known.

    rest: some of the text after that line.
    """
    text = line.strip()
    if text.startswith(("{", "[")):
        return _json_of(text, rest)
    if text.startswith("<"):
        return f"a web page or XML; download the file itself; {FORMS}"
    if text.count(",") >= 2 or "\t" in text:
        return f"a table such as CSV, as BurstGPT's and Azure's traces are, which is not read; {FORMS}"
    return ""


def _json_of(text: str, rest: str) -> str:
    """JSON that is no request: what it holds decides, then what shape it has; a shape alone can be mended."""
    whole = _is_json(text)
    held = text if whole else text + rest
    for keys, words in _HELD.items():
        if re.search(rf'"({keys})"\s*:', held):
            return f"{words}, which is not read; {FORMS}"
    if text.startswith("["):
        return f"a JSON array; write one object a line (jq -c '.[]'), if they have what a trace has; {FORMS}"
    if not whole and text.endswith((",", "{", "[")):
        return f"a JSON object over several lines; write one object a line (jq -c .), if it has what a trace has; {FORMS}"
    return ""


def _is_json(text: str) -> bool:
    try:
        from_json(text)
    except Unreadable:
        return False
    return True
