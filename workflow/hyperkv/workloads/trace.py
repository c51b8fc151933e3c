"""Traces of requests whose prompts are lists of hashed blocks: their lines, and whether block size and time unit fit.

Forms: Mooncake's (kvcache-ai/Mooncake, FAST25-release: blocks of 512 tokens, milliseconds) and Bailian's
(alibaba-edu/qwen-bailian-usagetraces-anon: blocks of 16 tokens, seconds; besides chat_id, parent_chat_id, type, turn).
Both have one hash id per started block of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any

from ..base.documents import LARGEST, Unreadable, from_json
from ..base.errors import UserError
from .trace_file import no_trace

KEYS = ("timestamp", "input_length", "output_length", "hash_ids")
PER_SECOND = {"ms": 1_000, "s": 1, "us": 1_000_000}
BAILIAN = ("chat_id", "parent_chat_id")
_USUAL_UNIT = "ms"
_TOLD_LINES = 1000
_HEAD_LINES = 100  # that tell what a file is
_LEAST_REQUESTS = 10  # that a rate is worked out from
_MOST_RPS = 500.0
_MOST_RPS_BAILIAN = 50.0  # its own are below 25
_MOST_GAP_S = 60.0


@dataclass(frozen=True)
class Record:
    """One line of a trace: arrival in seconds from the first request's, lengths in tokens, one hash id per prompt block."""

    arrival_s: float
    input_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...]


def parse(
    lines: Iterable[str],
    source: str,
    block_tokens: int = 512,
    time_unit: str | None = None,
    most: int | None = None,
) -> list[Record]:
    """Records of a trace's first `most` requests (None: all), in order; blank lines are skipped.

    Raises UserError "SOURCE:LINE: what; mend" for a line that is no request, hash_ids that are not one per started block
    of `block_tokens` tokens (with the block size that they fit, when they all fit one), a timestamp before the last one,
    and a time unit that the timestamps show to be wrong. time_unit: None is ms, where the timestamps leave no doubt.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    rest = iter(lines)
    for number, line in enumerate(rest, start=1):
        if most is not None and len(found) >= most:
            break
        if line.strip():
            where = f"{source}:{number}"
            found.append((where, _request(line, where, None if found else rest)))
    _check_blocks(source, found, block_tokens)
    _check_order(source, found)
    _check_time(source, [values for _, values in found], time_unit)
    first = found[0][1]["timestamp"] if found else 0
    return [
        Record(
            (values["timestamp"] - first) / PER_SECOND[time_unit or _USUAL_UNIT],
            values["input_length"],
            values["output_length"],
            tuple(values["hash_ids"]),
        )
        for _, values in found
    ]


def _request(line: str, where: str, rest: Iterator[str] | None) -> dict[str, Any]:
    try:
        values = from_json(line)
    except Unreadable as error:
        told = _told(line, rest) or f"{error}; write one JSON object a line"
        raise UserError(f"{where}: {told}") from None
    if not isinstance(values, dict):
        told = _told(line, rest) or "not a JSON object; write one JSON object a line"
        raise UserError(f"{where}: {told}")
    for key in KEYS:
        if key not in values:
            told = _told(line, rest) or f"{key} is missing; write {', '.join(KEYS)}"
            raise UserError(f"{where}: {told}")
    timestamp, hash_ids = values["timestamp"], values["hash_ids"]
    if type(timestamp) not in (int, float) or not abs(timestamp) <= LARGEST:
        raise UserError(
            f"{where}: timestamp is {_short(timestamp)}; write a number, in the unit of workload.time_unit"
        )
    for key in ("input_length", "output_length"):
        if type(values[key]) is not int or not 1 <= values[key] <= LARGEST:
            raise UserError(
                f"{where}: {key} is {_short(values[key])}; write a whole number of tokens of at least 1"
            )
    if not isinstance(hash_ids, list) or not _are_ids(hash_ids):
        raise UserError(
            f"{where}: hash_ids is no list of whole numbers from 0 to 2**32 - 1; number the blocks' hashes from 0 on"
        )
    return values


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _are_ids(hash_ids: list[Any]) -> bool:
    return (
        set(map(type, hash_ids)) <= {int}
        and 0 <= min(hash_ids, default=0) <= max(hash_ids, default=0) < 1 << 32
    )


def _told(line: str, rest: Iterator[str] | None) -> str:
    """What the file is. rest: the lines after `line`, the file's first; None for a later line, which says nothing of it."""
    return "" if rest is None else no_trace(line, "".join(islice(rest, _HEAD_LINES)))


