"""How a batch is spread over the workers, and which connector fits which store."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.connectors.base import Items, SpreadConnector
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.base import leading_true


class Idle(SpreadConnector):
    """A connector to nothing, which finds the keys of even numbers."""

    def count_present(self, keys: Sequence[bytes]) -> int:
        return 0

    def load(self, worker: int, items: Items) -> list[bool]:
        return [key[0] % 2 == 0 for key, _ in items]

    def save(self, worker: int, items: Items) -> None:
        pass


def numbered(count: int) -> list:
    """Keys 0, 1, ... with the values 0, 1, ..."""
    return [(bytes([number]), np.array([number])) for number in range(count)]


@pytest.mark.parametrize(
    ("flags", "count"), [([], 0), ([True] * 3, 3), ([False, True], 0), ([True, False, True], 1)]
)
def test_leading_true(flags, count):
    assert leading_true(flags) == count


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 10])
def test_what_is_found_is_in_the_order_of_the_keys(count):
    items = numbered(count)
    with Idle(3) as connector:
        found = connector.get([key for key, _ in items], [buffer for _, buffer in items])
    assert found == [number % 2 == 0 for number in range(count)]


def test_spread_gives_each_worker_its_own_items():
    with Idle(3) as connector:
        parts = connector.spread(lambda worker, items: (worker, [key[0] for key, _ in items]), numbered(5))
    assert parts == [(0, [0, 3]), (1, [1, 4]), (2, [2])]


def test_spread_waits_for_every_worker_before_it_raises():
    """A buffer must not be written any more when the caller sees the error."""
    failed, gate, raised = threading.Event(), threading.Event(), threading.Event()

    def work(worker: int, _: Items) -> None:
        if worker == 0:
            failed.set()
            raise StoreError("refused")
        gate.wait(10)

    def call() -> None:
        with pytest.raises(StoreError, match="refused"):
            connector.spread(work, numbered(2))
        raised.set()

    with Idle(2) as connector:
        caller = threading.Thread(target=call)
        caller.start()
        try:
            assert failed.wait(5)
            assert not raised.wait(0.1)
        finally:
            gate.set()
        assert raised.wait(5)
        caller.join(5)


@pytest.mark.parametrize(
    ("store", "connector", "mend"),
    [
        ("dram", "resp", "use inprocess"),
        ("dram", "redis", "use inprocess"),
        ("valkey", "inprocess", "use redis"),
    ],
)
def test_a_connector_that_does_not_fit(store, connector, mend):
    config = StoreConfig(directory=Path("unused"), value_bytes=64, log=Path("unused"), capacity_bytes=64)
    with pytest.raises(UserError, match=f"connector {connector} cannot reach store {store}; {mend}"):
        make_connector(connector, make_store(store, config), 1)
