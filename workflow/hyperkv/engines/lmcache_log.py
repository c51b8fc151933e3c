"""What LMCache inside vLLM says of itself in vLLM's log: the tokens it moved, how long that took, and its faults.

Its Prometheus counters come seconds late; the log has a line per request. Lines of LMCache 0.5:
"[req_id=…] Retrieved 1792 out of 1792 required tokens (…). size: 0.2188 gb, cost 22.6 ms, throughput: …" and
"[req_id=…] Stored 512 out of total 512 tokens. size: 0.0625 GB, cost 4.3 ms, …"; of our plugins: "striped: dropped 3 chunks, …",
"striped: left 3 chunks to be computed, …".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MOVED = re.compile(
    r"(Retrieved|Stored) (\d+) out of (?:total )?\d+ (?:required )?tokens.*?cost ([0-9.]+) ms"
)
_DROPPED = re.compile(r"striped: dropped (\d+) chunks")
_LEFT = re.compile(r"striped: left (\d+) chunks")
_FAULT = re.compile(
    r"LMCache ERROR|Timeout (?:writing to|reading from) socket|[Ff]ailed to (?:put|get|retrieve|store)|[Tt]imed? ?out"
)


@dataclass(frozen=True)
class Transfers:
    """Totals over some lines: tokens and seconds of loads and saves, as LMCache timed them, and lines of faults.

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


def transfers(lines: Iterable[str]) -> Transfers:
    """Read lines of the log."""
    tokens = {"Retrieved": 0, "Stored": 0}
    seconds = {"Retrieved": 0.0, "Stored": 0.0}
    faults, dropped, left = [], 0, 0
    for line in lines:
        if found := _MOVED.search(line):
            tokens[found[1]] += int(found[2])
            seconds[found[1]] += float(found[3]) / 1e3
        elif found := _DROPPED.search(line):
            dropped += int(found[1])
        elif found := _LEFT.search(line):
            left += int(found[1])
        elif _FAULT.search(line):
            faults.append(_plain(line))
    return Transfers(
        tokens["Retrieved"],
        seconds["Retrieved"],
        tokens["Stored"],
        seconds["Stored"],
        tuple(faults),
        dropped,
        left,
    )


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip()[:300]
