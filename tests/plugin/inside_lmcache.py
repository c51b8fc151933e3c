"""What tests inside LMCache share: its keys, its CPU pool and chunks of a tiny model. Imports LMCache and torch."""

import select

import numpy as np
import torch
from lmcache.utils import CacheEngineKey
from lmcache.v1.metadata import LMCacheMetadata

try:
    from lmcache.v1.memory_allocators.ad_hoc_memory_allocator import AdHocMemoryAllocator
except ImportError:
    from lmcache.v1.memory_management import AdHocMemoryAllocator

CHUNK, LAYERS, HEADS, HEAD_SIZE = 64, 4, 2, 32
BYTES = 2 * LAYERS * CHUNK * HEADS * HEAD_SIZE * 2


def scenario(connector: str, **changes) -> dict:
    """A scenario of store valkey, as far as LMCache's configuration is made of it."""
    absent = dict.fromkeys(("dram_pool_bytes", "capacity_bytes"))
    known = {"tier": "dram", "store": "valkey", "connector": connector, "connections": 2}
    return known | absent | {"chunk_tokens": CHUNK, "save_decode_cache": False, "lmcache": {}} | changes


def metadata_of_the_model() -> LMCacheMetadata:
    metadata = LMCacheMetadata("tiny", 1, 1, 0, 0, torch.bfloat16, (LAYERS, 2, CHUNK, HEADS, HEAD_SIZE))
    metadata.chunk_size = CHUNK
    return metadata


class Pool:
    """LMCache's CPU pool, as far as a connector uses it, with a bound."""

    def __init__(self, config, metadata, most: int = 100):
        self.config, self.metadata = config, metadata
        self.most, self.given = most, []
        self._allocator = AdHocMemoryAllocator("cpu")

    def allocate(self, shapes, dtypes, fmt=None, eviction=True, busy_loop=True):
        assert not busy_loop
        if sum(item.get_ref_count() > 0 for item in self.given) >= self.most:
            return None
        self.given.append(self._allocator.allocate(shapes, dtypes, fmt))
        return self.given[-1]

    def full(self, tokens: int = CHUNK):
        shape = torch.Size([2, LAYERS, tokens, HEADS * HEAD_SIZE])
        return self._allocator.allocate(shape, torch.bfloat16)

    @property
    def held(self) -> int:
        return sum(item.get_ref_count() > 0 for item in self.given)


def keys_of(purpose: int, count: int) -> list[CacheEngineKey]:
    return [CacheEngineKey("tiny", 1, 0, 1000 * purpose + i, torch.bfloat16) for i in range(count)]


def filled(pool: Pool, count: int) -> list:
    objects = [pool.full() for _ in range(count)]
    for number, item in enumerate(objects):
        np.frombuffer(item.byte_array, dtype=np.uint8)[:] = np.random.default_rng(number).integers(
            0, 256, BYTES, dtype=np.uint8
        )
    return objects


def await_result(descriptor: int, query):
    """The result of an L2 adapter's task once it has one; the descriptor must say so."""
    while (found := query()) is None:
        assert select.select([descriptor], [], [], 30)[0], "the task never ended"
    return found
