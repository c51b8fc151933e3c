"""The rungs of the layers: the same values moved through one layer more each time, for the differences between them.

A rung is one SET and one GET of point_bytes at one value size and number of connections. Every SET meets a server that
runs and is warmed up, as a cache's server is; a store on SSD is got from cold:

memcpy            a copy in memory, a thread per connection
loopback          to and from another process's memory over TCP (loopback.py); loopback_unix: over a unix socket
null              a RESP server that stores nothing, through connector resp
valkey            a server that keeps values in memory; client_redis, client_striped: the same server through that connector
store_ram_warm    the scenario's store with its files on a tmpfs, through connector resp, after a warm-up
store_ram_cold    GET from the same after a restart
store_disk        the same store on data_dir: SET after a warm-up, GET after a restart and a drop of the page cache
files_ram         GET alone, of connector direct: what that store's files have, by bare reads, from a tmpfs after a restart;
                  direct_ram: the same through connector direct, with its questions and proofs; striped_ram: through striped
files_disk        GET alone: the same bare reads from data_dir, after a restart and a drop of the page cache; striped_disk: by
                  striped
device            the same bytes as files with O_DIRECT, no server
whole             the scenario as it is, through its own connector, on another fresh store; sampled with perf
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records.kinds.profile import RungOperation
from . import engine_layers

OPERATIONS: tuple[RungOperation, ...] = ("set", "get")
CLIENT_OF = {"redis": "redis", "striped": "striped", "direct": "striped"}
_GET_ONLY = ("store_ram_cold", "files_ram", "direct_ram", "striped_ram", "files_disk", "striped_disk")


def rungs_of(scenario: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The names of the rungs of a scenario, by the station that measures them, in their order."""
    if scenario["connector"] == "inprocess":
        device = {"device": ("device",)} if scenario["tier"] == "ssd" else {}
        return {"memcpy": ("memcpy",), **device, "whole": ("whole",)}
    client = [f"client_{name}" for connector, name in CLIENT_OF.items() if connector == scenario["connector"]]
    found = {
        "memcpy": ("memcpy",),
        "sockets": ("loopback", "loopback_unix"),
        "null": ("null",),
        "valkey": ("valkey", *client, *engine_layers.RUNGS),
    }
    if scenario["tier"] == "ssd":
        found |= {
            "store_ram": ("store_ram_warm", "store_ram_cold"),
            "store_disk": ("store_disk",),
            "device": ("device",),
        }
    if scenario["connector"] == "direct":
        found |= {
            "files_ram": ("files_ram", "direct_ram", "striped_ram"),
            "files_disk": ("files_disk", "striped_disk"),
        }
    return found | {"whole": ("whole",)}


def keys_of(scenario: Mapping[str, Any]) -> list[tuple[str, RungOperation]]:
    """(rung, operation) of every record of a point, in order."""
    return [
        (rung, operation)
        for rungs in rungs_of(scenario).values()
        for rung in rungs
        for operation in (OPERATIONS[1:] if rung in _GET_ONLY else OPERATIONS)
    ]


def memory_needed(spec: Mapping[str, Any], largest_point: int) -> int:
    """Bytes that the memory folder must have free: what a store keeps, twice, since it also logs and compacts."""
    return 2 * (spec["warm_up_bytes"] + 3 * largest_point)
