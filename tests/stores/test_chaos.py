"""Values read from a store's own files while it is killed, compacted, emptied and wiped: the short form of `tests.stores.chaos`."""

from pathlib import Path

import pytest

from tests.plugin.native import compiled_library
from tests.stores import chaos
from tests.stores.conftest import KVROCKS_BIN, store_config
from tests.stores.located import locating
from workflow.hyperkv.stores.registry import make_store

ROUNDS = 8


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> dict[str, chaos.Opened]:
    library = compiled_library(tmp_path_factory.mktemp("library"))
    return {"located": chaos.Located, "direct": chaos.direct(library)}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("client", ["located", "direct"])
@pytest.mark.parametrize("wal", [False, True], ids=["no log", "log"])
@pytest.mark.parametrize("name", [locating("rocksdb"), locating("kvrocks")])
def test_no_wrong_byte_is_read_from_files(name, wal, client, clients, folder):
    config = store_config(folder, name, value_bytes=max(chaos.SIZES), settings=chaos.settings_of(name, wal))
    with make_store(name, config) as store:
        load = chaos.chaos(store, ROUNDS, 7, wal, clients[client])
    assert load.findings == []
    assert load.counts["from files"] > ROUNDS
    assert load.counts["kill"] + load.counts["compact"] + load.counts["wipe"] > 0


class Careless(chaos.Located):
    """Takes what lies at the place, without proof."""

    def _value(self, index, key, answer, life):
        found = super()._value(index, key, answer, life)
        return found and found[:-1] + bytes([found[-1] ^ 1])


class Forgetful(chaos.Located):
    """Serves what it once read."""

    def __init__(self, load, store):
        super().__init__(load, store)
        self._kept: dict[int, bytes] = {}

    def _value(self, index, key, answer, life):
        found = super()._value(index, key, answer, life)
        return found and self._kept.setdefault(index, found)


@pytest.mark.parametrize(("client", "words"), [(Careless, "torn"), (Forgetful, "older than")])
def test_it_finds_wrong_bytes_and_old_ones(client, words, folder):
    config = store_config(
        folder, "rocksdb", value_bytes=max(chaos.SIZES), settings=chaos.settings_of("rocksdb", True)
    )
    with make_store("rocksdb", config) as store:
        load = chaos.chaos(store, 50, 7, True, opened=client)
    assert any(words in text for text in load.findings)


@pytest.mark.parametrize("name", [locating("rocksdb"), locating("kvrocks")])
def test_the_command(name, capfd):
    program = Path(KVROCKS_BIN) if name == "kvrocks" else None
    assert chaos.main(name, program=program, rounds=2, seed=3) == 0
    assert "chaos · seed 3" in capfd.readouterr().out
