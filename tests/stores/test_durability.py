"""kill -9 of a server in the middle of saves and loads: no wrong byte is ever served, and afterwards the cache works."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.stores.conftest import SERVERS, hits_of, new_keys, store_config, values_of
from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.base import Connector

SIZE = 300_000
CHUNKS = 24
CRASHES = 3


def connected(store: Store) -> Connector:
    return make_connector("striped", store, 2, timeout_s=10, stripe_bytes=32_768)


@contextlib.contextmanager
def crashing(store: Store, under_way: threading.Event) -> Iterator[None]:
    """Kill the server once something is under way."""
    thread = threading.Thread(target=lambda: under_way.wait(20) and store.kill())
    thread.start()
    try:
        yield
    finally:
        under_way.set()
        thread.join(30)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SERVERS)
def test_no_wrong_byte_after_kill_9(name, folder):
    keys = new_keys(CHUNKS)
    with make_store(name, store_config(folder, name)) as store:

        def until_killed(call, under_way: threading.Event) -> None:
            deadline = time.monotonic() + 30
            with connected(store) as connector, contextlib.suppress(StoreError):
                while time.monotonic() < deadline:
                    call(connector)
                    under_way.set()

        def save(connector: Connector) -> None:
            connector.put(keys, values_of(keys, SIZE))

        for _ in range(CRASHES):
            under_way = threading.Event()
            with ThreadPoolExecutor() as pool, crashing(store, under_way):
                calls = (save, lambda connector: hits_of(connector.get, keys, SIZE))
                running = [pool.submit(until_killed, call, under_way) for call in calls]
                assert [one.result(60) for one in running] == [None, None]
            store.restart()
            with connected(store) as connector:
                hits_of(connector.get, keys, SIZE)
                assert 0 <= connector.count_present(keys) <= CHUNKS
        with connected(store) as connector:
            save(connector)
            assert connector.count_present(keys) == CHUNKS
            assert hits_of(connector.get, keys, SIZE) == [True] * CHUNKS
