"""The bounded queue of saves: it never waits, never holds more than its bound, and calls `done` once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tests.helpers import eventually
from workflow.hyperkv.base.errors import StoreError
from workflow.plugin.lmcache_striped.save_queue import SaveCounts, SaveQueue

SIZE = 100
VALUE = np.zeros(SIZE, dtype=np.uint8)


class Gate:
    """A store whose saves wait until it is opened."""

    def __init__(self, error: Exception | None = None):
        self.entered, self.opened = threading.Event(), threading.Event()
        self.calls: list[list[bytes]] = []
        self._error = error

    def save(self, keys, values) -> None:
        self.calls.append(list(keys))
        self.entered.set()
        assert self.opened.wait(10)
        if self._error is not None:
            raise self._error


@contextmanager
def queue(gate: Gate, most: int) -> Iterator[tuple[SaveQueue, list[tuple[bytes, bool]]]]:
    done: list[tuple[bytes, bool]] = []
    one = SaveQueue(gate.save, most)
    try:
        yield one, done
    finally:
        gate.opened.set()
        one.close()


def offer(one: SaveQueue, done: list[tuple[bytes, bool]], key: bytes) -> bool:
    return one.offer([key], [VALUE], lambda saved: done.append((key, saved)))


def test_what_does_not_fit_is_dropped_at_once_and_counted():
    gate = Gate()
    with queue(gate, 3 * SIZE) as (one, done):
        assert offer(one, done, b"a")
        assert gate.entered.wait(5)
        assert [offer(one, done, key) for key in (b"b", b"c", b"d", b"e")] == [True, True, False, False]
        assert one.counts == SaveCounts(dropped=2)
        assert not one.wait_empty(0.05)
        assert done == []
        gate.opened.set()
        assert one.wait_empty(5)
        assert offer(one, done, b"f")
        assert one.wait_empty(5)
    assert gate.calls == [[b"a"], [b"b", b"c"], [b"f"]]
    assert done == [(key, True) for key in (b"a", b"b", b"c", b"f")]
    assert one.counts == SaveCounts(saved=4, dropped=2)


def test_a_batch_larger_than_the_bound_is_dropped():
    with queue(Gate(), SIZE - 1) as (one, done):
        assert not offer(one, done, b"a")
        assert one.counts.dropped == 1


def test_a_failed_save_is_counted_and_the_next_one_goes_on():
    gate = Gate(StoreError("refused"))
    gate.opened.set()
    with queue(gate, 10 * SIZE) as (one, done):
        for key in (b"a", b"b"):
            assert offer(one, done, key)
            assert one.wait_empty(5)
        assert one.counts == SaveCounts(failed=2)
    assert done == [(b"a", False), (b"b", False)]


def test_closing_drops_what_waits_and_calls_every_done():
    gate = Gate()
    one, done = SaveQueue(gate.save, 10 * SIZE), []
    assert offer(one, done, b"a")
    assert gate.entered.wait(5)
    assert offer(one, done, b"b")
    closing = threading.Thread(target=one.close)
    closing.start()
    assert eventually(lambda: one._closed)
    gate.opened.set()
    closing.join(10)
    assert done == [(b"a", True), (b"b", False)]
    assert one.counts == SaveCounts(saved=1, dropped=1)
    assert not offer(one, done, b"c")
    assert gate.calls == [[b"a"]]
