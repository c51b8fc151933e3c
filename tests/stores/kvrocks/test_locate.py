"""LOCATE of a patched Kvrocks: what else there is than strings, and where it is refused. KVROCKS_BIN names the program."""

import contextlib
from collections.abc import Iterator

import pytest
import redis

from tests.helpers import eventually
from tests.stores.conftest import store_config
from tests.stores.located import Place, locate, locating
from workflow.hyperkv.stores.kvrocks.store import KvrocksStore
from workflow.plugin.lmcache_striped.secret import Secret

BLOBS = {"rocksdb.enable_blob_files": "yes", "rocksdb.compression": "no"}
LARGE = b"x" * 100_000

pytestmark = pytest.mark.parametrize("name", [locating("kvrocks")])


@pytest.fixture(params=["no", "yes"], ids=["plain", "snapshots"])
def store(request, name, folder) -> Iterator[KvrocksStore]:
    settings = BLOBS | {"txn-context-enabled": request.param, "json-storage-format": "json"}
    with KvrocksStore(store_config(folder, name, settings=settings)) as store:
        yield store


@pytest.fixture
def client(store) -> Iterator[redis.Redis]:
    with store.client() as client:
        yield client


def test_a_value_that_expires(client, store):
    client.set("short", LARGE, px=1)
    client.set("later", LARGE, ex=1000)
    eventually(lambda: locate(client, ["short", "later"]) == [None, b""])
    store.restart()
    with store.client() as again:
        again.set("soon", LARGE, px=60_000)
        gone, place = locate(again, ["short", "later"])
        assert gone is None
        assert place.read(store.config.directory) == LARGE
    store.restart()
    with store.client() as again:
        [place] = locate(again, ["soon"])
        assert place.read(store.config.directory) == LARGE
        again.pexpire("soon", 1)
        eventually(lambda: locate(again, ["soon"]) == [None])
    store.restart()
    with store.client() as again:
        assert locate(again, ["soon", "short"]) == [None, None]


def test_an_expiration_that_comes_while_the_value_is_in_a_file(client, store):
    client.set("key", LARGE, px=3_000)
    store.restart()
    with store.client() as again:
        [place] = locate(again, ["key"])
        assert isinstance(place, Place)
        eventually(lambda: locate(again, ["key"]) == [None])
        assert again.get("key") is None


def test_other_types_are_for_their_own_commands(client, store):
    client.hset("hash", "field", LARGE)
    client.rpush("list", LARGE)
    client.setbit("bitmap", 1_000_000, 1)
    client.execute_command("JSON.SET", "json", "$", f'"{LARGE.decode()}"')
    keys = ["hash", "list", "bitmap", "json"]
    assert locate(client, keys) == [b""] * 4
    store.restart()
    with store.client() as again:
        assert locate(again, keys) == [b""] * 4
        again.delete(*keys)
        assert locate(again, keys) == [None] * 4


def test_what_is_changed_in_place_is_told_anew(client, store):
    client.set("key", LARGE)
    store.restart()
    with store.client() as again:
        again.append("key", b"more")
        assert locate(again, ["key"]) == [b""]
    store.restart()
    with store.client() as again:
        [place] = locate(again, ["key"])
        assert place.read(store.config.directory) == LARGE + b"more"
        again.execute_command("COMPACT")
        eventually(lambda: again.info("persistence").get("is_compacting", "no") == "no")
        assert again.get("key") == LARGE + b"more"

        def right() -> bool:
            [place] = locate(again, ["key"])
            try:
                return place.read(store.config.directory) == LARGE + b"more"
            except FileNotFoundError:
                return False

        eventually(right)


def test_not_in_a_transaction_nor_in_a_script(client):
    client.set("key", LARGE)
    with pytest.raises(redis.ResponseError, match="Can't execute locate in MULTI"):
        client.pipeline(transaction=True).execute_command("LOCATE", "key").execute()
    with pytest.raises(redis.ResponseError, match="not allowed from script"):
        client.eval("return redis.call('locate', KEYS[1])", 1, "key")
    assert locate(client, ["key"]) == [b""]
    assert client.command_getkeys("LOCATE", "a", "b") == ["a", "b"]


def test_a_namespace_has_its_own_keys(name, folder, monkeypatch):
    """A token chooses the namespace; the same key is another value in each."""
    other = LARGE[::-1] + b"other"
    monkeypatch.setenv("KV_PASSWORD", "main")
    config = store_config(folder, name, settings=BLOBS, password=Secret(variable="KV_PASSWORD"))

    @contextlib.contextmanager
    def clients(store: KvrocksStore) -> Iterator[tuple[redis.Redis, redis.Redis]]:
        with store.client() as client:
            client.execute_command("NAMESPACE", "ADD", "second", "token")
            with redis.Redis(port=store.endpoint.port, password="token", protocol=2) as second:
                yield client, second

    with KvrocksStore(config) as store:
        with clients(store) as (client, second):
            client.mset({"key": LARGE, "only": LARGE})
            second.set("key", other)
        store.restart()
        with clients(store) as (client, second):
            place, none = locate(second, ["key", "only"])
            assert none is None
            assert place.read(store.config.directory) == other
            assert [place.read(store.config.directory) for place in locate(client, ["key", "only"])] == [
                LARGE
            ] * 2
