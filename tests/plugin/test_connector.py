"""The striped connector against a server that was tampered with, one that talks nonsense, and one that is killed."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.connectors.peers import TIMEOUT_S, Script, bulk
from tests.stores.conftest import MIB, SERVERS, buffers_for, new_keys, payload, store_config, values_of
from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.base import leading_present_of_each
from workflow.plugin.lmcache_striped.channels import command
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.stripes import HEAD_BYTES, stripe_key

STRIPE = 4096
SIZE = 5 * STRIPE + 77
COUNT = 7
OPTIONS: dict[str, Path] = {}  # of every connector here


@pytest.fixture(params=["python", "native"], autouse=True)
def client(request, monkeypatch) -> str:
    """Every test runs with both clients."""
    if request.param == "native":
        monkeypatch.setitem(OPTIONS, "library", request.getfixturevalue("library"))
    return request.param


@pytest.fixture(scope="module")
def valkey(tmp_path_factory) -> Iterator[Store]:
    with make_store("valkey", store_config(tmp_path_factory.mktemp("striped"), "valkey")) as store:
        yield store


def striped(store: Store, connections: int = 2, **options) -> StripedConnector:
    options = {"stripe_bytes": STRIPE, "timeout_s": TIMEOUT_S} | OPTIONS | options
    return make_connector("striped", store, connections, **options)


def damaged(store: Store, index: int, change) -> tuple[StripedConnector, list[bool], bytes]:
    """Three chunks of which the second's stripe `index` was changed by change(bytes, key), None to delete it."""
    keys = new_keys(3)
    with striped(store) as connector, store.client() as client:
        connector.put(keys, values_of(keys, SIZE))
        name = stripe_key(keys[1], index)
        changed = change(client.get(name), keys)
        client.delete(name) if changed is None else client.set(name, changed)
        buffers = buffers_for(keys, SIZE)
        hits = connector.get(keys, buffers)
        for key, hit, buffer in zip(keys, hits, buffers, strict=True):
            assert not hit or payload(SIZE).matches(key, buffer)
        again = connector.get(keys[:1], buffers[:1])
        assert again == [True]
        return connector, hits, keys[1]


CHANGES = {
    "missing": lambda data, keys: None,
    "empty": lambda data, keys: b"",
    "head only": lambda data, keys: data[:HEAD_BYTES],
    "less than a head": lambda data, keys: data[: HEAD_BYTES - 1],
    "short": lambda data, keys: data[:-1],
    "long": lambda data, keys: data + b"x",
    "a bit of the body": lambda data, keys: data[:-1] + bytes([data[-1] ^ 1]),
    "a bit of the head": lambda data, keys: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "zeros": lambda data, keys: bytes(len(data)),
}


@pytest.mark.parametrize(
    ("how", "index"),
    [(how, index) for how in CHANGES for index in (0, 1, COUNT - 1) if (how, index) != ("head only", 0)],
)
def test_a_damaged_stripe_makes_its_chunk_a_miss(valkey, how, index):
    connector, hits, _ = damaged(valkey, index, CHANGES[how])
    assert hits == [True, False, True]
    right_length = how in ("a bit of the body", "a bit of the head", "zeros")
    assert connector.damaged_chunks == right_length


@pytest.mark.parametrize("index", [0, 1, 2, COUNT - 1])
def test_a_stripe_of_another_chunk(valkey, index):
    with valkey.client() as client:
        _, hits, _ = damaged(valkey, index, lambda data, keys: client.get(stripe_key(keys[0], index)))
    assert hits == [True, False, True]


@pytest.mark.parametrize("index", [0, 2])
def test_a_stripe_of_an_earlier_save(valkey, index):
    (key,) = keys = new_keys(1)
    with striped(valkey) as connector, valkey.client() as client:
        connector.put(keys, [np.invert(value) for value in values_of(keys, SIZE)])
        old = client.get(stripe_key(key, index))
        connector.put(keys, values_of(keys, SIZE))
        client.set(stripe_key(key, index), old)
        assert connector.get(keys, buffers_for(keys, SIZE)) == [False]
        assert connector.damaged_chunks == 1


def test_another_stripe_size_or_chunk_length_is_a_miss_and_leaves_the_buffer(valkey):
    keys = new_keys(1)
    with striped(valkey) as one, striped(valkey, stripe_bytes=2 * STRIPE) as other:
        one.put(keys, values_of(keys, SIZE))
        for connector, size in ((other, SIZE), (one, SIZE - STRIPE), (one, SIZE + 1)):
            buffers = buffers_for(keys, size)
            assert connector.get(keys, buffers) == [False]
        assert one.get(keys, buffers_for(keys, SIZE)) == [True]


