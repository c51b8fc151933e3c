"""Records of the sweep: a cell (one load of a scenario in one repeat) and single requests of an idle engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ..effective import Effective
from ..evidence import Evidence, ServedFrom
from .record import (
    Bytes,
    Count,
    Digest,
    Flag,
    Gbps,
    Milliseconds,
    Name,
    Part,
    Record,
    Requests,
    Seconds,
    Share,
    Text,
    Tokens,
    Unit,
    Word,
)


class Values(Part):
    """The figures of a cell, over the requests that arrived in the measured window."""

    requests: Requests
    """Requests that arrived in the measured window."""
    window_s: Seconds | None
    """Length of the measured window: until a client found no conversation left."""
    rps_per_gpu: Annotated[float | None, Unit("requests/s")]
    """Answers completed in the measured window per second of it and GPU."""
    goodput_rps: Annotated[float | None, Unit("requests/s")]
    """Of rps_per_gpu those that kept experiment.slo; empty without one."""
    tps_per_user: Annotated[float | None, Unit("tokens/s")]
    """Answer tokens over the sum of requests' times from arrival to last token."""
    ttft_p50_ms: Milliseconds | None
    """Time from arrival to first token, median over requests."""
    ttft_p95_ms: Milliseconds | None
    """The same, 95th percentile."""
    itl_p50_ms: Milliseconds | None
    """Mean time between a request's tokens, median over requests."""
    hit_rate: Share | None
    """Prompt tokens found in HBM or a tier over prompt tokens asked for."""
    external_hit_rate: Share | None
    """Prompt tokens found in a tier below HBM over prompt tokens asked for."""
    load_gbps: Gbps | None
    """Bytes loaded over time spent in lookups and loads, the copy to the GPU included; empty when nothing was loaded."""
    save_gbps: Gbps | None
    """Bytes saved over time spent saving, the copy from the GPU included."""
    save_stall_s: Seconds | None
    """Time the engine stood still because the staging pool was full."""
    gpu_busy_share: Share | None
    """Share of the run in which the GPU computed."""
    energy_j_per_mtoken: Annotated[float | None, Unit("J")]
    """Energy that this machine counts, evidence's cpu_energy_j and gpu_energy_j, per million prompt and answer tokens; empty
    where it counts none, and with engine replay."""


class RequestColumns(Part):
    """The requests of a cell in order of arrival, a list per column; null where an engine does not tell it per request."""

    conversation: Annotated[list[str | int], Unit("name")]
    """Conversation."""
    turn: Annotated[list[int], Unit("number")]
    """Turn of it, from 0."""
    client: Annotated[list[int | None], Unit("number")]
    """Client that sent it."""
    prompt_tokens: Annotated[list[int], Unit("tokens")]
    """Length of the prompt."""
    answer_tokens: Annotated[list[int], Unit("tokens")]
    """Length of the answer."""
    hbm_hit_tokens: Annotated[list[int | None], Unit("tokens")]
    """Of them found in HBM; engine vllm tells it of all requests together only (cells.csv)."""
    hit_tokens: Annotated[list[int | None], Unit("tokens")]
    """Prompt tokens found in HBM or a tier."""
    dram_hit_tokens: Annotated[list[int | None], Unit("tokens")]
    """Of them loaded from the DRAM pool; empty with engine vllm."""
    store_hit_tokens: Annotated[list[int | None], Unit("tokens")]
    """Of them loaded from the store; empty with engine vllm."""
    computed_tokens: Annotated[list[int | None], Unit("tokens")]
    """Prompt tokens computed; empty with engine vllm, where it is prompt_tokens - hit_tokens."""
    loaded_bytes: Annotated[list[int | None], Unit("bytes")]
    """Bytes loaded for it; empty with engine vllm."""
    arrival_s: Annotated[list[float], Unit("s")]
    """Arrival, from the start; virtual time with engine replay."""
    admitted_s: Annotated[list[float | None], Unit("s")]
    """HBM blocks were reserved."""
    loaded_s: Annotated[list[float | None], Unit("s")]
    """Its load was done."""
    load_s: Annotated[list[float | None], Unit("s")]
    """Time its load took."""
    first_token_s: Annotated[list[float], Unit("s")]
    """First token."""
    finish_s: Annotated[list[float], Unit("s")]
    """Last token."""
    in_window: Annotated[list[bool], Unit("boolean")]
    """Whether it arrived in the measured window."""


