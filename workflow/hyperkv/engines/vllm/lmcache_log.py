"""What LMCache inside vLLM says of itself in vLLM's log: the tokens it moved, how long that took, and its faults.

Its Prometheus counters come seconds late; the log has a line per request. Lines of LMCache 0.5:
"[req_id=…] Retrieved 1792 out of 1792 required tokens (…). size: 0.2188 gb, cost 22.6 ms, throughput: …" and
"[req_id=…] Stored 512 out of total 512 tokens. size: 0.0625 GB, cost 4.3 ms, …"; of our plugins: "striped: dropped 3 chunks, …", and what
file_counts.py and gate_counts.py tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ....plugin.lmcache_striped import gate_counts, savers, second_use, shape
from ....plugin.lmcache_striped.file_counts import FileCounts, told_by
from ....plugin.lmcache_striped.gate_counts import GateCounts

_MOVED = re.compile(
    r"(Retrieved|Stored) (\d+) out of (?:total )?\d+ (?:required )?tokens.*?cost ([0-9.]+) ms"
)
_DROPPED = re.compile(r"striped: dropped (\d+) chunks")
_GATE = re.compile(r"striped: (gate\b.*|gate_.*)")
_BY_GET = re.compile(r"striped: (.*what is not read from files is asked for by GET)")
_UNHEARD = "entering degraded mode"
_FAULT = re.compile(
    r"LMCache ERROR|Timeout (?:writing to|reading from) socket|[Ff]ailed to (?:put|get|retrieve|store)|[Tt]imed? ?out"
)
_WITHOUT_SERVER = (
    "LMCache's server did not answer vLLM in time, which went on without it for a while: what was asked meanwhile was computed",
)


@dataclass(frozen=True)
class Transfers:
    """Totals over some lines: tokens and seconds of loads and saves, as LMCache timed them, and lines of faults.

    Of several ranks, which work at the same time, the mean: less than all tokens where one of them moved less.
    dropped_chunks: chunks that connector striped did not save, since its queue was full. gate: what a gate decided, None without one.
    files: what connector direct read from files, None of another; by_get: its lines that say why it did not. first_use_chunks: that
    were not saved for want of a second use. shape: what a shaped device did, None without one. savers: values that were loaded, and of
    them those that another engine saved, None where nobody tells. unheard: a note where vLLM went on without LMCache's server.
    """

    retrieved_tokens: int
    retrieve_s: float
    stored_tokens: int
    store_s: float
    faults: tuple[str, ...]
    dropped_chunks: int = 0
    gate: GateCounts | None = None
    files: FileCounts | None = None
    by_get: tuple[str, ...] = ()
    first_use_chunks: int = 0
    shape: shape.Counts | None = None
    savers: savers.SaverCounts | None = None
    unheard: tuple[str, ...] = ()


def transfers(lines: Iterable[str], ranks: int = 1) -> Transfers:
    """Read lines of the log.

    ranks: values per chunk (KvShare.values_per_chunk). As many of vLLM's processes tell each of what it moved of a request;
    they write to one log at once, so that a line's beginning may be another's. A chunk that is dropped or not saved is so many values,
    and so many gates decide of a lookup.
    """
    tokens, seconds = {"Retrieved": 0, "Stored": 0}, {"Retrieved": 0.0, "Stored": 0.0}
    faults, dropped, first_uses, kept = [], 0, 0, list(lines)
    for line in kept:
        moved = _MOVED.findall(line)
        for kind, count, cost_ms in moved:
            tokens[kind] += int(count)
            seconds[kind] += float(cost_ms) / 1e3
        if moved:
            continue
        if found := _DROPPED.search(line):
            dropped += int(found[1])
        elif chunks := second_use.told_by(line):
            first_uses += chunks
        elif _FAULT.search(line) and not _GATE.search(line) and not _BY_GET.search(line):
            faults.append(line.strip()[:300])
    return Transfers(
        tokens["Retrieved"] // ranks,
        seconds["Retrieved"] / ranks,
        tokens["Stored"] // ranks,
        seconds["Stored"] / ranks,
        tuple(faults),
        -(-dropped // ranks),
        _of_one(gate_counts.told_by(kept), ranks),
        told_by(kept),
        tuple(dict.fromkeys(found[1] for line in kept if (found := _BY_GET.search(line)))),
        first_uses // ranks,
        shape.told_by(kept),
        savers.told_by(kept),
        _WITHOUT_SERVER if any(_UNHEARD in line for line in kept) else (),
    )


def _of_one(gate: GateCounts | None, ranks: int) -> GateCounts | None:
    if gate is None:
        return None
    counted = ("lookups", "present_chunks", "found_chunks")
    return replace(gate, **{name: -(-getattr(gate, name) // ranks) for name in counted})
