"""Connector `striped` inside LMCache: a remote storage plugin, imported by LMCache 0.5 only, inside vLLM.

    remote_storage_plugins: [striped]
    save_unfull_chunk: false
    extra_config:
      remote_storage_plugin.striped.module_path: lmcache_striped.remote
      remote_storage_plugin.striped.class_name: StripedAdapter
      remote_storage_plugin.striped.endpoints: 127.0.0.1:6666,127.0.0.1:6667

Further keys are those of settings_from (cache_settings.py). Whole chunks only: another size is not saved. Interface:
lmcache/v1/storage_backend/connector.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from lmcache.logging import init_logger
from lmcache.v1.storage_backend.connector import ConnectorAdapter
from lmcache.v1.storage_backend.connector.base_connector import RemoteConnector

from .base import leading_true
from .cache import StripedCache
from .cache_settings import settings_from
from .gate_feed import GateFeed

logger = init_logger(__name__)
NAME = "striped"

Names = list[str]  # in the connector, `list` is one of its methods
Objects = list[Any]


class StripedAdapter(ConnectorAdapter):
    """What `class_name` names: makes the connector for the plugin `striped`, or `striped.<instance>`."""

    def __init__(self) -> None:
        super().__init__(f"plugin://{NAME}")

    def create_connector(self, context: Any) -> RemoteConnector:
        name = context.plugin_name or NAME
        settings = settings_from(context.config.extra_config or {}, f"remote_storage_plugin.{name}")
        logger.info("striped: %s", settings.loads_by)
        return StripedRemoteConnector(
            StripedCache(
                settings,
                *(partial(log, "striped: %s") for log in (logger.error, logger.warning, logger.info)),
                rank=f"{getattr(context.metadata, 'worker_id', 0)}",
            ),
            context.loop,
            context.local_cpu_backend,
            context.config,
            context.metadata,
        )


class StripedRemoteConnector(RemoteConnector):
    """LMCache's remote connector over a StripedCache.

    Loads are received in the memory objects of LMCache's pool. A save holds its memory objects until it has ended or
    is dropped, which is at once when more than save_queue_bytes are waiting.

    A lookup finds what the gate finds worth loading. LMCache asks again for what a lookup found when it comes to load it: that is
    no lookup, and nothing is decided anew.
    """

    def __init__(self, cache: StripedCache, loop: Any, local_cpu_backend: Any, config: Any, metadata: Any):
        super().__init__(config, metadata)
        self.cache = cache
        self.dropped_unfull = 0
        self._loop = loop
        self._pool = local_cpu_backend
        loads_in_step = not getattr(config, "enable_async_loading", False)
        tell, warn = (partial(log, "striped: %s") for log in (logger.info, logger.warning))
        self._feed = GateFeed.of(cache.settings, tell, warn, config.chunk_size, loads_in_step)

    async def exists(self, key: Any) -> bool:
        return await self._aside(self.exists_sync, key)

    def exists_sync(self, key: Any) -> bool:
        return self.batched_contains([key]) == 1

    def support_batched_contains(self) -> bool:
        return True

    def batched_contains(self, keys: Sequence[Any]) -> int:
        names = _names(keys)
        present = self.cache.count_present(names)
        return present if self._feed is None else self._found(self._feed, names, present)

    def _found(self, feed: GateFeed, names: Sequence[bytes], present: int) -> int:
        if feed.gate.has_found(names):
            return present
        feed.looked_up()
        found = feed.gate.decide(names, present).found
        if probed := feed.gate.to_probe():
            room = [np.empty(self.full_chunk_size_bytes, np.uint8) for _ in probed]
            self._loop.call_soon_threadsafe(self._loop.run_in_executor, None, self._load, probed, room)
        return found

    def _load(self, names: Sequence[bytes], room: Sequence[np.ndarray]) -> list[bool]:
        if self._feed is None:
            return self.cache.load(names, room)
        waiting = self._feed.gate.load_waits(names, sum(array.size for array in room))
        return self._feed.loaded(waiting, partial(self.cache.load, names, room))

    async def batched_async_contains(self, lookup_id: str, keys: Sequence[Any], pin: bool = False) -> int:
        return await self._aside(self.batched_contains, keys)

    async def get(self, key: Any) -> Any:
        return (await self.batched_get([key]))[0]

    def support_batched_get(self) -> bool:
        return True

    async def batched_get(self, keys: Sequence[Any]) -> Objects:
        """One memory object per key, None from the first for which the pool has no room, and where there is no chunk."""
        objects = self._allocated(len(keys))
        load = self._loop.run_in_executor(
            None, self._load, _names(keys[: len(objects)]), [_bytes_of(item) for item in objects]
        )
        try:
            found = await asyncio.shield(load)
        except asyncio.CancelledError:
            load.add_done_callback(lambda _: _release(objects))
            raise
        except BaseException:
            _release(objects)
            raise
        _release([item for item, hit in zip(objects, found, strict=True) if not hit])
        kept = [item if hit else None for item, hit in zip(objects, found, strict=True)]
        return kept + [None] * (len(keys) - len(objects))

    async def batched_get_non_blocking(self, lookup_id: str, keys: Sequence[Any]) -> Objects:
        """The memory objects of the leading keys that are there."""
        objects = await self.batched_get(keys)
        count = leading_true([item is not None for item in objects])
        _release([item for item in objects[count:] if item is not None])
        return objects[:count]

    async def put(self, key: Any, memory_obj: Any) -> None:
        await self.batched_put([key], [memory_obj])

    def support_batched_put(self) -> bool:
        return True

    async def batched_put(self, keys: Sequence[Any], memory_objs: Sequence[Any]) -> None:
        """Ends when the chunks are saved, failed, dropped or not worth it; the caller then gives the memory objects back."""
        pairs = [(name, _bytes_of(item)) for name, item in zip(_names(keys), memory_objs, strict=True)]
        whole = [(name, data) for name, data in pairs if data.size == self.full_chunk_size_bytes]
        self.dropped_unfull += len(pairs) - len(whole)
        wanted = self.cache.worth_saving(whole if self._feed is None else self._not_left(self._feed, whole))
        pending = [
            saved
            for name, data in wanted
            if self.cache.offer([name], [data], partial(self._resolve, saved := asyncio.Event()))
        ]
        if dropped := len(wanted) - len(pending):
            logger.warning("striped: dropped %d chunks, saves are behind", dropped)
        for saved in pending:
            await _undisturbed(saved)

    def _not_left(self, feed: GateFeed, pairs: Sequence[Any]) -> Objects:
        """Of chunks to be saved those that are not there already."""
        size = sum(data.size for _, data in pairs)
        left = feed.gate.saves([name for name, _ in pairs], size)
        return [pair for pair, there in zip(pairs, left, strict=True) if not there]

    def _resolve(self, saved: asyncio.Event, _: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed before the save ended
            self._loop.call_soon_threadsafe(saved.set)

    async def list(self) -> Names:
        return []

    def remove_sync(self, key: Any) -> bool:
        return self.cache.delete(_names([key]))[0]

    async def close(self) -> None:
        if self._feed is not None:
            await self._aside(self._feed.close)
            logger.info("striped: %s", self._feed.gate.told)
        await self._aside(self.cache.close)
        logger.info("striped: %s, unfull chunks not saved: %d", self.cache.counts, self.dropped_unfull)

    async def _aside(self, work: Any, *arguments: Any) -> Any:
        return await self._loop.run_in_executor(None, work, *arguments)

    def _allocated(self, count: int) -> Objects:
        """Memory objects until the pool has no more; it is not waited for, since saves may hold it."""
        objects: list[Any] = []
        while len(objects) < count:
            item = self._pool.allocate(self.meta_shapes, self.meta_dtypes, self.meta_fmt, busy_loop=False)
            if item is None:
                break
            objects.append(item)
        return objects


async def _undisturbed(saved: asyncio.Event) -> None:
    """Wait even when cancelled, since the memory is still being read; then pass the cancellation on."""
    cancelled: asyncio.CancelledError | None = None
    while not saved.is_set():
        try:
            await saved.wait()
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _names(keys: Sequence[Any]) -> list[bytes]:
    return [key.to_string().encode() for key in keys]


def _bytes_of(memory_obj: Any) -> np.ndarray:
    """The memory object's bytes, not copied."""
    return np.frombuffer(memory_obj.byte_array, dtype=np.uint8)


def _release(objects: Sequence[Any]) -> None:
    for item in objects:
        item.ref_count_down()