class Swept(Record):
    """What cell and single requests have in common: who was measured, with what, in which job."""

    added: ClassVar[frozenset[str]] = frozenset({"measured_in_job", "job_started_at", "job_s"})
    engine: Word
    """What served the requests; replay models the GPU's time, vllm is the real engine."""
    scenario: Name
    """Scenario, a complete configuration."""
    repeat: Count
    """Independent repetition, from 1; the same number sees the same requests in every scenario."""
    seed: Count
    """Seed of the cell's workload."""
    spec_digest: Digest
    """Names the scenario's slice of the config."""
    spec: dict[str, Any]
    model: Name
    """Model whose KV geometry is used."""
    gpus: Annotated[int, Unit("GPUs")]
    """GPUs that served the requests together, or are modelled to; figures per GPU are divided by it. 1 on a CPU."""
    kv_bytes_per_token: int | float
    chunk_bytes: Bytes
    """Bytes of one chunk below HBM, the value's size; with several GPUs and engine vllm each GPU's part of it is a value (of MLA the whole)."""
    started_at: Annotated[str, Unit("UTC time")]
    """When the cell was finished and its record made."""
    environment: dict[str, Any]
    asked: Effective
    effective: Effective
    valid: Flag
    """Whether the cell proves itself (docs/reading.md)."""
    reasons: Annotated[list[str], Unit("text")]
    """Why not."""
    start_s: Seconds
    """Wall time of starting the store."""
    cell_s: Seconds
    """Wall time of the cell, start and clean-up included."""
    measured_in_job: float | None = None
    job_started_at: float | None = None
    job_s: float | None = None


class Cell(Swept):
    """One load of one scenario in one repeat. gpu_model: the modelled GPU's figures, null with a real engine."""

    record: Literal["cell"] = "cell"
    load: Annotated[int | float, Unit("clients or 1/s")]
    """Active clients of a closed loop, or conversations that begin per second (loop)."""
    gpu_model: dict[str, Any] | None
    served_from: Annotated[ServedFrom, Unit("word")]
    """Where loaded bytes came from: recompute (no tier), nothing (no byte loaded), ram or ssd."""
    values: Values
    evidence: Evidence
    engine_counters: dict[str, int | None]
    engine_faults: list[str]
    store_before: dict[str, Any]
    store_after: dict[str, Any]
    notes: Annotated[list[Text], Unit("text")]
    """What the store says of itself, such as its version and settings that it ignored, and what was done to requests of a trace that were too long."""
    measured_s: Seconds
    """Wall time of the measurement."""
    requests: RequestColumns


class Pass(Part):
    """One of the two passes of a single request. faults: what the pair disproves, and this pass by itself.

    retrieve_s: that LMCache in process spent on the load. tokens: the answer's words. first_logprob: of the first of them.
    """

    kind: Literal["first", "again"] = Field(validation_alias="pass", serialization_alias="pass")
    prompt_tokens: Tokens
    cached_tokens: Tokens
    ttft_s: Seconds
    latency_s: Seconds
    tokens: list[str]
    first_logprob: float | None
    served_bytes: Bytes | None
    device_read_bytes: Bytes | None
    retrieved_tokens: Tokens | None
    retrieve_s: Seconds | None
    faults: list[str] = Field(default_factory=list)


class Single(Swept):
    """Single requests of one scenario in one repeat, by prompt length: each computed, then from the tier."""

    record: Literal["single"] = "single"
    load: None = None
    samples: list[Pass]