def _check_blocks(source: str, found: Sequence[tuple[str, dict[str, Any]]], block_tokens: int) -> None:
    """One hash id per started block. A number of blocks n of a prompt p fits sizes b with p / n <= b < p / (n - 1)."""

    def fits(values: dict[str, Any]) -> bool:
        return len(values["hash_ids"]) == -(-values["input_length"] // block_tokens)

    wrong = next(((where, values) for where, values in found if not fits(values)), None)
    if wrong is None:
        return
    where, values = wrong
    told = f"{where}: {len(values['hash_ids'])} hash_ids for input_length {values['input_length']}; "
    size = _common_size([values, *(values for _, values in found[:_TOLD_LINES])])
    if size is not None and size != block_tokens:
        raise UserError(
            f"{told}all lines fit blocks of {size} tokens, not of {block_tokens}: set workload.block_tokens: {size}"
            + _bailian_unit(values)
        )
    blocks = -(-values["input_length"] // block_tokens)
    raise UserError(
        f"{told}write {blocks}, one per started block of {block_tokens} tokens (workload.block_tokens)"
    )


def _common_size(requests: Sequence[dict[str, Any]]) -> int | None:
    """The block size that all requests' numbers of hash ids fit, a power of two where one does; None where none fits or none tells."""
    if any(not values["hash_ids"] for values in requests):
        return None
    low = max(ceil(values["input_length"] / len(values["hash_ids"])) for values in requests)
    highest = [
        (values["input_length"] - 1) // (len(values["hash_ids"]) - 1)
        for values in requests
        if len(values["hash_ids"]) > 1
    ]
    high = min(highest, default=0)
    if low > high:
        return None
    power = 1 << (low - 1).bit_length()
    return power if power <= high else low


def _bailian_unit(values: dict[str, Any]) -> str:
    told = ", and workload.time_unit: s (this is Bailian's form, by its keys chat_id and parent_chat_id)"
    return told if all(key in values for key in BAILIAN) else ""


def _check_order(source: str, found: Sequence[tuple[str, dict[str, Any]]]) -> None:
    last: float = 0
    for where, values in found:
        if values["timestamp"] < last:
            raise UserError(
                f"{where}: timestamp {values['timestamp']} is before the last one, {last}; "
                "sort the trace by timestamp, from 0 on"
            )
        last = values["timestamp"]


def _check_time(source: str, requests: Sequence[dict[str, Any]], told: str | None) -> None:
    """Refuse a unit that makes requests come faster than engines serve them, or minutes apart, when another does not.

    Where none is told, milliseconds are refused, too, when seconds would do as well.
    """
    time_unit = told or _USUAL_UNIT
    if not requests:
        return
    bailian = all(key in requests[0] for key in BAILIAN)
    stamps = [values["timestamp"] for values in requests]
    units = ["s", "ms", "us"] if bailian else list(PER_SECOND)
    if bailian and time_unit != "s" and any(stamp != int(stamp) for stamp in stamps):
        raise UserError(
            f"{source}: timestamps such as {next(s for s in stamps if s != int(s))} in Bailian's form (chat_id, parent_chat_id) "
            f"are seconds, not {time_unit}: set workload.time_unit: s"
        )
    span = stamps[-1] - stamps[0]
    if len(stamps) < _LEAST_REQUESTS or not span:
        return
    most = _MOST_RPS_BAILIAN if bailian else _MOST_RPS

    def rate(unit: str) -> float:
        return (len(stamps) - 1) * PER_SECOND[unit] / span

    def fits(unit: str) -> bool:
        return 1 / _MOST_GAP_S <= rate(unit) <= most

    if told is None and fits(time_unit) and fits("s"):
        raise UserError(
            f"{source}: timestamps may be milliseconds ({rate(time_unit):.3g} requests/s) or seconds ({rate('s'):.3g}): set "
            f"workload.time_unit: s, or ms, whichever they are"
        )
    other = next((unit for unit in units if fits(unit)), None)
    if fits(time_unit) or other is None:
        return
    raise UserError(
        f"{source}: with timestamps in {time_unit} it has {rate(time_unit):.3g} requests/s, in {other} {rate(other):.3g}: set "
        f"workload.time_unit: {other}"
    )
