"""LMCache with patch stream-prefetches: lookups, loads and retrieves of its server, asked as vLLM's workers ask it.

Not collected by itself: test_lmcache_patches.py runs it with a patched copy of LMCache. An engine has KV in shared memory here, LMCache's
CPU path; SteppedL2 holds loads until a test lets them end.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.config import (
    EvictionConfig,
    L1ManagerConfig,
    L1MemoryManagerConfig,
    StorageManagerConfig,
    get_arg_parser,
    parse_args_to_config,
)
from lmcache.v1.distributed.l2_adapters.config import L2AdaptersConfig
from lmcache.v1.distributed.l2_adapters.plugin_l2_adapter import PluginL2AdapterConfig
from lmcache.v1.distributed.prefetch_load import PrefetchLoad
from lmcache.v1.multiprocess.config import CoordinatorConfig, MPServerConfig
from lmcache.v1.multiprocess.custom_types import IPCCacheServerKey
from lmcache.v1.multiprocess.engine_context import MPCacheServerContext
from lmcache.v1.multiprocess.group_view import EngineGroupInfo
from lmcache.v1.multiprocess.server import _build_server_components
from lmcache.v1.multiprocess.transfer_context.worker_transfer import LMCacheDrivenTransferContext
from lmcache.v1.multiprocess.transport.factory import RequestClientFactory
from lmcache.v1.multiprocess.transport.server_factory import create_request_server
from lmcache.v1.platform.devices.cpu.stub_cpu_device import StubEvent

from tests.patches.stepped_l2 import PATIENCE_S, SteppedL2

MODEL, CHUNK, BLOCK, CHUNKS = "model", 32, 16, 6
BLOCKS = CHUNKS * CHUNK // BLOCK
STREAMED = 2  # chunks of a load


class Engine:
    """One of vLLM's workers: KV of four layers, and a client of the server."""

    def __init__(self, address: str, groups: list[EngineGroupInfo], instance: int = 1):
        self.kv = {
            f"layer{i}": torch.zeros(2, 4 * BLOCKS, 2, BLOCK, 8, dtype=torch.bfloat16) for i in range(4)
        }
        self.client = RequestClientFactory.create(address)
        self.transfers = LMCacheDrivenTransferContext(instance, self.client)
        self.groups, self.instance = max(1, len(groups)), instance
        self.transfers.register(self.kv, MODEL, 1, CHUNK // BLOCK, PATIENCE_S, engine_group_infos=groups)

    def key(
        self, prompt: int, request: str, chunks: int = CHUNKS, first: int = 0, **changes
    ) -> IPCCacheServerKey:
        """The key of the first chunks of a prompt, from chunk `first` on."""
        tokens = tuple(range(1000 * prompt, 1000 * prompt + CHUNKS * CHUNK))
        known = {"worker_id": 0, "num_kv_readers": 1} | changes
        return IPCCacheServerKey(
            MODEL, 1, token_ids=tokens, start=first * CHUNK, end=chunks * CHUNK, request_id=request, **known
        )

    def ids(self, place: int = 0, first: int = 0, chunks: int = CHUNKS) -> list[list[int]]:
        """Blocks of chunks, for each group; 0 is vLLM's null block."""
        per_chunk = CHUNK // BLOCK
        start = 1 + place * BLOCKS
        return [
            list(range(start + first * per_chunk, start + chunks * per_chunk)) for _ in range(self.groups)
        ]

    def store(self, prompt: int, request: str, place: int = 0):
        return self.transfers.submit_store(
            request, self.key(prompt, request), self.kv, self.ids(place), StubEvent(), CHUNK // BLOCK
        )

    def retrieve(self, prompt: int, request: str, place: int = 0, first: int = 0, skip: int = 0):
        key, blocks = self.key(prompt, request, first=first), self.ids(place, first)
        return self.transfers.submit_retrieve(
            request, key, self.kv, blocks, StubEvent(), CHUNK // BLOCK, skip_first_n_tokens=skip
        )

    def look_up(self, prompt: int, request: str) -> None:
        self.client.lookup(self.key(prompt, request, worker_id=None), 1).result(PATIENCE_S)

    def answer(self, request: str) -> int | None:
        return self.client.query_prefetch_status(request).result(PATIENCE_S)

    def await_answer(self, request: str) -> int:
        return self.client.wait_prefetch_status(request, float(PATIENCE_S)).result(2 * PATIENCE_S)

    def free(self, prompt: int, request: str, first: int, chunks: int) -> None:
        key = self.key(prompt, request, chunks, first, worker_id=None)
        self.client.free_lookup_locks(key, 1).result(PATIENCE_S)

    def chunk(self, number: int, place: int = 0) -> torch.Tensor:
        """A copy of the KV of a chunk."""
        blocks = self.ids(place, number, number + 1)[0]
        return torch.stack([layer[:, blocks] for layer in self.kv.values()])


class Server:
    def __init__(self, context: MPCacheServerContext, address: str):
        self.context, self.address = context, address

    @property
    def store(self) -> dict:
        return self.context.storage_manager.report_status()

    def await_nothing_held(self) -> None:
        """Every lock is released, and what was loaded for one reader is gone."""
        held = ("read_locked_count", "write_locked_count", "temporary_count", "staging_object_count")

        def idle() -> bool:
            l1 = self.store["l1_manager"]
            return not any(l1[name] for name in held) and not +SteppedL2.made.locks

        until(idle)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.002)


