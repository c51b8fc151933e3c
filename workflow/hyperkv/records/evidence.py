"""Whether a cell proves itself: its evidence, and pure rules from it to valid, reasons and served_from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ...plugin.lmcache_striped.shape import HELD, Device, Moved
from .kinds.record import Bytes, Chunks, Gbps, Joules, Part, Requests, Seconds, Share, Tokens, Unit

_EXCESS = 1.5
_MIXED, _OWN_BYTES = 1.1, 64 << 20  # what lookups, heads and proofs of ours may add
_CALLS = {"read": "loads", "write": "saves"}
_NOT_SAVED = re.compile(r"(\d+) chunks were not saved: (.+)")


class Evidence(Part):
    """What a cell proves itself with, totals of its whole run. Every engine fills every key: null where it cannot know."""

    sent_requests: Requests | None
    """Requests sent."""
    failed_requests: Requests | None
    """Requests that got no complete answer."""
    queried_tokens: Tokens | None
    """Prompt tokens of all requests."""
    hbm_hit_tokens: Tokens | None
    """Of them found in HBM."""
    dram_hit_tokens: Tokens | None
    """Of them loaded from the DRAM pool."""
    store_hit_tokens: Tokens | None
    """Of them loaded from the store."""
    other_hit_tokens: Tokens | None
    """Several engines. Of store_hit_tokens those of chunks that another engine had saved, and the one that loaded them had not; empty with
    one engine, and where nobody tells."""
    hit_tokens: Tokens | None
    """Sum of the three."""
    computed_tokens: Tokens | None
    """Prompt tokens computed."""
    retrieved_tokens: Tokens | None
    """Engine vllm with LMCache in process. Tokens that LMCache's log says it loaded; fewer than vLLM counts as hits make the cell invalid."""
    loaded_bytes: Bytes | None
    """Bytes the engine received from the store, not those from a DRAM pool before it, and compared with what was saved."""
    saved_bytes: Bytes | None
    """Bytes the engine saved."""
    served_bytes: Bytes | None
    """Bytes the store says it served; a server counts RESP bytes sent. With connector direct those read from its files as well."""
    taken_bytes: Bytes | None
    """Bytes the store says it took; a server counts RESP bytes received."""
    store_hits: Annotated[int | None, Unit("GETs")]
    """GETs the store answered with a value."""
    store_misses: Annotated[int | None, Unit("GETs")]
    """GETs of missing keys."""
    device_read_bytes: Bytes | None
    """Bytes the store's process caused to be read from a block device (/proc/PID/io)."""
    device_write_bytes: Bytes | None
    """Bytes it caused to be written."""
    block_read_bytes: Bytes | None
    """Bytes read from the data directory's block device by the whole machine."""
    block_write_bytes: Bytes | None
    """Bytes written to it by the whole machine."""
    store_cpu_s: Seconds | None
    """CPU time of the store's process; in process it includes the engine's own."""
    store_rss_bytes: Bytes | None
    """Resident memory of the store's process at the end."""
    store_page_faults: Annotated[int | None, Unit("faults")]
    """Page faults of the store's process."""
    store_errors: Annotated[int | None, Unit("errors")]
    """Background errors that the store reports; empty for a store that reports none."""
    corrupt_chunks: Chunks | None
    """Chunks that came back with wrong bytes."""
    damaged_chunks: Chunks | None
    """Connector striped, chunks that were whole in the store but did not prove themselves, and became misses; empty for the others."""
    file_stripes: Annotated[int | None, Unit("stripes")]
    """Connector direct, stripes that were read from the store's files; their bytes are part of served_bytes."""
    get_stripes: Annotated[int | None, Unit("stripes")]
    """Connector direct, stripes that were asked for by GET."""
    retried_stripes: Annotated[int | None, Unit("stripes")]
    """Of these, those that were said to lie in a file, and were not read there or did not prove themselves."""
    store_read_gbps: Gbps | None
    """Bytes that the store's connector loaded over the time that the store itself took for it, lookups and a shaped device apart; empty where nobody counts it."""
    store_write_gbps: Gbps | None
    """The same of what it saved."""
    shaped_read_gbps: Gbps | None
    """Scenario key shape: bytes loaded over the time that it took, held back by the stated device."""
    shaped_read_share: Share | None
    """That over what the stated device gives of these loads; more than 3 % from 1, and the cell is invalid. Empty without read_gbps."""
    shaped_write_gbps: Gbps | None
    """As shaped_read_gbps of what was saved."""
    shaped_write_share: Share | None
    """As shaped_read_share of what was saved."""
    network_rtt_s: Seconds | None
    """Scenario key place: a round trip to the store's server, median of PINGs before the cell; of several servers the slowest. Empty for a
    store of this machine."""
    network_gbps: Gbps | None
    """As network_rtt_s: GB/s of one value of 1 MiB that four connections get again and again, so that the server has it in memory."""
    dropped_chunks: Chunks | None
    """Chunks not saved for want of room: in the pool or buffer before a store, or among the saves that wait."""
    first_use_chunks: Chunks | None
    """Chunks not saved because they came to be saved for the first time, with a scenario's save second_use; not in saved_bytes."""
    gate_lookups: Annotated[int | None, Unit("lookups")]
    """Lookups of which a gate decided how much they find; empty without a gate, as the rest of it."""
    gate_found_chunks: Chunks | None
    """Chunks that they found."""
    gate_left_chunks: Chunks | None
    """Chunks that were there and that they left to be computed, since that was predicted to be better."""
    gate_load_error: Share | None
    """|predicted - taken| / taken of the seconds from a lookup until what it found was loaded, median."""
    gate_load_error_p90: Share | None
    """The same, 90th percentile."""
    gate_prompt_error: Share | None
    """|predicted - taken| / taken of the seconds from a lookup until the rest was computed, median over prompts with a new chunk."""
    gate_prompt_error_p90: Share | None
    """The same, 90th percentile."""
    cpu_energy_j: Joules | None
    """Energy of all CPU packages, and of memory where it is counted beside them (RAPL, which root may read), from the first request
    sent until the last answer; empty where the machine does not tell, and with engine replay."""
    gpu_energy_j: Joules | None
    """The same of the GPUs in use (NVML)."""
    device_share: Share | None
    """device_read_bytes over loaded_bytes; empty when nothing was loaded."""
    write_amplification: Annotated[float | None, Unit("ratio")]
    """device_write_bytes over saved_bytes, during the cell; what was still in memory at its end is not in it."""
    store_cpu_s_per_gb: Annotated[float | None, Unit("s/GB")]
    """store_cpu_s per 10^9 bytes loaded and saved."""

    @classmethod
    def of(cls, **counted: Any) -> Evidence:
        """From all that was counted; the quotients of it are made here."""
        saved, loaded = counted["saved_bytes"], counted["loaded_bytes"]
        moved_gb = None if saved is None or loaded is None else (saved + loaded) / 1e9
        return cls(
            **counted,
            device_share=quotient(counted["device_read_bytes"], loaded),
            write_amplification=quotient(counted["device_write_bytes"], saved),
            store_cpu_s_per_gb=quotient(counted["store_cpu_s"], moved_gb),
        )

    @classmethod
    def unknown(cls) -> Evidence:
        """Of a cell that could not be measured."""
        return cls(**dict.fromkeys(cls.model_fields))


