"""A client of a cluster on this machine: GB/s against the number of nodes behind links of stated GB/s, and how long a killed master is missed.

    python -m workflow.hyperkv.profile.clusters.bench_cluster [--nodes 1 2 4 8] [--node-gbps 0.02] [--client-gbps 0.1] [--kvrocks PROGRAM]

Each node is a server of its own behind a link of its own (links.py), which is what bounds it; the client is a StripedCache, as engines have
it. Saves of several chunks follow each other, then loads of as many; medians of rounds. Then a cluster of three masters is loaded from
without a pause while one of them is killed with kill -9: seconds until the cluster calls itself well again, with a replica in its place or
itself back, and from then until every chunk is served.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from ....plugin.lmcache_striped.cache import CacheSettings, StripedCache
from ....plugin.lmcache_striped.deadline import Endpoint, name_of
from ...base.cli import run_stage
from ...base.errors import UserError
from ...base.options import Count, Counts, Positive, PositiveOrNone
from ...cells.point import point_keys
from ...connectors.registry import LIBRARY
from ...machine.processes import LOOPBACK, free_port
from ...stores.server import ServerStore
from ...workloads.payload import Payload, aligned_buffer, slots
from .links import links
from .made import MadeCluster

_CHUNK_BYTES = 8 << 20
_TOGETHER = 8  # chunks of a load
_LOADS = 4  # of a round, at least
_ROUND_S = 2.0
_TIMEOUT_S = 60.0
_NODE_TIMEOUT_MS = 2000  # of Valkey's nodes, of which one is killed; 15,000 as it comes
_SMALL_BYTES = 256 << 10  # a chunk while a master is killed
_SMALL_COUNT = 32


@dataclass(frozen=True)
class Speed:
    """What a number of nodes gave. cpu_s_per_gb: the client's processor time of loads."""

    load_gbps: float
    save_gbps: float
    cpu_s_per_gb: float


@dataclass(frozen=True)
class Missed:
    """What a killed master cost. well_s: from its end until the cluster called itself well; served_s: from then until all was served.
    loads, whole: that ended meanwhile, and those of them that found every chunk.
    """

    well_s: float
    served_s: float
    loads: int
    whole: int


