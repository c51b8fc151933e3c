"""Sections `experiment`, `evidence`, `figures`, `ladder`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WrapValidator

from .texts import Key, Name
from .values import (
    Count,
    Gbps,
    Load,
    Number,
    OrNull,
    Positive,
    Section,
    Several,
    Whole,
    as_it_is,
    key,
    section,
)

Names = Several[Name]
_Latency = Annotated[float, Field(ge=0, le=1_000_000), WrapValidator(as_it_is)]


class Slo(Section):
    """What an answer must keep to count as goodput; null for no bound."""

    ttft_ms: OrNull[Positive] = key(None, unit="ms")
    """Time to first token."""
    itl_ms: OrNull[Positive] = key(None, unit="ms")
    """Mean time between the answer's tokens."""


class Devices(Section):
    """Scenarios that are measured as they are and behind a device of each of these descriptions (scenario key shape): table and figure
    `array` show which pays (config/experiments/array.yaml)."""

    scenarios: Names = key([])
    """Names among `scenarios`; each becomes NAME and one NAME-2gbps per device. The other keys of its own shape stay."""
    gbps: Several[Gbps] = key([], unit="10^9 bytes/s")
    """GB/s of the devices, for loads; saves are as the scenario's own shape has them."""
    latency_us: Several[_Latency] = key([], unit="us")
    """Latencies of the devices, each with each of gbps and named NAME-2gbps-80us; empty for that of the scenario's own shape."""


class Experiment(Section):
    """Which cells are measured."""

    scenarios: Annotated[Names, Field(min_length=1)] = key(unit="names")
    """Names of the scenarios to run, each a key of `scenarios`."""
    array: Devices = section(Devices)
    loads: Annotated[Several[Load], Field(min_length=1)] = key([2, 4, 8], unit="clients or 1/s")
    """Active clients (closed loop; whole numbers) or conversations begun per second (open loop; also 0.4); one cell per load, all
    in one job."""
    loop: Literal["closed", "open"] = "closed"
    """`closed`, a client sends its next request when the last is answered; `open`, conversations begin at
    Poisson times whatever the engine does (engine vllm). A trace keeps its own times with engine
    vllm."""
    slo: Slo = section(Slo)
    active_conversations: OrNull[Count] = key(None, unit="conversations")
    """Conversations under way at once, shared by the clients, who go round and round them (vLLM's
    --max-active-conversations); at least one per client. null for exactly one per client."""
    engines: Whole = key(1, unit="engines", ge=1, le=64)
    """Engines that serve the clients together, each on vllm.tensor_parallel GPUs of its own and with an HBM cache, a DRAM pool and a
    staging buffer of its own, of the sizes that the keys say. The store below is one for all of them (scenario keys shared and routing).
    Table and figure `sharing` show what one engine saved and another found (config/experiments/sharing.yaml)."""
    repeats: Count = key(3, unit="repeats")
    """Independent repetitions, each with its own seed and fresh servers; the CI is over them."""
    seed: Whole = key(1, unit="number", ge=0, le=400_000)
    """Seed of the workload; repeat r of every scenario sees the same requests."""


class Evidence(Section):
    """What a cell must prove."""

    device_share_min: Number = key(0.8, unit="share", ge=0, le=1)
    """Bytes read from the block device per byte loaded that a cell of tier ssd needs to be valid; with
    engine vllm per byte that hits asked for, so that what an LMCache server still had in its buffer
    counts against it."""


class Figures(Section):
    """What the figures compare."""

    baseline: Name | None = None
    """Scenario that ratios are taken against; null for the first of tier dram in process."""
    chunk_tokens: Count = key(64, unit="tokens")
    """Chunk size at which scenarios are compared."""


StepName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9 _-]*$")]


class Step(Section):
    """The steps by name, in their order; the first is what is compared with."""

    scenario: Name
    """Scenario of experiment.scenarios that has this step and all before it."""
    changes: Several[Key] = key([])
    """Keys of the scenario in which it differs from the one before, no more and no fewer; settings.KEY
    and environment.NAME for keys in these. Empty for the first."""


class Ladder(Section):
    """Scenarios each of which differs from the one before by a named step, and what every step brings (`snakemake ladder`, config/experiments/ladder.yaml)."""

    steps: dict[StepName, Step] = Field({})
    beside: Names = key([])
    """Scenarios of experiment.scenarios that are drawn beside the steps, such as no cache or DRAM."""
