"""Requests with one hash id per block of their prompt: Mooncake's and Bailian's forms, which differ in block size and time unit.

Mooncake: kvcache-ai/Mooncake, FAST25-release: 512 tokens, milliseconds. Bailian: alibaba-edu/qwen-bailian-usagetraces-anon: 16
tokens, seconds, besides chat_id, parent_chat_id, type, turn. Each prompt is there whole, so that chats need no putting together.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from ...base.errors import UserError
from . import Columns
from .checks import check_blocks, check_order, check_time
from .lines import Record, at
from .reading import PER_SECOND, Asked, Filling, is_length, is_time, no_length, short


def read_hashed(records: Iterator[Record], asked: Asked) -> Columns:
    """Columns of Mooncake's or Bailian's records.

    Raises UserError "SOURCE:LINE: what; mend" for a record that is no request, hash_ids that are not one per block of
    block_tokens (with the block size that they fit, when they all fit one), a timestamp before the last one, and a time unit
    that the timestamps show to be wrong.
    """
    block_tokens, unit = asked.block_tokens or 0, asked.time_unit or ""
    found = Filling()
    for number, record in islice(records, asked.most):
        try:
            stamp, prompt = record["timestamp"], record["input_length"]
            answer, ids = record["output_length"], record["hash_ids"]
        except KeyError:
            asked.require(record, number)
            raise
        if not (is_time(stamp) and is_length(prompt) and is_length(answer) and type(ids) is list):
            raise UserError(f"{at(asked.where, number)}: {_wrong(record)}")
        if bool in map(type, ids) or not found.add_ids(ids):
            raise UserError(f"{at(asked.where, number)}: {_NO_IDS}")
        found.add(number, stamp, prompt, answer)
    check_blocks(asked.where, found, block_tokens)
    check_order(asked.where, found)
    check_time(asked, found)
    stamps = np.array(found.stamps)
    return found.columns(asked, block_tokens, (stamps - stamps[0]) / PER_SECOND[unit])


_NO_IDS = "hash_ids is no list of whole numbers or texts; write one id per block"


def _wrong(record: dict[str, Any]) -> str:
    if not is_time(record["timestamp"]):
        return f"timestamp is {short(record['timestamp'])}; write a number, in the unit of workload.time_unit"
    for name in ("input_length", "output_length"):
        if not is_length(record[name]):
            return no_length(name, record[name])
    return _NO_IDS
