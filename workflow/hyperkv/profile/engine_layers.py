"""The layers that only an engine's environment has: the copy between GPU and pinned memory, and LMCache's own client.

torch and lmcache are imported when a rung is measured, and a rung that cannot be has the reason in its record.
NOT YET RUN: no machine with a GPU and LMCache has measured these rungs; their code is written from the libraries' interfaces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from time import perf_counter

from ...plugin.lmcache_striped.deadline import Endpoint
from ..records.kinds.profile import Moved

_PASSES = 5
RUNGS = ("gpu_copy", "lmcache_resp", "serde_naive", "serde_cachegen")
_SERDE = "not measured: LMCache's serializers take its own memory objects, and this module makes none"


def unavailable(rung: str) -> str | None:
    """Why a rung cannot be measured here, None when it can."""
    if rung.startswith("serde_"):
        return _SERDE
    module = "torch" if rung == "gpu_copy" else "lmcache"
    if find_spec(module) is None:
        return f"{module} is not installed"
    if find_spec("torch") is None:
        return "torch is not installed"
    import torch

    return None if torch.cuda.is_available() else "torch sees no GPU"


def measure(
    endpoint: Endpoint, value_bytes: int, connections: int, count: int
) -> Iterator[tuple[str, str, Moved]]:
    """Rung, operation and what it took, the mean of some passes; or a reason in its notes.

    endpoint: a RESP server for LMCache's client. SET is GPU to host, GET is host to GPU.
    """
    for rung in RUNGS:
        reason = unavailable(rung)
        moves: dict[str, Callable[[], object]] = {}
        if reason is None:
            try:
                moves = (
                    _copies(value_bytes, count)
                    if rung == "gpu_copy"
                    else _lmcache(endpoint, value_bytes, connections, count)
                )
            except Exception as error:  # another version of a library: no reason to lose the other rungs
                reason = f"{type(error).__name__}: {error}"
        for operation in ("set", "get"):
            moved = Moved(notes=[reason] if reason else [])
            if operation in moves:
                elapsed_s, moved_bytes = _mean_s(moves[operation]), value_bytes * count
                s_per_gb = elapsed_s / moved_bytes * 1e9
                moved = Moved(elapsed_s=elapsed_s, moved_bytes=moved_bytes, passes=_PASSES, s_per_gb=s_per_gb)
            yield rung, operation, moved


def _mean_s(move: Callable[[], object]) -> float:
    move()
    started = perf_counter()
    for _ in range(_PASSES):
        move()
    return (perf_counter() - started) / _PASSES


def _copies(value_bytes: int, count: int) -> dict[str, Callable[[], object]]:
    import torch

    host = torch.empty((count, value_bytes), dtype=torch.uint8, pin_memory=True)
    device = torch.empty((count, value_bytes), dtype=torch.uint8, device="cuda")

    def copy(source: torch.Tensor, target: torch.Tensor) -> None:
        for index in range(count):
            target[index].copy_(source[index], non_blocking=True)
        torch.cuda.synchronize()

    return {"set": lambda: copy(device, host), "get": lambda: copy(host, device)}


def _lmcache(
    endpoint: Endpoint, value_bytes: int, connections: int, count: int
) -> dict[str, Callable[[], object]]:
    from lmcache.v1.storage_backend.native_clients.resp_client import RESPClient

    loop = asyncio.new_event_loop()
    password = "" if endpoint.password is None else endpoint.password.value()
    client = RESPClient(endpoint.host, endpoint.port, connections, loop, password=password)
    keys = [f"lmcache-{index}" for index in range(count)]
    views = [memoryview(bytearray(value_bytes)) for _ in keys]
    return {
        "set": lambda: loop.run_until_complete(client.batch_set(keys, views)),
        "get": lambda: loop.run_until_complete(client.batch_get(keys, views)),
    }
