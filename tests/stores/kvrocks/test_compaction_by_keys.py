"""Patch compaction-by-keys: what a compaction reads, what it gives back, and what has expired. KVROCKS_BIN names the program."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.stores.conftest import store_config
from tests.stores.located import patched
from workflow.hyperkv.stores.kvrocks.config import BY_KEYS, BY_KEYS_PATCH
from workflow.hyperkv.stores.kvrocks.store import KvrocksStore

MIB = 1 << 20
COUNT = 24
SETTINGS = {
    "rocksdb.enable_blob_files": "yes",
    "rocksdb.enable_blob_garbage_collection": "no",
    "rocksdb.disable_auto_compactions": "yes",
    "rocksdb.compression": "no",
    "rocksdb.write_buffer_size": 4,
    "rocksdb.blob_file_size": 1 << 18,
}

pytestmark = pytest.mark.parametrize("name", [patched("kvrocks", BY_KEYS_PATCH)])


@pytest.fixture(params=["yes", "no"])
def by_keys(request) -> str:
    return request.param


@pytest.fixture
def store(name, by_keys, folder) -> Iterator[KvrocksStore]:
    with KvrocksStore(store_config(folder, name, settings=SETTINGS | {BY_KEYS: by_keys})) as store:
        yield store


def read_bytes(store: KvrocksStore) -> int:
    """What the server has read of files, from the page cache or not."""
    lines = Path(f"/proc/{store.pid()}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def blob_bytes(store: KvrocksStore) -> int:
    return sum(path.stat().st_size for path in store.config.directory.rglob("*.blob"))


def filled(store: KvrocksStore) -> None:
    """COUNT values of a MiB, all in files after a restart."""
    with store.client() as client:
        for number in range(COUNT):
            client.set(f"key{number}", os.urandom(MIB))
    store.restart()


def test_a_compaction_reads_values_or_keys_alone_and_gives_back_what_was_deleted(store, by_keys):
    filled(store)
    with store.client() as client:
        gone = [f"key{number}" for number in range(0, COUNT, 2)]
        client.mset(dict.fromkeys(gone, b""))
        client.unlink(*gone)
        before = read_bytes(store)
        client.execute_command("COMPACT")
        eventually(lambda: blob_bytes(store) < (COUNT // 2 + 1) * MIB)
        read = read_bytes(store) - before
        assert read < MIB if by_keys == "yes" else read > (COUNT // 2 - 1) * MIB
        assert all(client.strlen(f"key{number}") == MIB for number in range(1, COUNT, 2))
        assert client.exists(*gone) == 0


def test_what_is_overwritten_by_nothing_is_deleted_without_being_read(store):
    filled(store)
    with store.client() as client:
        keys = [f"key{number}" for number in range(COUNT)]
        before = read_bytes(store)
        client.mset(dict.fromkeys(keys[:12], b""))
        assert client.unlink(*keys[:12]) == 12
        assert read_bytes(store) - before < MIB
        client.unlink(*keys[12:])
        assert read_bytes(store) - before > 11 * MIB


def test_what_has_expired_is_not_found_and_keeps_its_space_only_by_keys(store, by_keys):
    with store.client() as client:
        client.set("short", os.urandom(MIB), px=1)
        client.set("long", os.urandom(MIB))
    store.restart()
    with store.client() as client:
        assert client.get("short") is None
        client.execute_command("COMPACT")
        if by_keys == "no":
            eventually(lambda: blob_bytes(store) < 1.5 * MIB)
        client.set("short", b"again")
        assert (client.get("short"), client.strlen("long")) == (b"again", MIB)
