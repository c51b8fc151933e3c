"""Owns a store on the node where it runs, and does what lines of JSON on stdin ask, each answered by one on stdout.

    python -m workflow.hyperkv.stores.elsewhere.agent

The first line says data_dir, which is expanded on this node, and what for; the second names the store. The end of stdin, a signal and an
error end the store and remove its files. Passwords come by stdin alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import psutil

from ....plugin.lmcache_striped.secret import Secret
from ...base.cli import run_stage
from ...base.errors import StoreError, UserError
from ...base.secret import write_private
from ...machine.counters import ProcessCounters, block_device_bytes
from ...machine.environment import environment
from ...machine.node import data_dir_of, node_name
from ...machine.own_folder import alone_on, own_folder
from ..base import Counters, Store, StoreConfig
from ..registry import make_store

ASKED = (
    *("start", "stop", "restart", "check_alive", "counters", "final_counters", "notes"),
    *("evict_page_cache", "push_out_writes", "make_cold"),
)
KEPT = (
    *(
        "value_bytes",
        "capacity_bytes",
        "port",
        "settings",
        "environment",
        "ignored_settings",
        "processes",
        "patched",
    ),
    *("bound_bytes", "stripe_bytes"),
)  # of StoreConfig, as the scenario's node has it


_IP = (socket.AF_INET, socket.AF_INET6)


class Agent:
    """One store in `folder`, and the node that it is on."""

    def __init__(self, folder: Path, data_dir: Path, host: str):
        self._folder, self._data_dir, self._host = folder, data_dir, host
        self._store: Store | None = None

    def hello(self) -> dict[str, Any]:
        """What is known of this node before a store is there."""
        return {
            "host": self._host,
            "data_dir": str(self._data_dir),
            "environment": environment(self._data_dir),
            "free_bytes": shutil.disk_usage(self._folder).free,
            "available_bytes": psutil.virtual_memory().available,
        }

    def open(self, name: str, config: Mapping[str, Any], log: str, password: str) -> None:
        """Make the named store, not yet started. password: what it is to ask for. Raises UserError."""
        self.close()
        own = f"{name}-{secrets.token_hex(4)}"
        word = self._folder / f"{own}.password"
        write_private(word, f"{password}\n")
        given = {key: config[key] for key in KEPT} | {"ignored_settings": tuple(config["ignored_settings"])}
        given["program"] = None if config["program"] is None else Path(config["program"])
        self._store = make_store(
            name,
            StoreConfig(self._folder / own, log=Path(log), host=self._host, password=Secret(word), **given),
        )

    def block_bytes(self) -> tuple[int, int] | None:
        """(read, written) bytes of the device under the store's files since boot."""
        return block_device_bytes(self._folder)

    def answer(self, ask: str, given: Mapping[str, Any]) -> Any:
        """What `ask` says, a method of this class or of the store. Raises StoreError or UserError."""
        if ask in ("open", "block_bytes"):
            return getattr(self, ask)(**given)
        if self._store is None or ask not in ASKED:
            raise StoreError(f"the agent on {node_name()} is not to be asked {ask!r} now")
        return getattr(self._store, ask)(**given)

    def ports(self) -> list[int]:
        """Where the store's servers listen."""
        return [] if self._store is None else [endpoint.port for endpoint in self._store.endpoints]

    def close(self) -> None:
        """End the store."""
        if self._store is not None:
            self._store.stop()


def main() -> None:
    """Answer until stdin ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what anything else prints is no answer
        requests = (json.loads(line) for line in sys.stdin)
        with contextlib.ExitStack() as stack:
            for request in requests:
                try:
                    agent = _agent_of(request["given"], stack)
                except (StoreError, UserError, OSError) as error:
                    return _say(answers, request, _failure(error))
                stack.callback(agent.close)
                _say(answers, request, {"answer": agent.hello()})
                break
            for request in requests:
                _say(answers, request, _answered(agent, request))


def _agent_of(given: Mapping[str, Any], stack: contextlib.ExitStack) -> Agent:
    host = given["address"] if given["interface"] is None else address_of(given["interface"])
    data_dir = data_dir_of(given["data_dir"])
    stack.enter_context(alone_on(data_dir))
    return Agent(stack.enter_context(own_folder(data_dir, given["what"])), data_dir, host)


def address_of(interface: str) -> str:
    """The address of one of this node's network interfaces, IPv4 where it has one. Raises UserError."""
    there = psutil.net_if_addrs()
    families = {found.family: found.address.partition("%")[0] for found in reversed(there.get(interface, []))}
    for family in sorted(family for family in families if family in _IP):
        return families[family]
    raise UserError(
        f"place.interface: {interface} has no address on {node_name()}; choose one of {', '.join(sorted(there))}, or leave it out"
    )


def _answered(agent: Agent, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = agent.answer(request["ask"], request["given"])
    except (StoreError, UserError, OSError) as error:
        return _failure(error)
    return {
        "answer": asdict(found) if isinstance(found, Counters | ProcessCounters) else found,
        "ports": agent.ports(),
    }


def _failure(error: Exception) -> dict[str, Any]:
    return {"error": type(error).__name__, "says": str(error)}


def _say(answers: IO[str], request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps({"number": request["number"], **answer}) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(run_stage("store", main))
