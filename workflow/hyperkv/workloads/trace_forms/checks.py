"""Whether a trace's block size and time unit fit its requests."""

from __future__ import annotations

import numpy as np

from ...base.errors import UserError
from .lines import at
from .reading import PER_SECOND, Asked, Filling

_TOLD_REQUESTS = 1000  # that tell the block size
_LEAST_REQUESTS = 10  # that a rate is worked out from
_MOST_RPS = 500.0
_MOST_RPS_BAILIAN = 50.0  # its own are below 25
_MOST_GAP_S = 60.0


def check_blocks(where: str, found: Filling, block_tokens: int) -> None:
    """One hash id per started block in every request, or one per whole block in every request."""
    inputs, counts = np.array(found.inputs), np.diff(np.array(found.starts))
    started = -(-inputs // block_tokens)
    if np.array_equal(counts, started) or np.array_equal(counts, inputs // block_tokens):
        return
    first = int(np.argmax(counts != started))
    told = f"{at(where, found.numbers[first])}: {counts[first]} hash_ids for input_length {inputs[first]}; "
    chosen = [first, *range(min(len(inputs), _TOLD_REQUESTS))]
    size = _common_size(inputs[chosen], counts[chosen])
    if size is not None and size != block_tokens:
        raise UserError(
            f"{told}all lines fit blocks of {size} tokens, not of {block_tokens}: set workload.block_tokens: {size}"
        )
    raise UserError(
        f"{told}write {started[first]}, one per started block of {block_tokens} tokens (workload.block_tokens)"
    )


def _common_size(inputs: np.ndarray, counts: np.ndarray) -> int | None:
    """The block size that all numbers of hash ids fit, a power of two where one does; None where none fits or none tells.

    n started blocks of a prompt p fit sizes b with p / n <= b < p / (n - 1), n whole ones those with p / (n + 1) < b <= p / n.
    """
    several = counts > 1
    if (counts < 1).any() or not several.any():
        return None
    started = (-(-inputs // counts)).max(), ((inputs - 1)[several] // (counts - 1)[several]).min()
    whole = (inputs // (counts + 1)).max() + 1, (inputs // counts).min()
    for low, high in (started, whole):
        if low <= high:
            power = 1 << (int(low) - 1).bit_length()
            return power if power <= high else int(low)
    return None


def check_order(where: str, found: Filling) -> None:
    """No timestamp before the last one, the first from 0 on."""
    stamps = np.array(found.stamps)
    back = np.flatnonzero(np.diff(stamps, prepend=0) < 0)
    if len(back):
        first = int(back[0])
        last = stamps[first - 1] if first else 0
        raise UserError(
            f"{at(where, found.numbers[first])}: timestamp {_number(stamps[first])} is before the last one, {_number(last)}; "
            "sort the trace by timestamp, from 0 on"
        )


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def check_time(asked: Asked, found: Filling) -> None:
    """Refuse a unit that makes requests come faster than engines serve them, or minutes apart, when another does not.

    Where none is told, a form's own is taken as it is, but for Mooncake's, which others write with other units: there
    milliseconds are refused, too, when seconds would do as well.
    """
    stamps, time_unit = np.array(found.stamps), asked.time_unit or ""
    bailian, fractions = asked.form == "bailian", np.flatnonzero(np.array(found.stamps) % 1)
    if bailian and time_unit != "s" and len(fractions):
        raise UserError(
            f"{asked.where}: timestamps such as {stamps[fractions[0]]} in Bailian's form (chat_id, parent_chat_id) "
            f"are seconds, not {time_unit}: set workload.time_unit: s"
        )
    span = stamps[-1] - stamps[0]
    own_unit = asked.told_unit is None and asked.form != "mooncake"
    if len(stamps) < _LEAST_REQUESTS or not span or own_unit:
        return
    most = _MOST_RPS_BAILIAN if bailian else _MOST_RPS

    def rate(unit: str) -> float:
        return (len(stamps) - 1) * PER_SECOND[unit] / span

    def fits(unit: str) -> bool:
        return 1 / _MOST_GAP_S <= rate(unit) <= most

    if asked.told_unit is None and time_unit == "ms" and fits("ms") and fits("s"):
        raise UserError(
            f"{asked.where}: timestamps may be milliseconds ({rate('ms'):.3g} requests/s) or seconds ({rate('s'):.3g}): set "
            f"workload.time_unit: s, or ms, whichever they are"
        )
    units = ["s", "ms", "us"] if bailian else list(PER_SECOND)
    other = next((unit for unit in units if fits(unit)), None)
    if fits(time_unit) or other is None:
        return
    raise UserError(
        f"{asked.where}: with timestamps in {time_unit} it has {rate(time_unit):.3g} requests/s, in {other} {rate(other):.3g}: "
        f"set workload.time_unit: {other}"
    )
