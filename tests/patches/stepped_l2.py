"""An L2 adapter of LMCache that loads when a test says so, and what becomes of each load. Imports LMCache."""

import threading
from collections import Counter, deque
from typing import ClassVar

from lmcache.lmcache_native import Bitmap
from lmcache.v1.distributed.internal_api import L2StoreResult
from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface
from lmcache.v1.platform import create_event_notifier

PATIENCE_S = 30


class SteppedL2(L2AdapterInterface):
    """Keeps what is stored, finds it, and holds every load until `step`. `made`: the last one that a server made."""

    made: ClassVar["SteppedL2"]

    def __init__(self, params, l1_memory_desc=None):
        super().__init__()
        SteppedL2.made = self
        self.kept: dict = {}
        self.locks: Counter = Counter()
        self.loads: deque = deque()
        self._changed = threading.Condition()
        self._tasks = 0
        self._ended: dict = {"store": {}, "lookup": {}, "load": {}}
        self._events = {kind: create_event_notifier() for kind in self._ended}

    def get_store_event_fd(self):
        return self._events["store"].fileno()

    def get_lookup_and_lock_event_fd(self):
        return self._events["lookup"].fileno()

    def get_load_event_fd(self):
        return self._events["load"].fileno()

    def submit_store_task(self, keys, objects):
        size = sum(item.get_size() for item in objects)
        with self._changed:
            self.kept |= {key: bytes(item.byte_array) for key, item in zip(keys, objects, strict=True)}
            self._changed.notify_all()
        return self._end("store", L2StoreResult(True, size))

    def pop_completed_store_tasks(self):
        with self._changed:
            ended, self._ended["store"] = self._ended["store"], {}
        return ended

    def submit_lookup_and_lock_task(self, keys, group_layout_descs):
        found = Bitmap(len(keys))
        with self._changed:
            for index, key in enumerate(keys):
                if key in self.kept:
                    found.set(index)
                    self.locks[key] += 1
        return self._end("lookup", found)

    def query_lookup_and_lock_result(self, task_id):
        with self._changed:
            return self._ended["lookup"].pop(task_id, None)

    def submit_unlock(self, keys):
        with self._changed:
            self.locks.subtract(keys)

    def submit_load_task(self, keys, objects):
        with self._changed:
            self._tasks += 1
            self.loads.append((self._tasks, keys, objects))
            self._changed.notify_all()
            return self._tasks

    def query_load_result(self, task_id):
        with self._changed:
            return self._ended["load"].pop(task_id, None)

    def close(self):
        for event in self._events.values():
            event.close()

    def await_kept(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.kept) >= count, PATIENCE_S)

    def await_loads(self, count: int) -> list[int]:
        """How many keys each load has that is under way, once so many are."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.loads) >= count, PATIENCE_S)
            return [len(keys) for _, keys, _ in self.loads]

    def step(self, failing: tuple[int, ...] = ()) -> None:
        """End the oldest load; of its keys those at the places in `failing` are not loaded, their buffers full of what is wrong."""
        self.await_loads(1)
        with self._changed:
            task, keys, objects = self.loads.popleft()
        loaded = Bitmap(len(keys))
        for index, (key, item) in enumerate(zip(keys, objects, strict=True)):
            wrong = index in failing
            memoryview(item.byte_array).cast("B")[:] = (
                b"\xee" * len(self.kept[key]) if wrong else self.kept[key]
            )
            if not wrong:
                loaded.set(index)
        self._end("load", loaded, task)

    def _end(self, kind, result, task=None):
        with self._changed:
            if task is None:
                self._tasks += 1
                task = self._tasks
            self._ended[kind][task] = result
        self._events[kind].notify()
        return task
