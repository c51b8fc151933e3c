"""What runs for engine vllm: when a store counts as at rest, and when as cold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workflow.hyperkv.engines.vllm.lmcache_log import transfers
from workflow.hyperkv.engines.vllm.running import Moved, Running
from workflow.hyperkv.engines.vllm.server import EngineServers
from workflow.hyperkv.engines.vllm.starting import past_buffer
from workflow.hyperkv.machine.counters import ProcessCounters, block_device_bytes
from workflow.hyperkv.stores.base import Counters

CHUNK = 100
IDLE = ProcessCounters(*[0] * len(ProcessCounters.__dataclass_fields__))


@dataclass
class Server:
    """Stands for vLLM's processes: no LMCache server is among them."""

    def counters(self) -> dict[str, Any]:
        return {"saves_begun": None, "saves_done": None}


class Told:
    """A store that tells one state after the other, and then the last one: bytes taken and memtables to write."""

    def __init__(self, *states: tuple[int, int | None]):
        self.states = list(states)
        self.asked = 0
        self.done: list[str] = []

    def push_out_writes(self) -> None:
        self.done.append("pushed out")

    def evict_page_cache(self) -> None:
        self.done.append(f"evicted at {self.states[0]}")

    def counters(self) -> Counters:
        self.asked += 1
        taken, to_flush = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return Counters(0, taken, 0, 0, IDLE, {} if to_flush is None else {"memtables_to_flush": to_flush})


def running(store: Told, tmp_path) -> Running:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 8}))
    return Running(Server(), store, tmp_path, [], CHUNK)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "saved"),
    [
        ([(0, 0), (CHUNK, 0), (2 * CHUNK, 0), (3 * CHUNK, 0)], 3 * CHUNK),
        ([(CHUNK, 2), (CHUNK, 2), (CHUNK, 1), (CHUNK, 1), (CHUNK, 0)], CHUNK),
    ],
    ids=["what was saved", "memtables"],
)
def test_settling_waits_for_what_was_saved_and_until_memtables_are_written(states, saved, tmp_path):
    store = Told(*states)
    running(store, tmp_path).settle(0, saved)
    assert store.states == states[-1:]


def test_settling_asks_nothing_of_a_store_without_memtables(tmp_path):
    store = Told((CHUNK, None))
    running(store, tmp_path).settle(0, CHUNK)
    assert store.asked <= 3


@dataclass
class Log:
    """Stands for a server's process and what it has written."""

    wrote: list[str]

    def written(self) -> int:
        return len(self.wrote)

    def lines(self, since: int = 0) -> list[str]:
        return self.wrote[since:]


def test_a_servers_new_lines_are_told_from_anothers_old_ones():
    servers = EngineServers([], {})
    server, engine = Log(["started"]), Log([f"old {number}" for number in range(100)])
    servers._running = [server, engine]  # type: ignore[list-item]
    marks = servers.log_marks()
    server.wrote += [
        "LMCache ERROR: striped: the store failed",
        "striped: dropped 7 chunks, saves are behind",
    ]
    engine.wrote += ["Retrieved 32 out of 32 required tokens (from 32 total tokens). size: 1 gb, cost 2.0 ms"]
    found = transfers(servers.log_lines(marks))
    assert (len(found.faults), found.dropped_chunks, found.retrieved_tokens) == (1, 7, 32)
    assert len(servers.log_lines()) == 104


@pytest.mark.parametrize(
    ("tier", "page_cache", "push", "done"),
    [
        ("ssd", "evict", True, ["pushed out", f"evicted at {(CHUNK, 0)}"]),
        ("ssd", "evict", False, [f"evicted at {(CHUNK, 2)}"]),
        ("ssd", "keep", True, []),
        ("dram", "evict", True, []),
    ],
)
def test_cold_is_out_of_the_write_buffers_first_and_then_out_of_the_page_cache(
    tier, page_cache, push, done, tmp_path
):
    store = Told((CHUNK, 2), (CHUNK, 2), (CHUNK, 0))
    cell = SimpleNamespace(scenario={"tier": tier, "page_cache": page_cache})
    running(store, tmp_path).make_cold(cell, push)  # type: ignore[arg-type]
    assert store.done == done


class Engine:
    """Stands for vLLM and what it was told to forget, and for the bytes of its processes."""

    def __init__(self) -> None:
        self.forgot: list[bool | str] = []

    def reset_hbm(self, pool: bool = False) -> None:
        self.forgot.append(pool)

    def empty_lmcache_pool(self) -> None:
        self.forgot.append("lmcache")

    def io_bytes(self) -> tuple[int, int]:
        return 3, 5

    def counters(self) -> dict[str, Any]:
        return {"saves_begun": 2, "saves_done": 2}