@pytest.mark.parametrize("in_flight", [None, 1, 3, 16])
@pytest.mark.parametrize("connections", [1, 4])
def test_every_shape_of_pipeline(valkey, connections, in_flight):
    keys = new_keys(40)
    with striped(valkey, connections, in_flight=in_flight) as connector:
        connector.put(keys, values_of(keys, SIZE))
        assert connector.count_present([*keys, *new_keys(1)]) == 40
        buffers = buffers_for(keys, SIZE)
        assert connector.get(keys, buffers) == [True] * 40
        assert all(payload(SIZE).matches(key, buffer) for key, buffer in zip(keys, buffers, strict=True))


def test_every_byte_of_a_save_takes_its_turn(valkey):
    keys, turns = new_keys(3), []

    def turn(size: int) -> float:
        turns.append(size)
        return 0.0

    with striped(valkey, turn=turn) as connector:
        connector.put(keys, values_of(keys, SIZE))
        assert connector.get(keys, buffers_for(keys, SIZE)) == [True] * 3
    assert sum(turns) == 3 * SIZE
    assert max(turns) == STRIPE


def test_values_larger_than_every_kernel_buffer(valkey):
    keys = new_keys(2)
    with striped(valkey, 1, stripe_bytes=24 * MIB) as connector:
        connector.put(keys, values_of(keys, 25 * MIB))
        buffers = buffers_for(keys, 25 * MIB)
        assert connector.get(keys, buffers) == [True, True]
        assert all(payload(25 * MIB).matches(key, buffer) for key, buffer in zip(keys, buffers, strict=True))


def test_a_lookup_finds_nothing_of_a_save_that_was_cut_short(valkey):
    """Stripe 0 goes last, so it is not there when a server refused one of the others."""
    keys = new_keys(2)
    with striped(valkey) as connector, valkey.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2 * STRIPE)
        try:
            with pytest.raises(StoreError, match="OOM"):
                connector.put(keys, values_of(keys, 4 * MIB))
        finally:
            client.config_set("maxmemory", 0)
        assert connector.count_present(keys) == 0
        assert connector.get(keys, buffers_for(keys, 4 * MIB)) == [False, False]
        connector.put(keys, values_of(keys, 4 * MIB))
        assert connector.get(keys, buffers_for(keys, 4 * MIB)) == [True, True]


