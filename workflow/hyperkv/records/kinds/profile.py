"""Records of the profile and of the array's baseline: points of a store, limits of a machine, rungs of the layers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .record import Bytes, Count, Flag, Gbps, Name, OfOneFile, Part, Seconds, Unit, Word

Faults = Annotated[int, Unit("faults")]
Connections = Annotated[int, Unit("connections")]
PointOperation = Literal["set", "get_warm", "get_cold"]
RungOperation = Literal["set", "get"]


class Point(OfOneFile):
    """One operation of one store at one value size and number of connections. settled_*: of a SET that got cold after it."""

    record: Literal["point"] = "point"
    scenario: Name
    repeat: Count
    value_bytes: Bytes
    connections: Connections
    operation: PointOperation
    cold: Flag
    notes: list[str]
    moved_bytes: Bytes
    elapsed_s: Seconds
    gbps: Gbps
    store_cpu_s: Seconds | None
    store_page_faults: Faults | None
    store_rss_bytes: Bytes | None
    device_read_bytes: Bytes | None
    device_write_bytes: Bytes | None
    settled_write_bytes: Bytes | None = None
    settled_set_bytes: Bytes | None = None
    store_before: dict[str, Any]
    store_after: dict[str, Any]
    measured_at: str


class Limit(OfOneFile):
    """What the machine allows at one value size and number of connections. elapsed_s: of the fastest pass; cpu_s: of the mean one."""

    record: Literal["limit"] = "limit"
    limit: Word
    repeat: Count
    value_bytes: Bytes
    connections: Connections
    moved_bytes: Bytes
    elapsed_s: Seconds
    gbps: Gbps
    passes: Count
    cpu_s: Seconds | None
    measured_at: str


class Baseline(OfOneFile):
    """What the device under data_dir did at one block size and queue depth. md_uuid: of the array that it is, if it is one."""

    added: ClassVar[frozenset[str]] = OfOneFile.added | {"md_uuid"}
    record: Literal["baseline"] = "baseline"
    repeat: Count
    pattern: Literal["sequential", "random", "values"]
    operation: Literal["read", "write"]
    block_bytes: Bytes
    queue_depth: Count
    measured_at: str
    tool: str
    moved_bytes: Bytes
    elapsed_s: Seconds
    gbps: Gbps
    iops: float
    latency_mean_ms: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    cpu_s: Seconds | None
    md_uuid: str | None = None


class Moved(Part):
    """What moving values took, all passes together; all null where nothing was measured, and `notes` say why.

    cold: whether a GET met a store that had to read, null where that does not matter. threads: CPU seconds of the server's
    threads. sampled: shares of the server's CPU by category, of `samples` stacks.
    """

    elapsed_s: Seconds | None = None
    moved_bytes: Bytes | None = None
    passes: Count | None = None
    s_per_gb: float | None = None
    server_cpu_s: Seconds | None = None
    client_cpu_s: Seconds | None = None
    server_page_faults: Faults | None = None
    client_page_faults: Faults | None = None
    cold: Flag | None = None
    threads: dict[str, Any] | None = None
    sampled: dict[str, float] | None = None
    samples: int = 0
    notes: list[str] = Field(default_factory=list)


class Rung(OfOneFile, Moved):
    """One operation of one rung of the layers."""

    record: Literal["rung"] = "rung"
    scenario: Name
    repeat: Count
    value_bytes: Bytes
    connections: Connections
    rung: str
    operation: RungOperation
    measured_at: str
