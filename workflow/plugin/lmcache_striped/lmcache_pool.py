"""What the pool of an LMCache server (its L1) holds. A lookup names all chunks of a prompt, whatever the pool has of them, and a load only
those that it lacks (lmcache/v1/distributed/storage_controllers/prefetch_controller.py, LMCache 0.5.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any


class LMCachePool:
    """The keys in the pool, told of what comes and goes; without that it is taken to be empty. Safe to use from several threads."""

    def __init__(self) -> None:
        self._held: set[str] = set()

    def came(self, keys: Iterable[str]) -> None:
        """These are in the pool now."""
        self._held.update(keys)

    def went(self, keys: Iterable[str]) -> None:
        """These are not."""
        self._held.difference_update(keys)

    def leading(self, chunks: Sequence[Sequence[str]]) -> int:
        """How many chunks, given by their keys, it holds until the first of which a key is missing."""
        return next(
            (number for number, keys in enumerate(chunks) if not self._held.issuperset(keys)), len(chunks)
        )


def follow_lmcache(pool: LMCachePool, warn: Callable[[str], None]) -> None:
    """Tell the pool of the events of the LMCache server in this process. Imports LMCache; warn is told in a line if it has none."""
    try:
        from lmcache.v1.distributed.l2_adapters.native_connector_l2_adapter import _object_key_to_string
        from lmcache.v1.mp_observability.event import EventType
        from lmcache.v1.mp_observability.event_bus import get_event_bus

        came = (EventType.L1_WRITE_FINISHED, EventType.L1_WRITE_FINISHED_AND_READ_RESERVED)
        went, bus = EventType.L1_KEYS_EVICTED, get_event_bus()
        told = bus.enabled
    except (ImportError, AttributeError):
        told = False
    if not told:
        warn(
            "gate: LMCache does not tell what its own pool holds, so loads are predicted as if that were empty"
        )
        return

    def names(event: Any) -> list[str]:
        return [_object_key_to_string(key) for key in event.metadata["keys"]]

    for event_type in came:
        bus.subscribe(event_type, lambda event: pool.came(names(event)))
    bus.subscribe(went, lambda event: pool.went(names(event)))