def test_calls_from_several_threads(valkey):
    found: list[bool] = []

    def go(connector: StripedConnector) -> None:
        keys = new_keys(4)
        for _ in range(5):
            connector.put(keys, values_of(keys, SIZE))
            buffers = buffers_for(keys, SIZE)
            found.extend(connector.get(keys, buffers))
            found.extend(payload(SIZE).matches(key, one) for key, one in zip(keys, buffers, strict=True))

    with striped(valkey) as connector:
        threads = [threading.Thread(target=go, args=(connector,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == [True] * 160


# A server that is killed, and comes back at the same port


def test_the_same_connector_goes_on_after_a_restart(tmp_path):
    keys = new_keys(3)
    with make_store("valkey", store_config(tmp_path, "valkey", port=free_port())) as store:
        with striped(store) as connector:
            connector.put(keys, values_of(keys, SIZE))
            store.kill()
            for call in (
                lambda: connector.get(keys, buffers_for(keys, SIZE)),
                lambda: connector.put(keys, values_of(keys, SIZE)),
                lambda: connector.count_present(keys),
            ):
                with pytest.raises(StoreError):
                    call()
            store.restart()
            assert connector.get(keys, buffers_for(keys, SIZE)) == [False] * 3
            connector.put(keys, values_of(keys, SIZE))
            assert connector.get(keys, buffers_for(keys, SIZE)) == [True] * 3


def test_lookups_go_on_where_the_server_has_closed_connections(valkey):
    keys = new_keys(8)
    with striped(valkey) as connector, valkey.client() as client:
        connector.put(keys[:5], values_of(keys[:5], SIZE))
        for _ in range(2):
            assert connector.present(keys) == [True] * 5 + [False] * 3
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_a_lookup_of_any_number_of_chunks(valkey):
    keys = new_keys(5000)
    there = keys[::2]
    with StripedConnector([valkey.endpoint] * 3, 2, TIMEOUT_S, STRIPE, **OPTIONS) as connector:
        connector.put(there, values_of(there, 8))
        for count in (0, 1, 7, 5000):
            assert connector.present(keys[:count]) == [place % 2 == 0 for place in range(count)]


# Unix sockets


@pytest.mark.parametrize("name", SERVERS)
def test_over_a_unix_socket(name, tmp_path):
    keys = new_keys(3)
    with make_store(name, store_config(tmp_path, name, unix=True)) as store:
        path = store.endpoint.path
        assert path is not None
        assert os.path.exists(path)
        for kind in ("striped", "resp"):
            options = OPTIONS if kind == "striped" else {}
            with make_connector(kind, store, 2, TIMEOUT_S, **options) as connector:
                connector.put(keys, values_of(keys, MIB + 1))
                buffers = buffers_for(keys, MIB + 1)
                assert connector.get(keys, buffers) == [True] * 3
                assert all(payload(MIB + 1).matches(key, one) for key, one in zip(keys, buffers, strict=True))
        store.restart()
        with striped(store) as connector:
            assert connector.count_present(keys) == (0 if store.medium == "ram" else 3)
    assert not os.path.exists(path)


# A peer that talks nonsense


@contextlib.contextmanager
def peer(*pieces: bytes, closes: bool = False, asked: bytes = b"GET") -> Iterator[StripedConnector]:
    """A connector with one connection to a peer that answers the command `asked` of one chunk with `pieces`."""
    (key,) = new_keys(1)
    script = Script([(len(command(asked, stripe_key(key, 0))), pieces)], closes)
    thread = threading.Thread(target=script.run)
    thread.start()
    endpoint = Endpoint("127.0.0.1", script.listener.getsockname()[1])
    try:
        with StripedConnector([endpoint], 1, 0.5, STRIPE, **OPTIONS) as connector:
            yield connector
    finally:
        thread.join(2 * TIMEOUT_S)
        script.listener.close()


@pytest.mark.parametrize(
    ("reply", "closes", "words"),
    [
        (b"+OK\r\n", False, "answered GET with"),
        (b":1\r\n", False, "answered GET with"),
        (b"$x\r\n", False, "answered GET with"),
        (b"*1\r\n", False, "answered GET with"),
        (b"y" * 5000, False, "line of more than"),
        (b"$56\r\n" + bytes(56) + b"xx", False, "not as long as it says"),
        (b"$-1\r\n$-1\r\n", False, "more than it was asked for"),
        (b"-ERR no\r\n", False, "answered: ERR no"),
        (b"$56\r\n" + bytes(20), True, "closed the connection"),
        (b"", True, "closed the connection"),
        (b"$56\r\n" + bytes(20), False, "timed out after 0.5 s"),
        (b"", False, "timed out after 0.5 s"),
    ],
)
def test_a_reply_that_is_no_stripe(reply, closes, words):
    with peer(reply, closes=closes) as connector, pytest.raises(StoreError, match=words):
        connector.get(new_keys(1), [np.zeros(0, dtype=np.uint8)])


@pytest.mark.parametrize(
    ("reply", "closes", "words"),
    [
        (b"+OK\r\n", False, "answered EXISTS with"),
        (b":2\r\n", False, "answered EXISTS with"),
        (b"$1\r\nx\r\n", False, "EXISTS"),
        (b"\r\n", False, "answered EXISTS with"),
        (b"y" * 5000, False, "line of more than"),
        (b":1\r\n:1\r\n", False, "more than it was asked for"),
        (b"-ERR no\r\n", False, "answered: ERR no"),
        (b":1", True, "closed the connection"),
        (b"", True, "closed the connection"),
        (b":1", False, "timed out after 0.5 s"),
        (b"", False, "timed out after 0.5 s"),
    ],
)
def test_a_reply_that_is_no_answer_to_a_lookup(reply, closes, words):
    with peer(reply, closes=closes, asked=b"EXISTS") as connector, pytest.raises(StoreError, match=words):
        connector.count_present(new_keys(1))


def test_a_value_for_a_set_ends_the_connection():
    with (
        peer(bulk(b"x" * 100)) as connector,
        pytest.raises(StoreError, match="SET was answered with a value"),
    ):
        connector.put(new_keys(1), [np.zeros(8, dtype=np.uint8)])


def test_a_lookup_asks_for_all_of_its_chunks_at_once():
    keys = new_keys(20)
    asked = sum(len(command(b"EXISTS", stripe_key(key, 0))) for key in keys)
    script = Script([(asked, [b":1\r\n" * len(keys)])])
    thread = threading.Thread(target=script.run)
    thread.start()
    endpoint = Endpoint("127.0.0.1", script.listener.getsockname()[1])
    with StripedConnector([endpoint], 1, TIMEOUT_S, STRIPE, in_flight=2, **OPTIONS) as connector:
        assert connector.count_present(keys) == len(keys)
    thread.join(2 * TIMEOUT_S)
    script.listener.close()


def test_nobody_listens(valkey):
    with pytest.raises(StoreError, match=r"cannot connect to 127\.0\.0\.1:1"):
        StripedConnector([valkey.endpoint, Endpoint("127.0.0.1", 1)], 1, TIMEOUT_S)


@given(
    there=st.sets(st.integers(0, 1100)),
    prompts=st.lists(st.lists(st.integers(0, 1100), max_size=1200), max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_prompts_that_are_asked_for_together_have_what_each_has_alone(there, prompts):
    def ask(keys):
        assert keys
        return [key in there for key in keys]

    def alone(keys):
        return next((place for place, key in enumerate(keys) if key not in there), len(keys))

    assert leading_present_of_each(prompts, ask) == [alone(keys) for keys in prompts]
    assert leading_present_of_each([range(1030), range(3)], lambda keys: [True] * len(keys)) == [1030, 3]
