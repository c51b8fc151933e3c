"""What goes wrong with a store: every case ends in one line, never in a hang."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import eventually, is_stopped, mounted_tmpfs
from tests.stores.conftest import (
    CLIENTS,
    CONNECTIONS,
    CONNECTOR_OF,
    MIB,
    ON_DISK,
    OPTIONS,
    SERVER_PAIRS,
    SERVERS,
    buffers_for,
    new_keys,
    offered,
    payload,
    store_config,
    values_of,
)
from workflow.hyperkv.base.errors import StoreDied, StoreError, UserError
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.registry import make_store

KVROCKS = offered("kvrocks")
SMALL_DISK_SETTINGS = {
    "files": {},
    "rocksdb": {"rocksdb.write_buffer_size": 1, "rocksdb.max_total_wal_size": 1, "direct_io": "no"},
    "kvrocks": {"rocksdb.write_buffer_size": 1, "rocksdb.max_total_wal_size": 1},
}


# At start


@pytest.mark.parametrize("name", SERVERS)
def test_port_in_use_names_the_holder(name, folder):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        store = make_store(name, store_config(folder, name, port=port))
        with pytest.raises(UserError) as caught, store:
            pass
    assert f"store {name}: port {port} on 127.0.0.1 is in use by pid {os.getpid()}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SERVERS)
def test_a_given_port_is_used_and_reused(name, folder):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    with make_store(name, store_config(folder, name, port=port)) as store:
        assert store.endpoint.port == port
        store.restart()
        assert store.endpoint.port == port


@pytest.mark.parametrize("name", ON_DISK)
@pytest.mark.parametrize("below", ["", "further/down"])
def test_unwritable_directory(name, below, folder):
    config = store_config(folder, name)
    folder.mkdir()
    config.directory.write_text("a file in the way")
    config = store_config(folder, name, directory=config.directory / below)
    with pytest.raises(UserError, match="data_dir: cannot write in") as caught, make_store(name, config):
        pass
    assert str(config.directory) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("valkey", {"no-such-key": "1"}, "no-such-key|Bad directive"),
        ("valkey", {"io-threads": "none"}, r"""'io-threads "none"'; mend settings"""),
        ("valkey", {"loglevel": "keep-all"}, "keep-all"),
        pytest.param(
            "kvrocks",
            {"rocksdb.write_buffer_size": "268435456"},
            "the line is 'rocksdb.write_buffer_size 268435456'; sizes of buffers are in MiB",
            marks=KVROCKS.marks,
        ),
    ],
)
def test_bad_setting_ends_the_start_with_the_servers_own_words(name, settings, words, folder):
    store = make_store(name, store_config(folder, name, settings=settings))
    with pytest.raises(StoreError, match=words) as caught, store:
        pass
    assert f"store {name} ended with status" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreDied):
        store.check_alive()


# A full disk


@pytest.fixture
def small_disk(folder) -> Iterator[Path]:
    """16 MiB of tmpfs at `folder`."""
    with mounted_tmpfs(folder, 16) as disk:
        yield disk


@pytest.mark.parametrize("name", [offered(name) for name in SMALL_DISK_SETTINGS])
def test_full_disk(name, small_disk, tmp_path):
    config = store_config(small_disk, name, settings=SMALL_DISK_SETTINGS[name], log=tmp_path / "log")
    first, *keys = new_keys(25)
    with make_store(name, config) as store:
        with make_connector(CONNECTOR_OF[name], store, 1, timeout_s=10) as connector:
            connector.put([first], values_of([first], MIB))

            def fill() -> None:
                for key in keys:
                    connector.put([key], values_of([key], MIB))

            with pytest.raises(StoreError, match="No space left on device"):
                fill()
            store.check_alive()
            buffer = buffers_for([first], MIB)
            assert connector.get([first], buffer) == [True]
            assert payload(MIB).matches(first, buffer[0])
            assert connector.count_present([first, keys[-1]]) == 1
        if name == "files":
            assert not [path for path in config.directory.rglob("*.*") if path.is_file()]


# A server that is killed


def has_died(store: Store) -> bool:
    try:
        store.check_alive()
    except StoreDied:
        return True
    return False


@pytest.mark.parametrize("operation", ["put", "get"])
@pytest.mark.parametrize(("name", "kind"), SERVER_PAIRS)
def test_killed_server_is_an_error_at_once(name, kind, operation, folder):
    keys = new_keys(2 * CONNECTIONS)
    values, buffers = values_of(keys, 65536), buffers_for(keys, 65536)
    under_way = threading.Event()
    with make_store(name, store_config(folder, name)) as store:

        def kill() -> None:
            under_way.wait(10)
            os.kill(store.pid(), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        with make_connector(kind, store, CONNECTIONS, timeout_s=60, **OPTIONS.get(kind, {})) as connector:
            connector.put(keys, values)
            killer.start()

            def keep_going() -> None:
                while True:
                    connector.put(keys, values) if operation == "put" else connector.get(keys, buffers)
                    under_way.set()

            for call in (
                keep_going,
                lambda: connector.put(keys, values),
                lambda: connector.get(keys, buffers),
                lambda: connector.count_present(keys),
            ):
                with pytest.raises(StoreError) as caught:
                    call()
                assert "timed out" not in str(caught.value)
        killer.join(10)
        assert eventually(lambda: has_died(store))  # its sockets close a moment before it can be waited for
        with pytest.raises(StoreDied, match=r"signal 9 \(SIGKILL\)"):
            store.check_alive()
        with pytest.raises(StoreDied, match=r"signal 9 \(SIGKILL\)"):
            store.counters()


# A server that hangs


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory) -> Iterator[Store]:
    with make_store(request.param, store_config(tmp_path_factory.mktemp("hang"), request.param)) as store:
        yield store


@contextlib.contextmanager
def hanging(store: Store) -> Iterator[None]:
    os.kill(store.pid(), signal.SIGSTOP)
    try:
        assert eventually(lambda: is_stopped(store.pid()))
        yield
    finally:
        os.kill(store.pid(), signal.SIGCONT)


@pytest.mark.parametrize("operation", ["put", "get", "count_present"])
@pytest.mark.parametrize("kind", CLIENTS)
def test_hanging_server_times_out(server, kind, operation):
    keys = new_keys(2)
    values, buffers = values_of(keys, 4096), buffers_for(keys, 4096)
    with make_connector(kind, server, 2, timeout_s=0.5) as connector:
        connector.put(keys, values)
        assert connector.get(keys, buffers) == [True, True]
        arguments = {"put": (keys, values), "get": (keys, buffers), "count_present": (keys,)}[operation]
        with hanging(server), pytest.raises(StoreError, match="timed out"):
            getattr(connector, operation)(*arguments)
    server.check_alive()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_late_reply_never_answers_the_next_request(server, kind):
    late, wanted = keys = new_keys(2)
    with make_connector(kind, server, 1, timeout_s=0.5) as connector:
        connector.put(keys, values_of(keys, 4096))
        with hanging(server), pytest.raises(StoreError):
            connector.get([late], buffers_for([late], 4096))
        with server.client() as client:
            assert eventually(client.ping)  # the server is back, its late reply on the way
        buffer = buffers_for([wanted], 4096)
        try:
            served = connector.get([wanted], buffer)
        except StoreError:
            served = [False]
        assert served == [False] or payload(4096).matches(wanted, buffer[0])
