"""Large values of a real Kvrocks, whatever way a GET takes: from a memtable or a blob file, alone, in EXEC, in a script.

The patches of workflow/patches/kvrocks change that way; KVROCKS_BIN names the program, patched or not.
"""

import random
import socket
from collections.abc import Iterator

import pytest
import redis

from tests.stores.conftest import MIB, offered, store_config
from workflow.hyperkv.stores.kvrocks.store import KvrocksStore

BLOBS = {"rocksdb.enable_blob_files": "yes", "rocksdb.disable_auto_compactions": "yes"}
SETTINGS = {
    "blobs": BLOBS | {"rocksdb.compression": "no"},
    "compressed blobs": BLOBS | {"rocksdb.compression": "lz4"},
    "no blobs": {"rocksdb.compression": "no"},
    "snapshots": BLOBS | {"rocksdb.compression": "no", "txn-context-enabled": "yes"},
}
SIZES = (0, 1, 64 * 1024 - 6, 64 * 1024, 64 * 1024 + 1, MIB, 5 * MIB + 17)
VALUES = {f"key {size}".encode(): random.Random(size).randbytes(size) for size in SIZES}
ASK = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n"

pytestmark = pytest.mark.parametrize("name", [offered("kvrocks")])


@pytest.fixture(params=SETTINGS)
def store(request, name, folder) -> Iterator[KvrocksStore]:
    with KvrocksStore(store_config(folder, name, settings=SETTINGS[request.param])) as store:
        with store.client() as client:
            for key, value in VALUES.items():
                assert client.set(key, value)
        yield store


@pytest.fixture(params=["memtable", "file"])
def client(request, store) -> Iterator[redis.Redis]:
    if request.param == "file":
        store.restart()
    with store.client() as client:
        yield client


def test_alone(client, store):
    hits = store.counters().hits
    assert {key: client.get(key) for key in VALUES} == VALUES
    assert client.get("none") is None
    assert store.counters().hits == hits + len(VALUES)


def test_in_a_transaction_and_in_a_script(client):
    pipeline = client.pipeline(transaction=True)
    for key in VALUES:
        pipeline.get(key)
    assert pipeline.execute() == list(VALUES.values())
    for key, value in VALUES.items():
        assert client.eval("return redis.call('get', KEYS[1])", 1, key) == value
        assert client.eval("return #redis.call('get', KEYS[1])", 1, key) == len(value)
        assert client.get(key) == value


def test_what_else_reads_and_changes_it(client):
    big = max(VALUES, key=lambda key: len(VALUES[key]))
    value = VALUES[big]
    assert client.mget([big, "none", big]) == [value, None, value]
    assert client.strlen(big) == len(value)
    assert client.getrange(big, 7, 70_000) == value[7:70_001]
    assert client.append(big, b"more") == len(value) + 4
    assert client.get(big) == value + b"more"
    assert client.set(big, b"x" * len(value), get=True) == value + b"more"
    assert client.getdel(big) == b"x" * len(value)
    assert client.get(big) is None
    client.rpush("list", b"y" * 100_000)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.get("list")


def test_a_value_that_expires(client, store):
    client.set("short", b"z" * MIB, px=60_000)
    client.set("gone", b"z" * MIB, px=1)
    assert client.get("short") == b"z" * MIB
    store.restart()
    with store.client() as again:
        assert again.get("short") == b"z" * MIB
        assert 0 < again.pttl("short") <= 60_000
        assert again.get("gone") is None


def test_a_reader_that_lets_replies_pile_up(client, store):
    """Far more than a socket holds is asked for before anything is read; then all comes, in order."""
    keys = [key for key, value in VALUES.items() if len(value) >= MIB] * 6
    endpoint = store.endpoint
    with socket.create_connection((endpoint.host, endpoint.port), timeout=30) as connection:
        connection.sendall(b"".join(ASK % (len(key), key) for key in keys))
        assert store.client().ping()
        with connection.makefile("rb") as replies:
            for key in keys:
                value = VALUES[key]
                assert replies.readline() == b"$%d\r\n" % len(value)
                assert replies.read(len(value) + 2) == value + b"\r\n"


def test_replies_that_a_client_has_switched_off(client, store):
    """SKIP is for the next command alone, OFF until ON: a value is no exception."""
    big = max(VALUES, key=lambda key: len(VALUES[key]))
    ask = ASK % (len(big), big)
    endpoint = store.endpoint
    with socket.create_connection((endpoint.host, endpoint.port), timeout=30) as connection:
        connection.sendall(b"CLIENT REPLY SKIP\r\n" + ask + ask)
        with connection.makefile("rb") as replies:
            if (first := replies.readline()).startswith(b"-"):
                pytest.skip("this Kvrocks has no CLIENT REPLY")
            assert first == b"$%d\r\n" % len(VALUES[big])
            assert replies.read(len(VALUES[big]) + 2) == VALUES[big] + b"\r\n"
            connection.sendall(b"CLIENT REPLY OFF\r\n" + ask + ask + b"CLIENT REPLY ON\r\n")
            assert replies.readline() == b"+OK\r\n"


def test_a_reader_that_goes_away_in_the_middle(client, store):
    big = max(VALUES, key=lambda key: len(VALUES[key]))
    endpoint = store.endpoint
    for _ in range(20):
        with socket.create_connection((endpoint.host, endpoint.port), timeout=30) as connection:
            connection.sendall((ASK % (len(big), big)) * 8)
            assert connection.recv(1000)
    assert client.get(big) == VALUES[big]
    store.check_alive()
