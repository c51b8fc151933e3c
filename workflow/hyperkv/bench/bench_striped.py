"""Connector striped beside redis and resp, against one kind of store, in GB/s with ratios.

    python -m workflow.hyperkv.bench.bench_striped --store valkey
    python -m workflow.hyperkv.bench.bench_striped --store kvrocks --program PATH PATCHED_PATH --processes 1 3

Every client sets the same chunks under keys of its own, over what was there, and gets them again, warm, in every round;
the figures are medians over rounds. Several programs, numbers of processes, and unix sockets, are servers of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..base.cli import run_stage
from ..base.errors import StoreError
from ..cells.point import values_per_connection
from ..connectors.registry import library_of
from ..stores.base import Store
from ..stores.kvrocks.store import patches_of
from ..stores.registry import make_store
from .bench_peers import Speeds, ours, preset_config

_PRESETS = {"kvrocks": "tuned"}


@dataclass(frozen=True)
class Server:
    """What a client is measured against; program: None for the store's own choice."""

    program: Path | None = None
    processes: int = 1
    unix: bool = False

    @property
    def label(self) -> str:
        """Its words in a client's line."""
        patches = [] if self.program is None else patches_of(self.program)
        words = [f"{self.processes} processes"] if self.processes > 1 else []
        return " ".join([*words, *(["unix"] if self.unix else []), *(["patched"] if patches else [])])


@dataclass(frozen=True)
class Client:
    """One line of the table: a connector, the server it is for and its options."""

    connector: str
    connections: int
    server: Server = Server()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The line's words."""
        stripe = self.options.get("stripe_bytes")
        words = [self.connector, *([] if stripe is None else [f"{stripe >> 10} KiB"])]
        flight = self.options.get("in_flight")
        words += [] if flight is None else [f"{flight} in flight"]
        words += [] if self.options.get("library") is None else ["native"]
        return " ".join([*words, self.server.label]).strip()


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.bench.bench_striped", description=__doc__
    )
    parser.add_argument("--store", choices=("valkey", "rocksdb", "kvrocks"), default="valkey")
    parser.add_argument("--program", nargs="+", type=Path, default=[None], help="servers, for kvrocks")
    parser.add_argument("--preset", help="of config/kvrocks (tuned)")
    parser.add_argument("--dir", type=Path, help="parent of the folder for the servers' files")
    parser.add_argument("--chunk-bytes", type=int, default=32 << 20)
    parser.add_argument("--stripe-bytes", nargs="+", type=int, default=[256 << 10, 1 << 20, 4 << 20, 8 << 20])
    parser.add_argument("--connections", nargs="+", type=int, default=[2])
    parser.add_argument("--processes", nargs="+", type=int, default=[1])
    parser.add_argument("--in-flight", nargs="+", type=int, default=[4], help="0 for all")
    parser.add_argument("--client", nargs="+", choices=("python", "native"), default=["python"])
    parser.add_argument("--unix", action="store_true", help="resp and striped over unix sockets as well")
    parser.add_argument("--point-bytes", type=int, default=256 << 20, help="bytes of one operation's round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for connections in arguments.connections:
        clients = clients_of(arguments, connections)
        with (
            tempfile.TemporaryDirectory(prefix="hyperkv-", dir=arguments.dir) as folder,
            contextlib.ExitStack() as stack,
        ):
            stores = {
                server: stack.enter_context(_store(arguments, server, Path(folder, str(number))))
                for number, server in enumerate(dict.fromkeys(client.server for client in clients))
            }
            print(compare(arguments, clients, stores, connections), flush=True)


def clients_of(arguments: argparse.Namespace, connections: int) -> list[Client]:
    """The lines of one table."""
    sockets = (False, True) if arguments.unix else (False,)
    programs = [None if path is None else path.absolute() for path in arguments.program]
    others = [Client("redis", connections, Server(programs[0]))]
    others += [
        Client("resp", connections, Server(program, 1, unix))
        for program, unix in itertools.product(programs, sockets)
    ]
    servers = itertools.product(programs, arguments.processes, sockets)
    shapes = itertools.product(arguments.stripe_bytes, arguments.in_flight, arguments.client, list(servers))
    return others + [
        Client(
            "striped",
            connections,
            Server(*server),
            {"stripe_bytes": stripe, "in_flight": flight or None, "library": library_of(client)},
        )
        for stripe, flight, client, server in shapes
    ]


def compare(
    arguments: argparse.Namespace,
    clients: Sequence[Client],
    stores: dict[Server, Store],
    connections: int,
) -> str:
    """The table of one number of connections: GB/s of every client and the ratios of each to redis and resp."""
    size = arguments.chunk_bytes
    count = connections * values_per_connection(arguments.point_bytes, size, connections)
    found: dict[int, list[Speeds]] = {id(client): [] for client in clients}
    for number in range(arguments.rounds):
        first = number % len(clients)
        for client in [*clients[first:], *clients[:first]]:
            store = stores[client.server]
            try:
                speeds = ours(store, client.connector, size, connections, count, **client.options)
            except StoreError as error:
                raise store.explain(error) from error
            found[id(client)].append(speeds)
    medians = [_medians(found[id(client)]) for client in clients]
    redis, resp = medians[0], medians[1]
    rows = [
        [
            client.label,
            *(f"{speeds[operation]:.3g}" for operation in ("set", "get")),
            *(f"{speeds['get'] / other['get']:.2f}" for other in (redis, resp)),
        ]
        for client, speeds in zip(clients, medians, strict=True)
    ]
    head = (
        f"{arguments.store}: chunks of {size / 2**20:g} MiB, {connections} connections, {count} chunks, "
        f"median of {arguments.rounds}"
    )
    headers = ("client", "SET GB/s", "GET GB/s", "GET / redis", "GET / resp")
    table = tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", *["right"] * 4))
    return f"{head}\n{table}\n"


def _medians(rounds: Sequence[Speeds]) -> Speeds:
    return {name: statistics.median(speeds[name] for speeds in rounds) for name in ("set", "get")}


def _store(arguments: argparse.Namespace, server: Server, folder: Path) -> Store:
    preset = arguments.preset or _PRESETS.get(arguments.store)
    config = preset_config(arguments.store, preset, folder, arguments.chunk_bytes)
    own = {"program": server.program, "processes": server.processes, "unix": server.unix}
    return make_store(arguments.store, replace(config, **own))


if __name__ == "__main__":
    sys.exit(run_stage("bench_striped", main))
