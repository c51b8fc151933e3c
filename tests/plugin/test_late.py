"""A server whose worker stands still in a save: connections to it are opened anew, until they are on another."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connectors.files_server import FilesServer
from tests.stores.conftest import buffers_for, new_keys, values_of
from workflow.plugin.lmcache_striped import late
from workflow.plugin.lmcache_striped.channels import Channel
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.direct import FileSettings
from workflow.plugin.lmcache_striped.late import Late

LATE_S, STALL_S = 0.3, 0.6  # of the tests: a busy machine answers in less
STRIPE = 8192


@pytest.fixture(autouse=True)
def longer(monkeypatch) -> None:
    monkeypatch.setattr(late, "LATE_S", LATE_S)


class Workers:
    """A server whose connections have workers in the order `of`, then the last of these: "stalled" ones answer after STALL_S
    while `stalls` is set.

    accepted: how many connections there were. server: what answers.
    """

    def __init__(self, server: FilesServer, of: list[str]):
        self.accepted = 0
        self.stalls = threading.Event()
        self._server, self._of = server, of

    @contextlib.contextmanager
    def running(self) -> Iterator[Endpoint]:
        with self._server.running() as behind, socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.05)
            stop = threading.Event()
            threads = [threading.Thread(target=self._accept, args=(listener, behind, stop))]
            threads[0].start()
            try:
                yield Endpoint(*listener.getsockname()[:2])
            finally:
                stop.set()
                threads[0].join()

    def _accept(self, listener: socket.socket, behind: Endpoint, stop: threading.Event) -> None:
        threads = []
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = listener.accept()
                worker = self._of[min(self.accepted, len(self._of) - 1)]
                self.accepted += 1
                threads.append(threading.Thread(target=self._pass_on, args=(client, behind, worker, stop)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _pass_on(self, client: socket.socket, behind: Endpoint, worker: str, stop: threading.Event) -> None:
        with client, socket.create_connection((behind.host, behind.port)) as server:
            back = threading.Thread(target=_copy, args=(server, client))
            back.start()
            client.settimeout(0.05)
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        if not (data := client.recv(1 << 16)):
                            break
                        if worker == "stalled" and self.stalls.is_set():
                            stop.wait(STALL_S)
                        server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


def library_of(client: str, request) -> Path | None:
    return request.getfixturevalue("library") if client == "native" else None


@pytest.mark.parametrize("client", ["python", "native"])
def test_lookups_leave_a_worker_that_stands_still(client, tmp_path, request):
    (key,) = new_keys(1)
    library = library_of(client, request)
    workers = Workers(FilesServer(tmp_path / "store"), ["well", "stalled", "stalled", "well"])
    with workers.running() as endpoint:
        with StripedConnector([endpoint], 1, 10, STRIPE) as saves:
            saves.put([key], values_of([key], STRIPE))
        with StripedConnector([endpoint], 1, 10, STRIPE, library=library) as lookups:
            assert lookups.count_present([key]) == 1
            workers.stalls.set()
            assert [lookups.count_present([key]) for _ in range(6)] == [1] * 6
    assert workers.accepted == 4


@pytest.mark.parametrize("client", ["python", "native"])
def test_lookups_stay_with_a_server_that_is_asked_beside_a_late_one(client, tmp_path, request):
    late_one, other = (FilesServer(tmp_path / name) for name in ("late", "other"))
    late_workers, workers = Workers(late_one, ["stalled"]), Workers(other, ["well"])
    with late_workers.running() as first, workers.running() as second:
        endpoints = [first, second]
        with StripedConnector(endpoints, 1, 10, STRIPE, library=library_of(client, request)) as lookups:
            assert lookups.present(new_keys(8)) == [False] * 8
            late_workers.stalls.set()
            for _ in range(4):
                lookups.present(new_keys(8))
    assert late_workers.accepted > 1
    assert workers.accepted == 1


def test_a_connection_that_is_late_now_and_then_stays(tmp_path):
    with FilesServer(tmp_path / "store").running() as endpoint:
        channel = Channel(endpoint, 1, None)
        channel.open()
        waits = Late()
        for after_s in (0.001, STALL_S, 0.001, 0.001, STALL_S, 0.001, 0.001):
            waits.answered(channel, after_s)
            assert channel.is_open
        waits.answered(channel, STALL_S)
        waits.answered(channel, STALL_S)
        assert not channel.is_open


def test_a_server_far_away_is_not_late(tmp_path):
    with FilesServer(tmp_path / "store").running() as endpoint:
        channel, waits = Channel(endpoint, 1, None), Late()
        channel.open()
        for _ in range(10):
            waits.answered(channel, 10 * LATE_S)
        assert channel.is_open
        channel.close()


@pytest.mark.parametrize("client", ["python", "native"])
def test_loads_from_files_leave_it_too(client, tmp_path, request):
    library = library_of(client, request)
    store = FilesServer(tmp_path / "store", file_bytes=4 * STRIPE)
    keys = new_keys(2)
    workers = Workers(store, ["well", "stalled", "stalled", "well"])
    with workers.running() as endpoint:
        files = FileSettings((store.folder,), threads=1, depth=1)
        with StripedConnector([endpoint], 1, 10, STRIPE) as saves:
            saves.put(keys, values_of(keys, 4 * STRIPE))
        with StripedConnector([endpoint], 1, 10, STRIPE, library=library, files=files) as loads:
            for _ in range(7):
                assert loads.get(keys, buffers_for(keys, 4 * STRIPE)) == [True] * 2
                workers.stalls.set()
    assert workers.accepted == 4
