"""Sections `experiment`, `evidence`, `figures`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .texts import Name
from .values import Count, OrNull, Positive, Section, Several, key, number, section, whole

Names = Several[Name]


class Slo(Section):
    """What an answer must keep to count as goodput; null for no bound."""

    ttft_ms: OrNull[Positive] = key("ms", "Time to first token.", None)
    itl_ms: OrNull[Positive] = key("ms", "Mean time between the answer's tokens.", None)


class Experiment(Section):
    """Which cells are measured."""

    scenarios: Annotated[Names, Field(min_length=1)] = key(
        "names", "Names of the scenarios to run, each a key of `scenarios`."
    )
    loads: Annotated[Several[Count], Field(min_length=1)] = key(
        "clients",
        "Active clients (closed loop) or conversations begun per second (open loop); one cell per load, all in one job.",
        [2, 4, 8],
    )
    loop: Literal["closed", "open"] = key(
        "word",
        "`closed`, a client sends its next request when the last is answered; `open`, conversations begin at Poisson "
        "times whatever the engine does (engine vllm). A Mooncake trace keeps its own times with engine vllm.",
        "closed",
    )
    slo: Slo = section(Slo)
    active_conversations: OrNull[Count] = key(
        "conversations",
        "Conversations under way at once, shared by the clients, who go round and round them (vLLM's "
        "--max-active-conversations); at least one per client. null for exactly one per client.",
        None,
    )
    repeats: Count = key(
        "repeats",
        "Independent repetitions, each with its own seed and fresh servers; the CI is over them.",
        3,
    )
    seed: whole(0, 400_000) = key(
        "number", "Seed of the workload; repeat r of every scenario sees the same requests.", 1
    )


class Evidence(Section):
    """What a cell must prove."""

    device_share_min: number(0, 1) = key(
        "share",
        "Bytes read from the block device per byte loaded that a cell of tier ssd needs to be valid; with engine vllm per "
        "byte that hits asked for, so that what an LMCache server still had in its buffer counts against it.",
        0.8,
    )


class Figures(Section):
    """What the figures compare."""

    baseline: Name | None = key(
        None,
        "Scenario that ratios are taken against; null for the first of tier dram in process.",
        None,
    )
    chunk_tokens: Count = key("tokens", "Chunk size at which scenarios are compared.", 64)
