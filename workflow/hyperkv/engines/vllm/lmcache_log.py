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

from ....plugin.lmcache_striped import shape
from ....plugin.lmcache_striped.file_counts import FileCounts, told_by

_MOVED = re.compile(
    r"(Retrieved|Stored) (\d+) out of (?:total )?\d+ (?:required )?tokens.*?cost ([0-9.]+) ms"
)
_DROPPED = re.compile(r"striped: dropped (\d+) chunks")
_LEFT = re.compile(r"striped: left (\d+) chunks")
_BY_GET = re.compile(r"striped: (.*what is not read from files is asked for by GET)")
_FAULT = re.compile(
    r"LMCache ERROR|Timeout (?:writing to|reading from) socket|[Ff]ailed to (?:put|get|retrieve|store)|[Tt]imed? ?out"
)


@dataclass(frozen=True)
class Transfers:
    """Totals over some lines: tokens and seconds of loads and saves, as LMCache timed them, and lines of faults.

    Of several ranks, which work at the same time, the mean: less than all tokens where one of them moved less.
    dropped_chunks: chunks that connector striped did not save, since its queue was full. left_chunks: that it had and did not
    load, since its queue was full. files: what connector direct read from files, None of another; by_get: its lines that say why
    it did not. shape: what a shaped device did, None without one.
    """

    retrieved_tokens: int
    retrieve_s: float
    stored_tokens: int
    store_s: float
    faults: tuple[str, ...]
    dropped_chunks: int = 0
    left_chunks: int = 0
    files: FileCounts | None = None
    by_get: tuple[str, ...] = ()
    shape: shape.Counts | None = None


def transfers(lines: Iterable[str], ranks: int = 1) -> Transfers:
    """Read lines of the log.

    ranks: values per chunk (KvShare.values_per_chunk). As many of vLLM's processes tell each of what it moved of a request;
    they write to one log at once, so that a line's beginning may be another's. A chunk that is dropped or left is so many
    values.
    """
    tokens, seconds = {"Retrieved": 0, "Stored": 0}, {"Retrieved": 0.0, "Stored": 0.0}
    faults, dropped, left, kept = [], 0, 0, list(lines)
    for line in kept:
        moved = _MOVED.findall(line)
        for kind, count, cost_ms in moved:
            tokens[kind] += int(count)
            seconds[kind] += float(cost_ms) / 1e3
        if moved:
            continue
        if found := _DROPPED.search(line):
            dropped += int(found[1])
        elif found := _LEFT.search(line):
            left += int(found[1])
        elif _FAULT.search(line):
            faults.append(_plain(line))
    return Transfers(
        tokens["Retrieved"] // ranks,
        seconds["Retrieved"] / ranks,
        tokens["Stored"] // ranks,
        seconds["Stored"] / ranks,
        tuple(faults),
        -(-dropped // ranks),
        -(-left // ranks),
        told_by(kept),
        tuple(dict.fromkeys(found[1] for line in kept if (found := _BY_GET.search(line)))),
        shape.told_by(kept),
    )


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip()[:300]