@contextmanager
def serving(
    stream_chunks: int, transport: str = "zmq", write_ttl: int = 600, engine_type: str = "default", groups=()
) -> Iterator[Server]:
    """LMCache's server, on loopback; L2 is a SteppedL2, and L1 keeps nothing that L2 has."""
    memory = L1MemoryManagerConfig(size_in_bytes=64 << 20, use_lazy=False, shm_name="")
    config = StorageManagerConfig(
        L1ManagerConfig(memory, write_ttl_seconds=write_ttl),
        EvictionConfig("LRU"),
        L2AdaptersConfig([PluginL2AdapterConfig("tests.patches.stepped_l2", "SteppedL2")]),
        store_policy="skip_l1",
        prefetch_stream_chunks=stream_chunks,
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    asked = MPServerConfig(
        host="127.0.0.1", port=port, chunk_size=CHUNK, transport=transport, engine_type=engine_type,
        supported_transfer_mode="auto", max_cpu_workers=2,
    )  # fmt: skip
    context = MPCacheServerContext(config, chunk_size=CHUNK, separate_object_groups=bool(groups))
    try:
        modules = _build_server_components(context, asked, CoordinatorConfig()).modules
        server = create_request_server(modules, asked)
        server.start()
        scheme = {"zmq": "tcp", "grpc": "grpc"}[transport]
        try:
            yield Server(context, f"{scheme}://127.0.0.1:{port}")
        finally:
            server.close()
            for module in modules:
                module.close()
    finally:
        context.close()


def saved(server: Server, engine: Engine, prompt: int = 1) -> list[torch.Tensor]:
    """The chunks of a prompt that are in L2 now, and nowhere else."""
    generator = torch.Generator().manual_seed(prompt)
    for layer in engine.kv.values():
        layer.copy_(torch.randn(layer.shape, generator=generator).to(layer.dtype))
    kept = len(SteppedL2.made.kept)
    assert engine.store(prompt, f"save-{prompt}").result(PATIENCE_S)
    SteppedL2.made.await_kept(kept + CHUNKS)
    until(lambda: not server.store["l1_manager"]["total_object_count"])
    chunks = [engine.chunk(number) for number in range(CHUNKS)]
    for layer in engine.kv.values():
        layer.zero_()
    return chunks


@pytest.fixture(params=["zmq", "grpc"])
def served(request) -> Iterator[tuple[Server, Engine]]:
    with serving(STREAMED, request.param) as server:
        yield server, Engine(server.address, [])


@pytest.fixture
def streaming() -> Iterator[tuple[Server, Engine]]:
    with serving(STREAMED) as server:
        yield server, Engine(server.address, [])


def test_by_default_a_lookup_waits_for_one_load_of_everything():
    with serving(0) as server:
        engine = Engine(server.address, [])
        chunks = saved(server, engine)
        engine.look_up(1, "a")
        assert SteppedL2.made.await_loads(1) == [CHUNKS]
        assert engine.answer("a") is None
        SteppedL2.made.step()
        assert engine.await_answer("a") == CHUNKS
        assert engine.retrieve(1, "a").result(PATIENCE_S) is True
        assert all(torch.equal(engine.chunk(n), chunk) for n, chunk in enumerate(chunks))
        server.await_nothing_held()


def test_a_lookup_is_answered_at_once_and_chunks_are_copied_while_others_are_loaded(served):
    server, engine = served
    chunks = saved(server, engine)
    engine.look_up(1, "a")
    assert engine.await_answer("a") == CHUNKS
    assert SteppedL2.made.await_loads(2) == [STREAMED, STREAMED]
    retrieve = engine.retrieve(1, "a")
    for loaded in range(STREAMED, CHUNKS, STREAMED):
        SteppedL2.made.step()
        until(lambda last=loaded - 1: torch.equal(engine.chunk(last), chunks[last]))
        assert not engine.chunk(loaded).any()
        assert not retrieve.query()
    SteppedL2.made.step()
    assert retrieve.result(PATIENCE_S) is True
    assert all(torch.equal(engine.chunk(n), chunk) for n, chunk in enumerate(chunks))
    server.await_nothing_held()


def test_what_was_loaded_before_it_is_retrieved_is_copied_the_same(served):
    server, engine = served
    chunks = saved(server, engine)
    engine.look_up(1, "a")
    assert engine.await_answer("a") == CHUNKS
    for _ in range(CHUNKS // STREAMED):
        SteppedL2.made.step()
    assert engine.retrieve(1, "a").result(PATIENCE_S) is True
    assert all(torch.equal(engine.chunk(n), chunk) for n, chunk in enumerate(chunks))
    server.await_nothing_held()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("failing", range(CHUNKS))
def test_a_chunk_that_fails_to_load_fails_the_retrieve_and_nothing_stays_locked(streaming, failing, late):
    server, engine = streaming
    chunks = saved(server, engine)
    engine.look_up(1, "a")
    assert engine.await_answer("a") == CHUNKS
    retrieve = None if late else engine.retrieve(1, "a")
    for first in range(0, CHUNKS, STREAMED):
        SteppedL2.made.step((failing - first,) if first <= failing < first + STREAMED else ())
    assert (retrieve or engine.retrieve(1, "a")).result(PATIENCE_S) is False
    assert not any(engine.chunk(number).any() for number in range(failing, CHUNKS))
    for number in range(failing):
        there = engine.chunk(number)
        assert torch.equal(there, chunks[number])
    server.await_nothing_held()


def test_the_failure_is_told_before_the_other_loads_end(streaming):
    server, engine = streaming
    saved(server, engine)
    engine.look_up(1, "a")
    engine.await_answer("a")
    retrieve = engine.retrieve(1, "a")
    SteppedL2.made.step((0, 1))
    assert retrieve.result(PATIENCE_S) is False
    for _ in range(STREAMED, CHUNKS, STREAMED):
        SteppedL2.made.step()
    server.await_nothing_held()


def test_a_request_that_ends_while_its_retrieve_waits_leaves_nothing_locked(streaming):
    server, engine = streaming
    saved(server, engine)
    engine.look_up(1, "a")
    engine.await_answer("a")
    retrieve = engine.retrieve(1, "a")
    SteppedL2.made.step()
    until(lambda: engine.chunk(STREAMED - 1).any())
    engine.client.end_session("a").result(PATIENCE_S)
    SteppedL2.made.step((0,))
    assert retrieve.result(PATIENCE_S) is False
    SteppedL2.made.step()
    server.await_nothing_held()


def test_a_failed_load_takes_no_lock_of_another_request(streaming):
    server, engine = streaming
    chunks = saved(server, engine)
    for request in ("a", "b"):
        engine.look_up(1, request)
        assert engine.await_answer(request) == CHUNKS
    for failing in [(1,), (0, 1), (), (), (), ()]:  # the first two are of a
        SteppedL2.made.step(failing)
    assert engine.retrieve(1, "a").result(PATIENCE_S) is False
    assert engine.retrieve(1, "b", place=1).result(PATIENCE_S) is True
    assert all(torch.equal(engine.chunk(n, place=1), chunk) for n, chunk in enumerate(chunks))
    server.await_nothing_held()


def test_what_another_request_has_in_the_pool_is_copied_with_what_is_loaded(streaming):
    server, engine = streaming
    chunks = saved(server, engine)
    engine.look_up(1, "a")
    engine.await_answer("a")
    SteppedL2.made.step()
    until(lambda: server.store["l1_manager"]["read_locked_count"] == STREAMED)
    engine.look_up(1, "b")
    assert engine.await_answer("b") == CHUNKS
    retrieve = engine.retrieve(1, "b", place=1)
    for _ in range(2 * (CHUNKS // STREAMED - 1)):
        SteppedL2.made.step()
    assert retrieve.result(PATIENCE_S) is True
    assert engine.retrieve(1, "a").result(PATIENCE_S) is True
    for place in (0, 1):
        assert all(torch.equal(engine.chunk(n, place), chunk) for n, chunk in enumerate(chunks))
    server.await_nothing_held()


def test_a_retrieve_that_waits_holds_up_no_other_transfer(streaming):
    server, engine = streaming
    chunks = saved(server, engine)
    engine.look_up(1, "a")
    engine.await_answer("a")
    retrieve = engine.retrieve(1, "a")
    for layer in engine.kv.values():
        layer[:, engine.ids(2)[0]] = 7
    kept = len(SteppedL2.made.kept)
    assert engine.store(2, "b", place=2).result(PATIENCE_S)
    SteppedL2.made.await_kept(kept + CHUNKS)
    assert not retrieve.query()
    for _ in range(CHUNKS // STREAMED):
        SteppedL2.made.step()
    assert retrieve.result(PATIENCE_S) is True
    assert all(torch.equal(engine.chunk(n), chunk) for n, chunk in enumerate(chunks))
    server.await_nothing_held()


def test_of_two_requests_the_first_is_loaded_first():
    with serving(1) as server:
        engine = Engine(server.address, [])
        chunks = {prompt: saved(server, engine, prompt) for prompt in (1, 2)}
        for prompt in chunks:
            engine.look_up(prompt, f"of-{prompt}")
            engine.await_answer(f"of-{prompt}")
        order = []
        for _ in range(2 * CHUNKS):
            SteppedL2.made.await_loads(1)
            order.append(SteppedL2.made.loads[0][1][0])
            SteppedL2.made.step()
        places = [list(SteppedL2.made.kept).index(key) // CHUNKS for key in order]
        assert places[:4] == [0, 0, 1, 1]
        assert places[4:8] == [0, 0, 0, 0]
        for prompt, wanted in chunks.items():
            assert engine.retrieve(prompt, f"of-{prompt}", place=prompt).result(PATIENCE_S) is True
            assert all(torch.equal(engine.chunk(n, prompt), chunk) for n, chunk in enumerate(wanted))
        server.await_nothing_held()


@pytest.mark.parametrize("loaded", range(CHUNKS // STREAMED + 1))
def test_locks_of_chunks_that_nobody_will_retrieve_are_released_when_there_are_some(streaming, loaded):
    server, engine = streaming
    saved(server, engine)
    engine.look_up(1, "a")
    engine.await_answer("a")
    for _ in range(loaded):
        SteppedL2.made.step((1,))
    engine.free(1, "a", 0, CHUNKS)
    engine.client.end_session("a").result(PATIENCE_S)
    for _ in range(loaded, CHUNKS // STREAMED):
        SteppedL2.made.step((1,))
    server.await_nothing_held()


def test_chunks_that_the_engine_has_are_freed_and_the_others_retrieved(streaming):
    server, engine = streaming
    chunks = saved(server, engine)
    engine.look_up(1, "a")
    engine.await_answer("a")
    engine.free(1, "a", 0, 1)
    retrieve = engine.retrieve(1, "a", first=1, skip=BLOCK)
    for _ in range(CHUNKS // STREAMED):
        SteppedL2.made.step()
    assert retrieve.result(PATIENCE_S) is True
    assert not engine.chunk(0).any()
    half = CHUNK // BLOCK // 2
    assert not engine.chunk(1)[:, :, :half].any()
    assert torch.equal(engine.chunk(1)[:, :, half:], chunks[1][:, :, half:])
    assert all(torch.equal(engine.chunk(n), chunks[n]) for n in range(2, CHUNKS))
    server.await_nothing_held()


def test_a_load_that_never_ends_fails_the_retrieve():
    with serving(STREAMED, write_ttl=1) as server:
        engine = Engine(server.address, [])
        saved(server, engine)
        engine.look_up(1, "a")
        engine.await_answer("a")
        retrieve = engine.retrieve(1, "a")
        SteppedL2.made.step()
        assert retrieve.result(PATIENCE_S) is False
        for _ in range(STREAMED, CHUNKS, STREAMED):
            SteppedL2.made.step()
        until(lambda: not server.store["l1_manager"]["read_locked_count"])
        assert not any(engine.chunk(number).any() for number in range(STREAMED, CHUNKS))


def test_an_engine_that_goes_away_fails_its_retrieve_and_leaves_nothing_locked(streaming):
    server, engine = streaming
    saved(server, engine)
    engine.look_up(1, "a")
    engine.await_answer("a")
    retrieve = engine.retrieve(1, "a")
    SteppedL2.made.step()
    until(lambda: engine.chunk(STREAMED - 1).any())
    engine.transfers.unregister().result(PATIENCE_S)
    for _ in range(STREAMED, CHUNKS, STREAMED):
        SteppedL2.made.step()
    assert retrieve.result(PATIENCE_S) is False
    server.await_nothing_held()


def test_the_end_of_the_prefetch_controller_fails_what_it_had_promised():
    with serving(STREAMED) as server:
        engine = Engine(server.address, [])
        saved(server, engine)
        engine.look_up(1, "a")
        engine.await_answer("a")
        retrieve = engine.retrieve(1, "a")
        server.context.storage_manager._prefetch_controller.stop()
        assert retrieve.result(PATIENCE_S) is False
        server.context.storage_manager._prefetch_controller.stop = lambda: None
        server.await_nothing_held()


def test_sliding_windows_are_retrieved_whole():
    groups = [
        EngineGroupInfo(0, (0, 1), BLOCK),
        EngineGroupInfo(1, (2, 3), BLOCK, sw_size_tokens=2 * CHUNK),
    ]
    with serving(STREAMED, groups=groups) as server:
        engine = Engine(server.address, groups)
        chunks = saved(server, engine)
        engine.look_up(1, "a")
        assert engine.await_answer("a") == CHUNKS
        retrieve = engine.retrieve(1, "a")
        for _ in range(CHUNKS // STREAMED):
            SteppedL2.made.step()
        assert retrieve.result(PATIENCE_S) is True
        for number, chunk in enumerate(chunks):
            there = engine.chunk(number)
            assert torch.equal(there[:2], chunk[:2])
            assert torch.equal(there[2:], chunk[2:] if number >= CHUNKS - 2 else torch.zeros_like(chunk[2:]))
        server.await_nothing_held()


def test_an_engine_that_copies_itself_is_answered_when_everything_is_loaded(streaming):
    server, _ = streaming
    registry = server.context.layout_desc_registry
    assert registry.takes_streams(MODEL, 1)
    registry.register(MODEL, 1, registry.find(MODEL, 1))
    assert not registry.takes_streams(MODEL, 1)
    assert not registry.takes_streams("another", 1)


def test_cacheblend_refuses_the_option():
    with pytest.raises(ValueError, match="l2-prefetch-stream-chunks"), serving(STREAMED, engine_type="blend"):
        pass


def test_the_option_of_the_command_line():
    words = ["--l1-size-gb", "1", "--eviction-policy", "LRU"]
    parsed = [
        get_arg_parser().parse_args(words + more) for more in ([], ["--l2-prefetch-stream-chunks", "4"])
    ]
    assert [parse_args_to_config(each).prefetch_stream_chunks for each in parsed] == [0, 4]


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 7), min_size=1), st.booleans()), min_size=1, max_size=8),
    st.lists(st.integers(0, 7), max_size=8),
    st.sets(st.integers(0, 7)),
)
def test_every_lock_is_given_up_once_and_only_those_that_were_taken(reports, moments, failing):
    keys = [ObjectKey(bytes([number]) * 32, MODEL, 0) for number in range(8)]
    load = PrefetchLoad(keys, PATIENCE_S)
    given_up: list[ObjectKey] = []
    unreleased = set(range(8))
    for moment, (numbers, _) in enumerate(reports):
        mine = {number for number in unreleased if number in moments[: moment + 1]}
        if mine:
            load.release([keys[number] for number in sorted(mine)], given_up.extend)
            unreleased -= mine
        load.report(
            [keys[n] for n in numbers if n not in failing], [keys[n] for n in numbers if n in failing]
        )
    load.release([keys[number] for number in unreleased], given_up.extend)
    reported = {n for numbers, _ in reports for n in numbers}
    assert load.is_pending() == (reported != set(range(8)))
    load.abort()
    assert sorted(key.chunk_hash for key in given_up) == [
        keys[n].chunk_hash for n in sorted(reported - failing)
    ]
    assert load.wait([keys[n] for n in sorted(reported - failing)])
    assert not (set(range(8)) - (reported - failing)) or not load.wait(keys)
