"""What every point of the profile shares, of a store and of a limit alike: how much it moves and what its record says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from ..base.digests import canonical_digest
from ..machine.environment import environment


def values_per_connection(point_bytes: int, value_bytes: int, connections: int) -> int:
    """How many values each connection moves: as many as point_bytes holds, the same for all, at least one."""
    return max(1, point_bytes // (value_bytes * connections))


def point_keys(purpose: str, repeat: int, count: int) -> list[bytes]:
    """`count` keys of 16 bytes that no other purpose and no other repeat has."""
    return [
        hashlib.blake2b(f"{purpose}/{repeat}/{i}".encode(), digest_size=16).digest() for i in range(count)
    ]


def throughput(moved_bytes: int, elapsed_s: float) -> dict[str, float | int]:
    """The three fields that say how fast a point was."""
    return {"moved_bytes": moved_bytes, "elapsed_s": elapsed_s, "gbps": moved_bytes / elapsed_s / 1e9}


def common_fields(spec: Mapping[str, Any], data_dir: Path) -> dict[str, Any]:
    """What a file adds to each of its records (OfOneFile): its slice of the config and the environment."""
    return {
        "spec": spec,
        "spec_digest": canonical_digest(spec),
        "environment": environment(data_dir),
    }


def on_each(workers: Executor, move: Callable[[int], None], connections: int) -> None:
    """move(worker) for every worker at once. Waits for all of them before raising the first error, so that no buffer is still being written."""
    futures = [workers.submit(move, worker) for worker in range(connections)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        raise errors[0]
