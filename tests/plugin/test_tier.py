"""The plugin as a tier of vLLM's own offloading: its manager over real tensors and a real Valkey; skipped without vLLM."""

import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

pytest.importorskip("vllm.v1.kv_offload.tiering.base")
from vllm.v1.kv_offload import config as offloading
from vllm.v1.kv_offload.base import LookupResult, ReqContext, ScheduleEndContext, make_offload_key
from vllm.v1.kv_offload.tiering.base import TieringOffloadingMetrics as Metrics
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec

from tests.helpers import eventually
from tests.stores.conftest import store_config
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.registry import make_store

CHUNK_BYTES, CHUNKS = 65_536, 8


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with make_store("valkey", store_config(tmp_path_factory.mktemp("tier"), "valkey")) as one:
        yield one


class Engine:
    """vLLM's manager of offloaded chunks as its scheduler uses it; a GPU's part is that of `saved` and `loaded`."""

    def __init__(self, store: Store, model: str, **keys):
        endpoint = store.endpoint
        tier = {
            "type": "StripedTier",
            "module_path": "lmcache_striped.tier",
            "endpoints": f"{endpoint.host}:{endpoint.port}",
            "stripe_bytes": 8192,
            "timeout_s": 1,
            "retry_s": 0.1,
        }
        config = offloading.OffloadingConfig(
            groups=(offloading.OffloadingGroupConfig(16, ("layer",), 0),),
            worker_kv_bytes_per_block=CHUNK_BYTES,
            enable_kv_cache_events=False,
            extra_config={"cpu_bytes_to_use": CHUNKS * CHUNK_BYTES, "secondary_tiers": [tier | keys]},
            engine_id=uuid.uuid4().hex,
            model=offloading.OffloadingModelConfig(model, "bfloat16"),
            cache=offloading.OffloadingCacheConfig(16, 1),
            parallel=offloading.OffloadingParallelConfig(0, 1, 1, 1, 1, 1, 0, 1, None, True),
        )
        self.manager = TieringOffloadingSpec(config).get_manager()
        self.rows = np.asarray(self.manager.primary_tier.get_kv_memoryview()).view(np.uint8)
        (self.tier,) = self.manager.secondary_tiers

    def step(self) -> None:
        self.manager.on_schedule_end(ScheduleEndContext((), ()))

    def saved(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        """A request's chunks go from the GPU to DRAM and on to the tier."""
        request = ReqContext(uuid.uuid4().hex)
        self.manager.on_new_request(request)
        prepared = self.manager.prepare_store(keys, request)
        for key, row in zip(prepared.keys_to_store, prepared.store_spec.block_ids, strict=True):
            self.rows[row] = values[list(keys).index(key)]
        self.manager.complete_store(prepared.keys_to_store, request)
        self.manager.on_request_finished(request)
        self.settle()

    def settle(self) -> None:
        self.step()
        self.tier.drain_jobs()
        self.step()

    def loaded(self, keys: Sequence[bytes]) -> list[np.ndarray]:
        """The leading chunks that a request finds, once every lookup has an answer."""
        request = ReqContext(uuid.uuid4().hex)
        self.manager.on_new_request(request)
        answers: list[LookupResult] = []

        def answered() -> bool:
            answers[:] = [self.manager.lookup(key, request) for key in keys]
            self.step()
            return not {LookupResult.RETRY, LookupResult.HIT_PENDING} & {*answers}

        eventually(answered)
        hits = [answer is LookupResult.HIT for answer in answers]
        leading = keys[: hits.index(False) if False in hits else len(hits)]
        rows = self.manager.prepare_load(leading, request).block_ids if leading else []
        found = [self.rows[row].copy() for row in rows]
        self.manager.complete_load(leading, request)
        self.manager.on_request_finished(request)
        return found


@pytest.fixture
def engines(store) -> Iterator:
    begun = []

    def engine(model: str = "tiny", **keys) -> Engine:
        begun.append(Engine(store, model, **keys))
        return begun[-1]

    yield engine
    for one in begun:
        one.rows = None
        one.manager.shutdown()


def chunks_of(purpose: int, count: int) -> tuple[list[bytes], list[np.ndarray]]:
    keys = [make_offload_key(bytes([purpose, number]) * 16, 0) for number in range(count)]
    random = np.random.default_rng(purpose)
    return keys, list(random.integers(0, 256, (count, CHUNK_BYTES), dtype=np.uint8))


def failures(engine: Engine) -> int:
    """Saves that vLLM has counted as failed since it was asked last."""
    told = engine.manager.get_stats().reduce()
    return sum(value for name, value in told.items() if name.startswith(Metrics.CASCADE_JOB_FAILURES))


def test_chunks_come_back_in_another_engine_as_they_were_saved(engines):
    keys, values = chunks_of(1, 5)
    engines().saved(keys[:4], values[:4])
    other = engines()
    found = other.loaded(keys)
    assert len(found) == 4
    assert all((left == right).all() for left, right in zip(found, values, strict=False))
    assert other.tier.cache.counts.loaded == 4


def test_another_model_finds_nothing(engines):
    keys, values = chunks_of(2, 2)
    engines("one").saved(keys, values)
    assert engines("other").loaded(keys) == []


def test_more_than_dram_holds_comes_back_and_what_is_there_is_not_saved_again(engines):
    engine = engines()
    first, values = chunks_of(3, CHUNKS)
    engine.saved(first, values)
    engine.saved(*chunks_of(4, CHUNKS))
    assert engine.tier.cache.counts.saves.saved == 2 * CHUNKS
    engine.saved(first, values)
    assert engine.tier.cache.counts.saves.saved == 2 * CHUNKS
    engine.saved(*chunks_of(5, CHUNKS))
    found = engine.loaded(first)
    assert [bool((left == right).all()) for left, right in zip(found, values, strict=True)] == [True] * CHUNKS


def test_a_damaged_chunk_is_a_miss_and_is_saved_again(engines, store):
    keys, values = chunks_of(6, 3)
    engine = engines()
    engine.saved(keys, values)
    name = engine.tier.key_of(keys[1])
    with store.client() as client:
        assert client.set(name + b"#1", b"x") is True
    engine.saved(*chunks_of(7, CHUNKS))
    found = engine.loaded(keys)
    assert len(found) == 1
    assert (found[0] == values[0]).all()
    engine.saved(keys, values)
    assert len(engines().loaded(keys)) == 3


def test_a_store_that_is_gone_costs_misses_and_no_job_is_left(tmp_path, engines):
    keys, values = chunks_of(8, 2)
    with make_store("valkey", store_config(tmp_path, "valkey")) as gone:
        place = f"{gone.endpoint.host}:{gone.endpoint.port}"
    engine = engines(endpoints=place)
    engine.saved(keys, values)
    assert not engine.manager.has_pending_work()
    assert engine.tier.cache.counts.saves.failed == 2
    assert failures(engine) == 1
    assert engines(endpoints=place).loaded(keys) == []


def test_at_the_second_use_only_what_comes_again_is_saved(engines):
    keys, values = chunks_of(10, 2)
    engine = engines(save="second_use")
    engine.saved(keys, values)
    assert not failures(engine)
    assert engines().loaded(keys) == []
    engine.saved(*chunks_of(11, CHUNKS))
    engine.saved(keys, values)
    assert len(engines().loaded(keys)) == 2
    assert engine.tier.cache.counts.first_uses == 2 + CHUNKS


def test_a_full_queue_drops_saves(engines):
    engine = engines(save_queue_bytes=CHUNK_BYTES // 2)
    keys, values = chunks_of(9, 2)
    engine.saved(keys, values)
    assert engine.tier.cache.counts.saves.dropped == 2
    assert failures(engine) == 0
    assert engines().loaded(keys) == []


def test_a_wrong_key_is_named(engines):
    with pytest.raises(Exception, match=r"secondary_tiers\.connections: 'x' is wrong"):
        engines(connections="x")