@pytest.mark.parametrize(("page_cache", "done"), [("evict", ["evicted"]), ("keep", [])])
def test_files_that_an_engine_itself_keeps_are_made_cold_too(page_cache, done, tmp_path):
    cell = SimpleNamespace(scenario={"tier": "ssd", "page_cache": page_cache})
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 8}))
    own, found = Running(Engine(), None, tmp_path, [], CHUNK), []  # type: ignore[arg-type]
    own.evict = lambda: found.append("evicted")
    own.make_cold(cell, push=True)  # type: ignore[arg-type]
    assert found == done


@pytest.mark.parametrize(
    ("tier", "store", "connector", "page_cache", "pool", "forgot"),
    [
        ("ssd", "files", "offloading", "evict", None, [True]),
        ("ssd", "files", "offloading", "keep", None, [True]),
        ("ssd", "files", "offloading", "evict", 1 << 30, [True]),
        ("ssd", "files", "offloading", "keep", 1 << 30, []),
        ("ssd", "kvrocks", "striped_tier", "evict", None, [True]),
        ("dram", "valkey", "striped_tier", "evict", None, [True]),
        ("dram", "valkey", "striped_tier", "evict", 1 << 30, [True]),
        ("dram", "valkey", "striped_tier", "keep", 1 << 30, []),
        ("dram", "dram", "offloading", "evict", 1 << 30, []),
        ("ssd", "files", "mp", "evict", None, []),
        ("ssd", "kvrocks", "striped_mp", "evict", 1 << 30, ["lmcache"]),
        ("ssd", "kvrocks", "striped_mp", "keep", 1 << 30, []),
        ("dram", "kvrocks", "direct_mp", "evict", 1 << 30, ["lmcache"]),
        ("dram", "dram", "mp", "evict", 1 << 30, []),
        ("ssd", "kvrocks", "striped", "evict", 1 << 30, []),
    ],
)
def test_a_pool_before_a_store_that_is_to_answer_does_not_serve_and_no_buffer_does(
    tier, store, connector, page_cache, pool, forgot, tmp_path
):
    engine, cell = Engine(), SimpleNamespace(scenario={"tier": tier, "store": store, "connector": connector})
    cell.scenario |= {"page_cache": page_cache, "dram_pool_bytes": pool}
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 8}))
    Running(engine, None, tmp_path, [], CHUNK).empty_buffer(cell)  # type: ignore[arg-type]
    assert engine.forgot == forgot


@pytest.mark.parametrize(
    ("store", "connector", "forgot"),
    [
        ("dram", "mp", ["lmcache"]),
        ("kvrocks", "direct_mp", []),
        ("dram", "offloading", []),
        ("dram", "inprocess", []),
    ],
)
def test_a_pool_alone_has_room_for_a_prompt_that_is_to_be_found_again(store, connector, forgot, tmp_path):
    engine, cell = (
        Engine(),
        SimpleNamespace(scenario={"tier": "dram", "store": store, "connector": connector}),
    )
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 8}))
    Running(engine, None, tmp_path, [], CHUNK).make_room(cell)  # type: ignore[arg-type]
    assert engine.forgot == forgot


def test_bytes_that_pass_processes_by_are_the_devices_or_unknown(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 8}))
    own = Running(Engine(), None, tmp_path, [], CHUNK)  # type: ignore[arg-type]
    assert own.moved() == Moved(None, 5, 3)
    own.counted_at = tmp_path
    device = block_device_bytes(tmp_path)
    found = own.moved().device_read
    assert (found is None) == (device is None)
    assert device is None or found >= device[0]
    own.counted_at = Path("/proc")
    assert own.moved().device_read is None


@pytest.mark.parametrize(
    ("store", "pool", "known", "told"),
    [
        ("kvrocks", None, ["--disable-l1-retrieval"], ["--disable-l1-retrieval"]),
        ("files", None, ["--disable-l1-retrieval"], ["--disable-l1-retrieval"]),
        ("kvrocks", 1 << 30, ["--disable-l1-retrieval"], []),
        ("dram", 1 << 30, ["--disable-l1-retrieval"], []),
        ("kvrocks", None, [], []),
    ],
)
def test_a_server_s_buffer_serves_no_hits_where_its_version_can_leave_that(store, pool, known, told):
    cell = SimpleNamespace(scenario={"tier": "dram", "store": store, "dram_pool_bytes": pool})
    assert past_buffer(cell, {"server_options": known}) == told
    assert past_buffer(cell, {}) == []
