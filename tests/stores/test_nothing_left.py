"""What a store writes is its user's alone, and a store that does not start leaves nothing, however it fails."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.record_factory import ROCKSDB, VALKEY
from tests.record_factory import spec as spec_of
from tests.stores.conftest import (
    CONNECTOR_OF,
    MIB,
    ON_DISK,
    new_keys,
    store_config,
    values_of,
)
from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.cells.cell import CellSpec
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.engines.replay import cells as replay_cells
from workflow.hyperkv.machine.memory_dir import MemoryFolder
from workflow.hyperkv.machine.processes import OwnedProcess
from workflow.hyperkv.profile import moving, stations
from workflow.hyperkv.profile import profile_store as profile
from workflow.hyperkv.profile.rungs import rungs_of
from workflow.hyperkv.stores import valkey
from workflow.hyperkv.stores.registry import make_store
from workflow.hyperkv.tune.store_load import measured_rounds
from workflow.plugin.lmcache_striped.secret import Secret

OTHERS = stat.S_IRWXG | stat.S_IRWXO


@pytest.fixture
def password(tmp_path) -> Secret:
    file = tmp_path / "password"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    return Secret(file=file)


@pytest.fixture
def widest_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.mark.parametrize("name", ON_DISK)
@pytest.mark.parametrize("unix", [False, True])
def test_every_file_of_a_store_is_its_users_alone(name, unix, folder, password, widest_umask):
    """Whatever the umask; with a password where it takes one, with a unix socket or without."""
    changes = {"settings": {"rocksdb.write_buffer_size": 8}} if name in ("rocksdb", "kvrocks") else {}
    changes |= {"password": password} if name in ("valkey", "kvrocks") else {}
    keys = new_keys(40)
    with make_store(name, store_config(folder, name, unix=unix, **changes)) as store:
        with make_connector(CONNECTOR_OF[name], store, 2, 10) as connector:
            connector.put(keys, values_of(keys, MIB))
        store.restart()
        found = [store.config.directory, *store.config.directory.rglob("*")]
        assert len(found) > 1 or name == "valkey"
        if name != "files" and unix:
            found.append(Path(store.socket_path).parent)
        assert not [path for path in found if path.lstat().st_mode & OTHERS]


# Stores that do not start


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def a_key_that_the_server_refuses(scenario: dict, monkeypatch) -> None:
    known = "workflow.hyperkv.stores.rocksdb.store.RocksdbStore.check_settings"
    monkeypatch.setattr(known, lambda *_: None)
    rocksdb = scenario["store"] == "rocksdb"
    scenario["settings"] = {"rocksdb.no_such_key": "1"} if rocksdb else {"io-threads": "none"}


def a_program_that_is_missing(scenario: dict, monkeypatch) -> None:
    monkeypatch.setattr(valkey, "valkey_binary", lambda: "/nonexistent/valkey-server")
    monkeypatch.setattr("workflow.hyperkv.stores.rocksdb.store.sys.executable", "/nonexistent/python")


def a_port_that_is_taken(scenario: dict, monkeypatch) -> socket.socket:
    holder = socket.create_server(("127.0.0.1", 0))
    scenario["port"] = holder.getsockname()[1]
    return holder


def a_password_that_is_missing(scenario: dict, monkeypatch) -> None:
    Path(scenario.get("password_file", "/nonexistent")).unlink(missing_ok=True)
    if scenario["store"] == "rocksdb":
        scenario["port"] = 1  # it takes none: a port that it may not have, or finds taken
        monkeypatch.setattr(OwnedProcess, "start", interrupted)


def a_signal_before_it_is_ready(scenario: dict, monkeypatch) -> None:
    monkeypatch.setattr(OwnedProcess, "wait_ready", interrupted)


def a_signal_once_it_is_ready(scenario: dict, monkeypatch) -> None:
    ready = OwnedProcess.wait_ready
    monkeypatch.setattr(OwnedProcess, "wait_ready", lambda *words: (ready(*words), interrupted()))


def a_server_that_ends_at_once(scenario: dict, monkeypatch) -> None:
    made = OwnedProcess.__init__
    monkeypatch.setattr(OwnedProcess, "__init__", lambda self, _, **words: made(self, ["false"], **words))


FAULTS = (
    *(
        a_key_that_the_server_refuses,
        a_program_that_is_missing,
        a_port_that_is_taken,
        a_password_that_is_missing,
    ),
    *(a_signal_before_it_is_ready, a_signal_once_it_is_ready, a_server_that_ends_at_once),
)


def _a_cell(spec: dict, logs: Path) -> None:
    replay_cells.measure_cell(CellSpec(spec, 1, 1, logs))


def _a_profile(spec: dict, logs: Path) -> None:
    profile.measure_size(_alone(spec), 65536, 1, 1, logs)


def _a_trial(spec: dict, logs: Path) -> None:
    search = {"sweep": spec, "prompt_tokens": 64, "rounds": 1, "get_weight": 0.8, "warm_up_bytes": None}
    list(measured_rounds(search, spec["scenario"], logs))


def _layers(spec: dict, logs: Path) -> None:
    alone = _alone(spec)
    payload = moving.Payload(65536)
    names = list(rungs_of(alone["scenario"]))
    first = "store_ram" if "store_ram" in names else "valkey"
    values = moving.Values.of(payload, 1, 2, repeat=names.index(first) + 1)
    stations.measure_point(moving.Bench(alone, values, logs, None, None))


def _alone(spec: dict) -> dict:
    sizes = {"point_bytes": 131072, "warm_up_bytes": 65536}
    return spec | sizes | {"memory_dir": str(Path(spec["data_dir"]).parent / "memory")}


WAYS = [_a_cell, _a_profile, _a_trial, _layers]


@pytest.mark.parametrize(("store", "way"), [*(("valkey", way) for way in WAYS), ("rocksdb", _a_cell)])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_does_not_start_leaves_no_folder_and_no_process(
    store, fault, way, tmp_path, tmp_path_factory, password, monkeypatch
):
    monkeypatch.setattr(stations, "memory_folder", lambda folder, needed: MemoryFolder(folder))
    spec = spec_of(tmp_path, "files")
    spec["scenario"] |= VALKEY | {"password_file": str(password.file)} if store == "valkey" else ROCKSDB
    spec["scenario"] |= {"socket": "unix", "dram_pool_bytes": None}
    sockets = tmp_path_factory.mktemp("t")  # in a deeper one they are elsewhere
    monkeypatch.setenv("TMPDIR", str(sockets))
    monkeypatch.setattr("tempfile.tempdir", None)
    held = fault(spec["scenario"], monkeypatch) or contextlib.nullcontext()
    with held, pytest.raises((UserError, StoreError, KeyboardInterrupt)):
        way(spec, tmp_path / "logs")
    for folder in (tmp_path / "data", tmp_path / "memory", sockets):
        assert not folder.exists() or list(folder.iterdir()) == []
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
