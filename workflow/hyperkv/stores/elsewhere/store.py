"""A store whose servers run on the other node of the job, with the interface of one of this machine."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Self

import redis

from ....plugin.lmcache_striped.deadline import Endpoint
from ....plugin.lmcache_striped.secret import Secret
from ...base.errors import StoreDied, StoreError, UserError
from ...base.parent import VARIABLE
from ...base.secret import write_private
from ...machine.counters import ProcessCounters
from ..base import Counters, Store, StoreConfig
from ..placed.network import probe
from ..placed.place import Network
from ..reach import in_the_clear
from ..redis_client import client_of
from ..registry import store_class
from .agent import KEPT
from .nodes import OtherNode, other_node
from .talking import TalkingProcess

_ANSWER_S = 600.0  # a store may write gigabytes before it answers
_HELLO_S = 120.0
_END_S = 180.0
_REPLY_TIMEOUT_S = 30.0
_PROGRAM = (sys.executable, "-m", "workflow.hyperkv.stores.elsewhere.agent")
_ERRORS = {each.__name__: each for each in (StoreDied, StoreError, UserError)}


def opened(node: Mapping[str, Any], data_dir: str, what: str, log: Path) -> Elsewhere:
    """The other node of this job, for a scenario's `node`. Raises UserError."""
    return Elsewhere(other_node("place.node"), data_dir, node["interface"], what, log)


class Elsewhere:
    """The agent on another node, a context manager: what it started ends with the block, and with this process.

    data_dir: as the configuration has it, expanded there. interface: at which its servers listen, None for the address that Slurm
    knows. what: what its folder is for. log: file for what it writes. host, environment, free_bytes (of data_dir), available_bytes (of
    memory): that node's, as they were at its start.
    """

    def __init__(self, node: OtherNode, data_dir: str, interface: str | None, what: str, log: Path):
        self.node, self._given = node, {"address": node.address, "interface": interface}
        self._given |= {"data_dir": data_dir, "what": what}
        self._label = f"the store's node {node.name}"
        quiet = {VARIABLE: ""}  # it ends with its stdin, not with a process that it cannot see
        self._process = TalkingProcess([*node.launch, *_PROGRAM], log=log, label=self._label, env=quiet)
        self._one, self._asked = threading.Lock(), 0
        self.ports: list[int] = []
        self.host, self.data_dir = node.address, data_dir
        self.environment: dict[str, Any] = {}
        self.free_bytes = self.available_bytes = 0

    def __enter__(self) -> Self:
        self._process.start()
        try:
            hello = self._exchange("hello", self._given, _HELLO_S)
            for name, value in hello.items():
                setattr(self, name, value)
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Its store is ended and its files are removed before this returns."""
        self._process.hang_up(_END_S)
        self._process.stop()

    @property
    def disk_words(self) -> str:
        return f"on the disk of {self.data_dir} on node {self.node.name}"

    def store(self, name: str, config: StoreConfig) -> ElsewhereStore:
        """The named store there, not yet started."""
        return ElsewhereStore(config, store_class(name), self)

    def ask(self, what: str, **given: Any) -> Any:
        """The answer of the agent's or its store's method. Raises StoreDied, StoreError or UserError."""
        return self._exchange(what, given, _ANSWER_S)

    def _exchange(self, what: str, given: Mapping[str, Any], timeout_s: float) -> Any:
        with self._one:
            self._asked += 1
            request = json.dumps({"ask": what, "given": given, "number": self._asked})
            try:
                answer = json.loads(self._process.ask(request, timeout_s))
                while answer["number"] != self._asked:  # of what was not waited for
                    answer = json.loads(self._process.next_line(timeout_s))
            except StoreError as error:
                raise StoreDied(f"{error}; see {self._process.log}") from error
        if "error" in answer:
            raise _ERRORS.get(answer["error"], StoreError)(f"{self._label}: {answer['says']}")
        self.ports = answer.get("ports", self.ports)
        return answer["answer"]


class ElsewhereStore(Store):
    """A store of the class `kind` on the agent's node. Its server asks for a password: the scenario's, else one made for the run."""

    def __init__(self, config: StoreConfig, kind: type[Store], elsewhere: Elsewhere):
        self.name, self.medium, self._elsewhere = kind.name, kind.medium, elsewhere
        self._network: Network | None = None
        secret = config.password or _new_secret(config.directory)
        super().__init__(replace(config, password=secret, host=elsewhere.host))
        given = {key: getattr(config, key) for key in KEPT}
        given["program"] = None if config.program is None else str(config.program.absolute())
        log = str(config.log.absolute())
        elsewhere.ask("open", name=kind.name, config=given, log=log, password=secret.value())

    @property
    def endpoints(self) -> list[Endpoint]:
        return [Endpoint(self.config.host, port, self.config.password) for port in self._elsewhere.ports]

    @property
    def endpoint(self) -> Endpoint:
        return self.endpoints[0]

    @property
    def servers(self) -> Sequence[Any]:
        return [_Server(self, endpoint) for endpoint in self.endpoints]

    @property
    def network(self) -> Network | None:
        return self._network

    def start(self) -> None:
        self._elsewhere.ask("start")
        self._network = probe(self.endpoint, _REPLY_TIMEOUT_S)
        if (line := in_the_clear(f"store {self.name}", self.endpoint)) is not None:
            print(f"hyperkv: warning: {line}", file=sys.stderr)

    def stop(self) -> None:
        with contextlib.suppress(StoreDied):
            self._elsewhere.ask("stop")

    def restart(self) -> None:
        self._elsewhere.ask("restart")

    def make_cold(self) -> bool:
        return bool(self._elsewhere.ask("make_cold"))

    def check_alive(self, grace_s: float = 0.0) -> None:
        self._elsewhere.ask("check_alive", grace_s=grace_s)

    def pid(self) -> NoReturn:
        raise StoreError(f"store {self.name} is no process of this machine")

    def counters(self) -> Counters:
        found = self._elsewhere.ask("counters")
        return Counters(**found | {"process": ProcessCounters(**found["process"])})

    def final_counters(self) -> ProcessCounters | None:
        found = self._elsewhere.ask("final_counters")
        return None if found is None else ProcessCounters(**found)

    def notes(self) -> list[str]:
        line = in_the_clear(f"store {self.name}", self.endpoint)
        return [*self._elsewhere.ask("notes"), *([] if line is None else [line])]

    def evict_page_cache(self) -> None:
        self._elsewhere.ask("evict_page_cache")

    def push_out_writes(self) -> None:
        self._elsewhere.ask("push_out_writes")

    def block_bytes(self, folder: Path) -> tuple[int, int] | None:
        found = self._elsewhere.ask("block_bytes")
        return None if found is None else (found[0], found[1])


class _Server:
    """One of its servers, to be asked whether it answers."""

    def __init__(self, store: ElsewhereStore, endpoint: Endpoint):
        self.name, self.check_alive, self.endpoint = store.name, store.check_alive, endpoint

    def client(self, timeout_s: float = _REPLY_TIMEOUT_S) -> redis.Redis:
        """A client for control. timeout_s: of every command."""
        return client_of(self.endpoint, timeout_s)


def _new_secret(folder: Path) -> Secret:
    """A password that nobody else has, in a file beside where a store's folder would be."""
    path = folder.with_name(f"{folder.name}.password")
    write_private(path, secrets.token_urlsafe(32) + "\n")
    return Secret(path)
