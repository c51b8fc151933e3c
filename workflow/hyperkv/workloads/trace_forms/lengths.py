"""Requests of which the lengths alone are known: what prompts share is not, so hit rates cannot be predicted.

BurstGPT: HPMLL/BurstGPT, seconds; requests that failed have no response tokens. Azure: Azure/AzurePublicDataset, LLM
inference traces of 2023 and 2024, dates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ...base.errors import UserError
from . import Columns
from .checks import check_order, check_time
from .lines import Record, at
from .reading import PER_SECOND, Asked, Filling, is_length, is_time, short

NOT_KNOWN = (
    "trace: prefixes are not known, it has lengths alone: prompts share nothing, hit rates are not predicted"
)
_MOST_DIGITS = re.compile(r"(\.\d{6})\d+")


def read_burstgpt(records: Iterator[Record], asked: Asked) -> Columns:
    """Columns of BurstGPT's rows. Raises UserError "SOURCE:LINE: what; mend"."""
    return _read(records, asked, _seconds)


def read_azure(records: Iterator[Record], asked: Asked) -> Columns:
    """Columns of the rows of Azure's LLM inference traces. Raises UserError "SOURCE:LINE: what; mend"."""
    return _read(records, asked, _date)


def _read(records: Iterator[Record], asked: Asked, time_of: Callable[[Any], float]) -> Columns:
    time, prompt_of, answer_of = asked.fields
    found, failed, first = Filling(), 0, None
    for number, record in records:
        asked.require(record, number)
        try:
            stamp = time_of(record[time])
            prompt, answer = _whole(record[prompt_of]), _whole(record[answer_of])
        except ValueError:
            raise UserError(f"{at(asked.where, number)}: {_wrong(record, asked.fields)}") from None
        if not is_length(prompt) or not is_length(answer):
            failed += 1
            continue
        first = stamp if first is None and time_of is _date else first
        found.add(number, stamp - (first or 0), prompt, answer)
        if len(found) == asked.most:
            break
    if not len(found):
        raise UserError(f"{asked.where}: no requests with a prompt and an answer; {failed:,} without")
    check_order(asked.where, found)
    if time_of is _seconds:
        check_time(asked, found)
    stamps = np.array(found.stamps)
    left = (f"trace: {failed:,} requests without a prompt or an answer are left out",) if failed else ()
    arrival_s = (stamps - stamps[0]) / PER_SECOND[asked.time_unit or "s"]
    return found.columns(asked, 1, arrival_s, known=False, notes=(NOT_KNOWN, *left))


def _wrong(record: dict[str, Any], fields: tuple[str, ...]) -> str:
    told = ", ".join(f"{name} {short(record[name])}" for name in fields)
    return f"no request: {told}; write a time and two whole numbers of tokens"


def _seconds(value: Any) -> float:
    stamp = float(value)
    if not is_time(stamp):
        raise ValueError
    return stamp


def _date(value: Any) -> float:
    """Seconds of a date such as 2023-11-16 18:15:46.6805900, in UTC where it names no zone."""
    stamp = datetime.fromisoformat(_MOST_DIGITS.sub(r"\1", str(value).strip()))
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def _whole(value: Any) -> int:
    number = float(value)
    if number != int(number) or number < 0:
        raise ValueError
    return int(number)