def shape_evidence(counts: Mapping[str, Moved] | None, device: Device) -> dict[str, float | None]:
    """The evidence of a connector's calls. counts: by way, None where nobody counts them. device: what was stated; a way without GB/s
    moves as many as the store has, so that there is nothing to hold them against."""
    found: dict[str, float | None] = {}
    for way in ("read", "write"):
        moved = Moved() if counts is None else counts.get(way, Moved())
        found |= {
            f"store_{way}_gbps": moved.store_gbps,
            f"shaped_{way}_gbps": moved.gbps if device.is_stated and moved.share else None,
            f"shaped_{way}_share": moved.share if getattr(device, f"{way}_gbps") else None,
        }
    return found


ServedFrom = Literal["recompute", "nothing", "ram", "ssd", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """valid: may be drawn as a result. reasons: why not. served_from: where loaded bytes came from.

    served_from is "recompute" (no tier below HBM), "nothing" (a tier, but no byte was loaded), "ram", "ssd", or "unknown" where nobody tells
    what a device read.
    """

    valid: bool
    reasons: tuple[str, ...]
    served_from: ServedFrom


def served_from_ram(share: float | None, least: float, moved: str = "loaded") -> str:
    """The reason when the device's share of what was moved is too small, or not known. moved: the word for that."""
    if share is None:
        return f"not proved to be served from the device: nobody tells what it read, at least {least:.0%} of bytes {moved} needed"
    return f"served from RAM: device reads {share:.0%} of bytes {moved}, at least {least:.0%} needed"


def excess(evidence: Evidence) -> list[str]:
    """A note when the store read far more than it served: the excess is no proof that what it served came from there."""
    if evidence.device_share is None or evidence.device_share < _EXCESS:
        return []
    return [f"the store read {evidence.device_share:.1f} bytes from the device per byte loaded"]


def mixed_in(evidence: Evidence) -> list[str]:
    """A note when the store's counters have far more than this cell moved: others use the store as well."""
    ways = (
        ("served", evidence.served_bytes, evidence.loaded_bytes),
        ("took", evidence.taken_bytes, evidence.saved_bytes),
    )
    return [
        f"the store {word} {counted:,} bytes and {own:,} are this cell's: others' traffic is in its counters"
        for word, counted, own in ways
        if counted is not None and own is not None and counted > _MIXED * own + _OWN_BYTES
    ]


def not_saved(chunks: int, why: str) -> list[str]:
    """A note when chunks were not saved for want of room. why: what had none, and the key that makes it larger."""
    return [f"{chunks} chunks were not saved: {why}"] if chunks else []


def told_not_saved(notes: Iterable[str]) -> dict[str, int]:
    """Chunks by why they were not saved, of such notes among others."""
    found: dict[str, int] = {}
    for note in notes:
        if told := _NOT_SAVED.fullmatch(note):
            found[told[2]] = found.get(told[2], 0) + int(told[1])
    return found


def quotient(part: float | None, whole: float | None) -> float | None:
    """part / whole; None when either is unknown or the whole is 0."""
    return None if part is None or not whole else part / whole


def judge(tier: str, evidence: Evidence, device_share_min: float) -> Verdict:
    """Apply the rules of a record to its evidence.

    tier: "none", "dram" or "ssd". device_share_min: share of loaded bytes that must have come from the device for an `ssd` cell.
    """
    served_from = _served_from(tier, evidence, device_share_min)
    reasons = []
    if evidence.failed_requests:
        reasons.append(f"{evidence.failed_requests} requests failed")
    if evidence.corrupt_chunks:
        reasons.append(f"{evidence.corrupt_chunks} chunks came back with wrong bytes")
    if evidence.damaged_chunks:
        reasons.append(f"{evidence.damaged_chunks} chunks were damaged in the store, and counted as misses")
    if evidence.store_errors:
        reasons.append(f"the store reports {evidence.store_errors} background errors")
    hit, computed, queried = evidence.hit_tokens, evidence.computed_tokens, evidence.queried_tokens
    if hit is None or computed is None or queried is None:
        reasons.append(f"how many of {queried} tokens queried were hit or computed is not known")
    elif hit + computed != queried:
        reasons.append(f"{hit + computed} tokens hit or computed of {queried} queried")
    others, of_store = evidence.other_hit_tokens, evidence.store_hit_tokens
    if others is not None and of_store is not None and others > of_store:
        reasons.append(f"{others} tokens were hits of what another engine saved, and {of_store} of the store")
    served, loaded = evidence.served_bytes, evidence.loaded_bytes
    if served is not None and loaded is not None and served < loaded:
        reasons.append(f"the store served {served:,} bytes, the engine loaded {loaded:,}")
    reasons += [reason for way in ("read", "write") if (reason := _not_held(evidence, way))]
    if tier == "ssd" and served_from in ("ram", "unknown"):
        reasons.append(served_from_ram(evidence.device_share, device_share_min))
    return Verdict(not reasons, tuple(reasons), served_from)


def _not_held(evidence: Evidence, way: str) -> str | None:
    """Why what was moved one way is not as the stated device has it: the store is slower, or this machine wakes too late."""
    came, share, store = (
        getattr(evidence, f"{name}_{way}_{unit}")
        for name, unit in (("shaped", "gbps"), ("shaped", "share"), ("store", "gbps"))
    )
    if share is None or abs(share - 1) <= HELD:
        return None
    told = (
        f"shape: {_CALLS[way]} went at {came:.3g} GB/s, {share:.0%} of what the stated device gives of them"
    )
    mend = f"lower shape.{way}_gbps or raise shape.latency_us, choose a faster store, or leave the machine to the run"
    return f"{told}; the store itself {way}s {store:.3g} GB/s of the same: {mend}"


def _served_from(tier: str, evidence: Evidence, least: float) -> ServedFrom:
    if tier == "none":
        return "recompute"
    if not evidence.loaded_bytes:
        return "nothing"
    if tier != "ssd":
        return "ram"
    share = evidence.device_share
    return "unknown" if share is None else "ssd" if share >= least else "ram"
