"""The pool of LMCache's server as it is played, against LMCache's own L1 manager and eviction controller; skipped where LMCache is not installed."""

import random
from collections.abc import Iterator

import pytest

pytest.importorskip("lmcache.v1.distributed.storage_controllers.eviction_controller")
import torch
from lmcache.v1.distributed.api import MemoryLayoutDesc, ObjectKey
from lmcache.v1.distributed.config import EvictionConfig, L1ManagerConfig, L1MemoryManagerConfig
from lmcache.v1.distributed.error import L1Error
from lmcache.v1.distributed.l1_manager import L1Manager
from lmcache.v1.distributed.storage_controllers import eviction_controller
from lmcache.v1.mp_observability.event_bus import EventBusConfig, init_event_bus

from workflow.hyperkv.engines.replay.pools import PERIOD_S, RATIO, WATERMARK, ServerPool

ROOM, CHUNK_BYTES = 40, 1 << 16
LAYOUT = MemoryLayoutDesc([torch.Size([CHUNK_BYTES])], [torch.uint8])
PROMPTS = [[bytes([prompt, chunk]) * 16 for chunk in range(12)] for prompt in range(8)]


class Theirs:
    """LMCache's, called as its server does at a lookup, a store, a load from the store below, and the end of a request."""

    def __init__(self, watermark: float):
        memory = L1MemoryManagerConfig(ROOM * CHUNK_BYTES, use_lazy=False, shm_name="")
        self.l1 = L1Manager(L1ManagerConfig(memory))
        config = EvictionConfig("LRU", trigger_watermark=watermark)
        self.controller = eviction_controller.L1EvictionController(self.l1, config)
        self._reading: list[tuple[float, list[ObjectKey]]] = []

    def second(self, now_s: float) -> None:
        """What is read until now is, then the loop of a second runs once."""
        for _, keys in [each for each in self._reading if each[0] <= now_s]:
            self.l1.finish_read(keys)
        self._reading = [each for each in self._reading if each[0] > now_s]
        self.controller._stop_flag.clear()
        self.controller.eviction_loop()

    def held(self) -> set[bytes]:
        return {key.chunk_hash for key in self.l1._objects if key.kv_rank == 0}

    def find(self, keys: list[bytes], until_s: float) -> int:
        """A lookup, and the load of what it finds."""
        there = self.held()
        found = next((number for number, key in enumerate(keys) if key not in there), len(keys))
        hits = objects(keys[:found])
        if hits:
            self.l1.reserve_read(hits)
            self.l1.touch_keys(hits)
            self._reading.append((until_s, hits))
        return found

    def reserve(self, keys: list[bytes]) -> None:
        self.l1.reserve_write(objects(keys), [False] * len(keys), LAYOUT, tag="store")

    def admit(self, keys: list[bytes]) -> None:
        self.l1.finish_write(objects(keys), tag="store")

    def done(self, keys: list[bytes]) -> None:
        self.l1.touch_keys(objects(keys))

    def take(self, keys: list[bytes], until_s: float) -> bool:
        wanted = objects(keys, rank=1)
        results = self.l1.reserve_write(wanted, [True] * len(keys), LAYOUT, tag="load")
        if any(error != L1Error.SUCCESS for error, _ in results.values()):
            return False
        self.l1.finish_write_and_reserve_read(wanted, tag="load")
        self._reading.append((until_s, wanted))
        return True


class Ours:
    """The played one, called as PooledTiers does."""

    def __init__(self, watermark: float):
        self.now_s = 0.0
        self.pool = ServerPool(ROOM, lambda: self.now_s, watermark)

    def second(self, now_s: float) -> None:
        self.now_s = now_s
        self.pool.use([])

    def held(self) -> set[bytes]:
        return {key for prompt in PROMPTS for key in prompt if self.pool.holds(key)}

    def find(self, keys: list[bytes], until_s: float) -> int:
        found = self.pool.leading(keys)
        self.pool.use(keys[:found])
        self.pool.read(keys[:found], until_s)
        return found

    def take(self, keys: list[bytes], until_s: float) -> bool:
        if not self.pool.take(keys):
            return False
        self.pool.taken_until(len(keys), until_s)
        return True

    def __getattr__(self, name: str):
        return getattr(self.pool, name)


def objects(keys: list[bytes], rank: int = 0) -> list[ObjectKey]:
    return [ObjectKey(key, "model", rank) for key in keys]


@pytest.fixture(params=[WATERMARK, 0.3])
def watermark(request) -> float:
    return request.param


@pytest.fixture
def theirs(watermark, monkeypatch) -> Iterator[Theirs]:
    """LMCache's, whose loop ends after one round; `slept`: what it waited for."""
    bus = init_event_bus(EventBusConfig())
    bus.start()
    one = Theirs(watermark)
    one.slept = []
    monkeypatch.setattr(
        eviction_controller.time, "sleep", lambda s: (one.slept.append(s), one.controller._stop_flag.set())
    )
    yield one
    one.l1.close()
    bus.stop()


def test_its_figures_are_lmcaches(theirs):
    defaults = EvictionConfig("LRU")
    assert (defaults.trigger_watermark, defaults.eviction_ratio) == (WATERMARK, RATIO)
    theirs.second(1.0)
    assert theirs.slept == [PERIOD_S]


@pytest.mark.parametrize("seed", range(40))
def test_it_holds_what_lmcache_does(seed, watermark, theirs):
    """Random lookups, saves, loads from below and ends of requests, within seconds and over them."""
    rng, ours = random.Random(seed), Ours(watermark)
    both = theirs, ours
    coming: list[list[bytes]] = []
    evicted = 0
    for second in range(1, 40):
        for number in range(rng.randrange(6)):
            prompt = PROMPTS[min(rng.randrange(8), rng.randrange(8))]
            begin, end = sorted(rng.sample(range(13), 2))
            until_s = second + rng.choice((-0.5, 0.5, 1.5))
            found = [one.find(prompt, until_s) for one in both]
            assert found[0] == found[1]
            for one in both:
                one.reserve(prompt[begin:end])
            coming.append(prompt[begin:end])
            if rng.random() < 0.7:
                for keys in coming:
                    for one in both:
                        one.admit(keys)
                coming.clear()
            if rng.random() < 0.5:
                done = PROMPTS[rng.randrange(8)]
                if not any(key in done for keys in coming for key in keys):
                    for one in both:
                        one.done(done)
            if rng.random() < 0.3:
                keys = [bytes([255, second, number, chunk]) * 8 for chunk in range(rng.randrange(1, 8))]
                took = [one.take(keys, second + rng.choice((0.0, 1.0))) for one in both[:1]]
                took.append(ours.take(keys, theirs._reading[-1][0]) if took[0] else ours.take(keys, 0.0))
                assert took[0] == took[1]
            assert theirs.held() == ours.held(), (second, number)
        before = len(ours.held())
        for one in both:
            one.second(float(second))
        assert theirs.held() == ours.held(), second
        evicted += before - len(ours.held())
    assert evicted > 40
