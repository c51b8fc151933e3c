"""What LMCache inside vLLM says of itself in vLLM's log: the tokens it moved, how long that took, and its faults.

Its Prometheus counters come seconds late; the log has a line per request. Lines of LMCache 0.5:
"[req_id=…] Retrieved 1792 out of 1792 required tokens (…). size: 0.2188 gb, cost 22.6 ms, throughput: …" and
"[req_id=…] Stored 512 out of total 512 tokens. size: 0.0625 GB, cost 4.3 ms, …"; of our plugins: "striped: dropped 3 chunks, …",
"striped: left 3 chunks to be computed, …".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_MOVED = re.compile(
    r"(Retrieved|Stored) (\d+) out of (?:total )?\d+ (?:required )?tokens.*?cost ([0-9.]+) ms"
)
_WORKER = re.compile(r"\((Worker\S*) pid=\d+\)")
_DROPPED = re.compile(r"striped: dropped (\d+) chunks")
_LEFT = re.compile(r"striped: left (\d+) chunks")
_FAULT = re.compile(
    r"LMCache ERROR|Timeout (?:writing to|reading from) socket|[Ff]ailed to (?:put|get|retrieve|store)|[Tt]imed? ?out"
)


@dataclass(frozen=True)
class Transfers:
    """Totals over some lines: tokens and seconds of loads and saves, as LMCache timed them, and lines of faults.

    A token is moved when every rank has moved its part of it; ranks work at the same time, and the slowest counts.
    dropped_chunks: chunks that connector striped did not save, since its queue was full. left_chunks: that it had and did not
    load, since its queue was full.
    """

    retrieved_tokens: int
    retrieve_s: float
    stored_tokens: int
    store_s: float
    faults: tuple[str, ...]
    dropped_chunks: int = 0
    left_chunks: int = 0


def transfers(lines: Iterable[str], ranks: int = 1) -> Transfers:
    """Read lines of the log.

    ranks: values per chunk (KvShare.values_per_chunk). As many of vLLM's processes have a line each for what they moved of
    a request, told apart by vLLM's prefix `(Worker_TP0 pid=…)` where they have it, and a chunk that is dropped or left is so
    many values.
    """
    tokens: dict[str, dict[str, int]] = {"Retrieved": {}, "Stored": {}}
    seconds: dict[str, dict[str, float]] = {"Retrieved": {}, "Stored": {}}
    faults, dropped, left = [], 0, 0
    for line in lines:
        if found := _MOVED.search(line):
            kind, rank = found[1], _rank_of(line)
            tokens[kind][rank] = tokens[kind].get(rank, 0) + int(found[2])
            seconds[kind][rank] = seconds[kind].get(rank, 0.0) + float(found[3]) / 1e3
        elif found := _DROPPED.search(line):
            dropped += int(found[1])
        elif found := _LEFT.search(line):
            left += int(found[1])
        elif _FAULT.search(line):
            faults.append(_plain(line))
    return Transfers(
        _by_all(tokens["Retrieved"], ranks),
        _by_slowest(seconds["Retrieved"], ranks),
        _by_all(tokens["Stored"], ranks),
        _by_slowest(seconds["Stored"], ranks),
        tuple(faults),
        -(-dropped // ranks),
        -(-left // ranks),
    )


def _rank_of(line: str) -> str:
    found = _WORKER.search(line)
    return found[1] if found else ""


def _by_all(tokens: Mapping[str, int], ranks: int) -> int:
    """Tokens that every rank moved: none while one of them has not told. Those of lines without a rank are shared evenly."""
    if set(tokens) == {""}:
        return tokens[""] // ranks
    return min(tokens.values(), default=0) if len(tokens) >= ranks else 0


def _by_slowest(seconds: Mapping[str, float], ranks: int) -> float:
    if set(seconds) == {""}:
        return seconds[""] / ranks
    return max(seconds.values(), default=0.0)


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip()[:300]
