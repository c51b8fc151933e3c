"""The forms of traces that are known, and which of them a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ...base.errors import UserError
from . import Columns
from .hashed import read_hashed
from .lengths import read_azure, read_burstgpt
from .lines import Record, at, records_of
from .reading import Asked
from .sessions import read_sessions


@dataclass(frozen=True)
class Form:
    """fields: that every record has. read: makes columns of records. block_tokens, time_unit: without being told; None: the records say."""

    fields: tuple[str, ...]
    read: Callable[[Iterator[Record], Asked], Columns]
    block_tokens: int | None = None
    time_unit: str | None = None


_HASHED = ("timestamp", "input_length", "output_length", "hash_ids")
# The first one whose fields are there is the form of a file that is not told.
FORMS = {
    "bailian": Form(("chat_id", "parent_chat_id", *_HASHED), read_hashed, 16, "s"),
    "mooncake": Form(_HASHED, read_hashed, 512, "ms"),
    "agentic": Form(("requests", "block_size"), read_sessions, None, "s"),
    "burstgpt": Form(("Timestamp", "Request tokens", "Response tokens"), read_burstgpt, None, "s"),
    "azure": Form(("TIMESTAMP", "ContextTokens", "GeneratedTokens"), read_azure),
}
_KNOWN = "; ".join(f"{name} ({', '.join(form.fields)})" for name, form in FORMS.items())
_TEXTS = ("conversations", "conversation", "messages", "dialog", "dialogue")
_SHOWN = 12


def read_trace(
    path: Path,
    where: str,
    form: str | None = None,
    block_tokens: int | None = None,
    time_unit: str | None = None,
    most: int | None = None,
) -> Columns:
    """The first `most` requests (None: all) of a trace.

    form: None recognises it. block_tokens, time_unit: None takes the form's. Raises UserError, one line that begins with
    `where`, for what is no trace, with the fields that were found and the forms that are known.
    """
    records = records_of(path, where)
    first = next(records, None)
    if first is None:
        raise UserError(f"{where}: no requests, the file is empty; known forms of traces: {_KNOWN}")
    name = form or _recognised(first, where)
    own = FORMS[name]
    asked = Asked(
        name, where, own.fields, block_tokens or own.block_tokens, time_unit or own.time_unit, time_unit, most
    )
    asked.require(first[1], first[0])
    return own.read(chain([first], records), asked)


def _recognised(first: Record, where: str) -> str:
    number, record = first
    for name, form in FORMS.items():
        if set(form.fields) <= set(record):
            return name
    missing_of = {
        name: [field for field in form.fields if field not in record] for name, form in FORMS.items()
    }
    near = min(FORMS, key=lambda name: len(missing_of[name]) / len(FORMS[name].fields))
    missing = missing_of[near]
    if len(missing) < len(FORMS[near].fields) / 2:
        told = f"{near} without {' and '.join(missing)}"
    elif held := [key for key in _TEXTS if key in record]:
        told = f"conversations as text ({held[0]}), which have no form of a trace"
    else:
        told = "of no known form"
    raise UserError(
        f"{at(where, number)}: {told}: its fields are {_listed(record)}; known forms: {_KNOWN}; write the trace in one of them"
    )


def _listed(record: dict[str, Any]) -> str:
    names: Iterable[str] = list(record)[:_SHOWN]
    more = ", ..." if len(record) > _SHOWN else ""
    return (", ".join(name[:40] for name in names) or "none") + more
