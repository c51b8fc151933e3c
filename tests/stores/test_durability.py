"""kill -9 of a server in the middle of saves and loads: no wrong byte is ever served, and afterwards the cache works."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from tests.stores.conftest import SERVERS, buffers_for, new_keys, payload, store_config, values_of
from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.connectors.base import Connector
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.registry import make_store

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


def hits_of(connector: Connector, keys: list[bytes]) -> list[bool]:
    """Which chunks are served; each must be right."""
    buffers = buffers_for(keys, SIZE)
    hits = connector.get(keys, buffers)
    for key, hit, buffer in zip(keys, hits, buffers, strict=True):
        assert not hit or payload(SIZE).matches(key, buffer)
    return hits


@pytest.mark.timeout(180)
@pytest.mark.parametrize("operation", ["saves", "loads", "both"])
@pytest.mark.parametrize("name", SERVERS)
def test_no_wrong_byte_after_kill_9(name, operation, folder):
    keys = new_keys(CHUNKS)
    with make_store(name, store_config(folder, name)) as store:
        for _ in range(CRASHES):
            under_way = threading.Event()

            def keep_going(kind: str, under_way=under_way) -> None:
                deadline = time.monotonic() + 30
                with connected(store) as connector, contextlib.suppress(StoreError):
                    while time.monotonic() < deadline:
                        connector.put(keys, values_of(keys, SIZE)) if kind == "saves" else hits_of(
                            connector, keys
                        )
                        under_way.set()

            kinds = ["saves", "loads"] if operation == "both" else [operation]
            failures: list[BaseException] = []

            def recorded(kind: str, go=keep_going, failures=failures) -> None:
                try:
                    go(kind)
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=recorded, args=(kind,)) for kind in kinds]
            with crashing(store, under_way):
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(60)
            assert not failures
            store.restart()
            with connected(store) as connector:
                hits_of(connector, keys)
                present = connector.count_present(keys)
                assert 0 <= present <= CHUNKS
        with connected(store) as connector:
            connector.put(keys, values_of(keys, SIZE))
            assert connector.count_present(keys) == CHUNKS
            assert hits_of(connector, keys) == [True] * CHUNKS