def main(
    *,
    nodes: Counts = (1, 2, 4, 8),
    node_gbps: Positive = 0.02,
    client_gbps: PositiveOrNone = None,
    connections: Count = 2,
    rounds: Count = 5,
    kvrocks: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        nodes: of each cluster.
        node_gbps: 10^9 bytes per second of each node's link.
        client_gbps: of the client's link; without a bound where it is not said.
        connections: to each node.
        kvrocks: a program of Kvrocks, whose killed master is missed as well.
    """
    with tempfile.TemporaryDirectory(prefix="hyperkv-") as folder:
        speeds = {}
        for count in nodes:
            place = Path(folder) / str(count)
            place.mkdir()
            speeds[count] = speed(place, count, node_gbps, client_gbps, connections, rounds)
        print(table(speeds, node_gbps, client_gbps), flush=True)
        cases: list[tuple[str, str, bool]] = [
            ("a replica in its place", "valkey", True),
            ("itself back", "valkey", False),
        ]
        if kvrocks is not None:
            cases.append(("itself back", "kvrocks", False))
        found = {}
        for what, kind, replica in cases:
            place = Path(folder) / f"{kind}-{replica}"
            found[f"{kind}, {what}"] = [
                missed(place / str(number), kind, replica, kvrocks) for number in range(rounds)
            ]
        print(missed_table(found), flush=True)


def speed(
    folder: Path, count: int, gbps: float, client_gbps: float | None, connections: int, rounds: int
) -> Speed:
    """Loads and saves of a cluster of `count` nodes behind links. Raises UserError for a chunk that does not come back."""
    ports: dict[int, int] = {}

    def announced(port: int) -> int:
        ports[here := free_port()] = port
        return here

    cluster = MadeCluster("valkey", folder, count, announce=announced)
    with links(ports, gbps, client_gbps, folder / "links.log"), cluster:
        seed = Endpoint(LOOPBACK, next(iter(ports)))
        payload, total = Payload(_CHUNK_BYTES), _TOGETHER * _CHUNK_BYTES
        keys = point_keys("there", 1, _TOGETHER)
        values = [payload.value(key) for key in keys]
        buffers = slots(aligned_buffer(total), _CHUNK_BYTES)
        with _cache(seed, connections, 1 << 20) as cache:

            def save() -> None:
                saved: list[bool] = []
                cache.offer(keys, values, saved.append)
                cache.wait_saved(_TIMEOUT_S)
                _require(saved == [True], cache, "saved")

            def load() -> None:
                _require(all(cache.load(keys, buffers)), cache, "found")

            save()
            save_gbps = statistics.median(_gbps_and_cpu(save, total)[0] for _ in range(rounds))
            load()
            _require(not payload.wrong(keys, [True] * len(keys), buffers), cache, "right")
            loads = [_gbps_and_cpu(load, total) for _ in range(rounds)]
        load_gbps, cpu = (statistics.median(each) for each in zip(*loads, strict=True))
        return Speed(load_gbps, save_gbps, cpu)


def _require(holds: bool, cache: StripedCache, what: str) -> None:
    if not holds:
        raise UserError(f"bench_cluster: not every chunk was {what}: {cache.counts}")


def _gbps_and_cpu(move: Callable[[], None], size: int) -> tuple[float, float]:
    """GB/s of a round of moves, and this process's processor seconds per GB."""
    begun, cpu, moves = time.perf_counter(), time.process_time(), 0
    while moves < _LOADS or time.perf_counter() - begun < _ROUND_S:
        move()
        moves += 1
    gigabytes = moves * size / 1e9
    return gigabytes / (time.perf_counter() - begun), (time.process_time() - cpu) / gigabytes


def missed(folder: Path, kind: str, replica: bool, program: Path | None) -> Missed:
    """Kill a master of three during loads. Raises UserError for a wrong byte, or when it stays missed."""
    folder.mkdir(parents=True)
    program = program if kind == "kvrocks" else None
    with MadeCluster(kind, folder, 3, int(replica), program, node_timeout_ms=_NODE_TIMEOUT_MS) as cluster:
        payload = Payload(_SMALL_BYTES)
        keys = point_keys("there", 1, _SMALL_COUNT)
        values = [payload.value(key) for key in keys]
        buffers = slots(aligned_buffer(_SMALL_COUNT * _SMALL_BYTES), _SMALL_BYTES)
        dead, *others = [cluster.masters[1], cluster.masters[0], cluster.masters[2]]
        with _cache(cluster.endpoints[0], 2, _SMALL_BYTES // 8) as cache:

            def save() -> None:
                cache.offer(keys, values, lambda _: None)
                cache.wait_saved(_TIMEOUT_S)

            save()
            if replica:
                for store in cluster.masters:
                    cluster.ask(store, "WAIT", 1, 5000)
            dead.kill()
            killed_s, well_s, loads, whole = time.perf_counter(), None, 0, 0
            watched = [*others, *cluster.replicas] if replica else cluster.masters
            if not replica:
                dead.restart()
            while time.perf_counter() - killed_s < _TIMEOUT_S:
                found = cache.load(keys, buffers)
                if payload.wrong(keys, found, buffers) > found.count(False):
                    raise UserError("bench_cluster: wrong bytes")
                now_s = time.perf_counter()
                if well_s is None:
                    loads, whole = loads + 1, whole + all(found)
                    if _is_well(cluster, watched, dead if replica else None):
                        well_s = time.perf_counter()
                    continue
                if all(found):
                    return Missed(well_s - killed_s, max(0.0, now_s - well_s), loads, whole)
                if not replica and kind == "valkey":  # which came back empty
                    save()
    raise UserError(f"bench_cluster: not every chunk was served again within {_TIMEOUT_S:g} s")


def _is_well(cluster: MadeCluster, stores: Sequence[ServerStore], dead: ServerStore | None) -> bool:
    """Whether all of them call the cluster well and none names the dead one as a slot's node."""
    for store in stores:
        if not cluster.calls_well(store):
            return False
        if dead is not None and name_of(dead.endpoint) in cluster.masters_by(store):
            return False
    return True


@contextlib.contextmanager
def _cache(seed: Endpoint, connections: int, stripe_bytes: int) -> Iterator[StripedCache]:
    settings = CacheSettings(
        (seed,),
        connections=connections,
        stripe_bytes=stripe_bytes,
        timeout_s=_TIMEOUT_S if stripe_bytes > _SMALL_BYTES else 3.0,
        library=LIBRARY if LIBRARY.exists() else None,
    )
    cache = StripedCache(settings, report=lambda line: print(f"  {line}", file=sys.stderr))
    try:
        yield cache
    finally:
        cache.close()


def table(speeds: dict[int, Speed], node_gbps: float, client_gbps: float | None) -> str:
    """GB/s by number of nodes, and of what the links have."""
    rows = []
    for count, found in speeds.items():
        have = min(count * node_gbps, client_gbps or float("inf"))
        rows.append(
            {
                "nodes": count,
                "links, GB/s": f"{have:.3g}",
                "load GB/s": f"{found.load_gbps:.3g}",
                "of them": f"{found.load_gbps / have:.2f}",
                "save GB/s": f"{found.save_gbps:.3g}",
                "of them ": f"{found.save_gbps / have:.2f}",
                "client CPU s/GB": f"{found.cpu_s_per_gb:.2f}",
            }
        )
    bound = "" if client_gbps is None else f", {client_gbps:g} GB/s of the client"
    head = f"valkey, links of {node_gbps:g} GB/s each{bound}, {_TOGETHER * _CHUNK_BYTES >> 20} MiB a load"
    return f"{head}\n{tabulate(rows, headers='keys', disable_numparse=True)}\n"


def missed_table(found: dict[str, list[Missed]]) -> str:
    """Medians and the longest of the rounds."""
    rows = []
    for what, each in found.items():
        served = [one.served_s for one in each]
        rows.append(
            {
                "a master is killed": what,
                "until well, s": f"{statistics.median(one.well_s for one in each):.2f}",
                "from then until served, s": f"{statistics.median(served):.2f}",
                "the longest, s": f"{max(served):.2f}",
                "loads meanwhile": sum(one.loads for one in each),
                "of them whole": sum(one.whole for one in each),
            }
        )
    return f"{_SMALL_COUNT} chunks of {_SMALL_BYTES >> 10} KiB, {len(next(iter(found.values())))} rounds\n{tabulate(rows, headers='keys', disable_numparse=True)}\n"


if __name__ == "__main__":
    sys.exit(run_stage("bench_cluster", main))
