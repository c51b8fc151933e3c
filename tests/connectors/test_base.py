"""How a batch is spread over the workers, and which connector fits which store."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.connectors.base import Connector, gather_flags, leading_true
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.registry import make_store


class Idle(Connector):
    """A connector to nothing."""

    def count_present(self, keys: Sequence[bytes]) -> int:
        return 0

    def get(self, keys, buffers) -> list[bool]:
        return []

    def put(self, keys, values) -> None:
        pass


@pytest.mark.parametrize(
    ("flags", "count"), [([], 0), ([True] * 3, 3), ([False, True], 0), ([True, False, True], 1)]
)
def test_leading_true(flags, count):
    assert leading_true(flags) == count


@pytest.mark.parametrize("items", [0, 1, 2, 3, 4, 10])
def test_spread_and_gather_keep_the_order(items):
    with Idle(3) as connector:
        parts = connector.spread(lambda worker, indices: [i % 4 == 0 for i in indices], items)
    assert gather_flags(parts, items, 3) == [i % 4 == 0 for i in range(items)]


def test_spread_gives_each_worker_its_own_items():
    with Idle(3) as connector:
        assert connector.spread(lambda worker, indices: (worker, list(indices)), 5) == [
            (0, [0, 3]),
            (1, [1, 4]),
            (2, [2]),
        ]


def test_spread_waits_for_every_worker_before_it_raises():
    """A buffer must not be written any more when the caller sees the error."""
    failed, gate, raised = threading.Event(), threading.Event(), threading.Event()

    def work(worker: int, _indices: range) -> None:
        if worker == 0:
            failed.set()
            raise StoreError("refused")
        gate.wait(10)

    def call() -> None:
        with pytest.raises(StoreError, match="refused"):
            connector.spread(work, 2)
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
