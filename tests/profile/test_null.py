"""The server that stores nothing answers both connectors as a store would, and takes any value."""

import contextlib
import socket
import time

import numpy as np
import pytest

from tests.stores.conftest import CONNECTIONS, buffers_for, new_keys, values_of
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.profile.null import NullStore
from workflow.hyperkv.stores.base import StoreConfig

SIZE = 100_000


@contextlib.contextmanager
def null(folder, size=SIZE, **settings):
    """A started server of one value size."""
    with NullStore(StoreConfig(folder / "null", size, folder / "null.log", settings=settings)) as store:
        yield store


@pytest.mark.parametrize("connector", ["resp", "redis"])
@pytest.mark.parametrize("size", [1, 1000, SIZE, (1 << 20) + 1])
def test_a_set_is_taken_and_a_get_is_answered_with_a_value_of_the_size(tmp_path, connector, size):
    keys = new_keys(2 * CONNECTIONS + 1)
    with null(tmp_path, size, memory_bytes=3 * size) as store:
        with make_connector(connector, store, CONNECTIONS, 5) as client:
            for _ in range(2):
                client.put(keys, values_of(keys, size))
                assert client.get(keys, buffers_for(keys, size)) == [True] * len(keys)
            assert client.count_present(keys) == len(keys)
        assert store.counters().process.cpu_s is not None


def test_it_keeps_its_place_after_values_of_another_size(tmp_path):
    keys = new_keys(3)
    with null(tmp_path, memory_bytes=SIZE) as store, make_connector("resp", store, 1, 5) as client:
        for size in (3 * SIZE + 1, 10, SIZE):
            client.put(keys, values_of(keys, size))
        assert client.get(keys, buffers_for(keys, SIZE)) == [True] * 3
        assert client.get(keys, buffers_for(keys, SIZE - 1)) == [False] * 3


def test_what_it_does_not_know_is_an_error_and_what_is_not_resp_ends_the_connection(tmp_path):
    with null(tmp_path) as store, socket.create_connection(("127.0.0.1", store.endpoint.port), 5) as peer:
        peer.sendall(b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n")
        assert peer.recv(100) == b"-ERR unknown command\r\n"
        peer.sendall(b"GET a\r\n")
        assert peer.recv(100).startswith(b"-ERR Protocol error: expected *")
        assert peer.recv(100) == b""


def test_an_injected_delay_is_that_of_every_get_and_of_no_set(tmp_path):
    keys, buffers = new_keys(4), [np.zeros(10, np.uint8)] * 4
    with null(tmp_path, 10, get_delay_s=0.1) as store, make_connector("resp", store, 1, 60) as client:
        started = time.perf_counter()
        client.get(keys, buffers)
        assert time.perf_counter() - started >= 0.4
    with null(tmp_path, 10, get_delay_s=600) as store, make_connector("resp", store, 1, 60) as client:
        client.put(keys, values_of(keys, 10))
