"""Servers that are slow on purpose: every call of every client ends, where one that waits for every byte anew never would, and a large transfer that goes on does not."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import redis
import requests

from tests.connectors.native import sanitized_run
from tests.stores.conftest import store_config
from workflow.hyperkv.base.deadline import Deadline, Endpoint
from workflow.hyperkv.base.errors import PassingError, StoreError
from workflow.hyperkv.base.secret import Secret
from workflow.hyperkv.base.threads import within
from workflow.hyperkv.connectors.base import Connector
from workflow.hyperkv.connectors.redis import RedisConnector
from workflow.hyperkv.connectors.resp import RespConnector
from workflow.hyperkv.connectors.striped.connector import StripedConnector
from workflow.hyperkv.engines.vllm import direct_http
from workflow.hyperkv.machine import download as fetch
from workflow.hyperkv.profile.loopback import RawConnection
from workflow.hyperkv.stores.redis_client import bounded
from workflow.hyperkv.stores.registry import make_store

MIB = 1 << 20
TIMEOUT_S = 0.4
PAUSE_S = 0.9 * TIMEOUT_S
KEYS = [b"a" * 32, b"b" * 32]

Behaviour = Callable[[socket.socket, threading.Event], None]


def drips(*pieces: bytes) -> Behaviour:
    """All pieces but the last at once, that one again and again, a byte at a time."""

    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"".join(pieces[:-1]))
        while not stop.is_set():
            for byte in pieces[-1]:
                connection.sendall(bytes([byte]))
                stop.wait(PAUSE_S)

    return behave


def floods(*pieces: bytes) -> Behaviour:
    """All pieces but the last once, that one without end."""

    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"".join(pieces[:-1]))
        while not stop.is_set():
            connection.sendall(pieces[-1])

    return behave


def says(text: bytes) -> Behaviour:
    """So much, and nothing more."""

    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(1 << 16)
        connection.sendall(text)
        stop.wait()

    return behave


def is_deaf(_: socket.socket, stop: threading.Event) -> None:
    """Never reads."""
    stop.wait()


BEHAVIOURS = {
    "drips a line": drips(b"+", b"x"),
    "drips a value": drips(b"$%d\r\n" % MIB, b"\0"),
    "drips another value": drips(b"$77\r\n", b"\0"),
    "drips an error": drips(b"-", b"E"),
    "floods a line": floods(b"+", b"x" * 65536),
    "floods another value": floods(b"$99999999999999\r\n", bytes(1 << 18)),
    "stops in a value": says(b"$%d\r\n" % MIB + bytes(MIB // 2)),
    "stops in a line": says(b"$10485"),
    "never answers": says(b""),
    "never reads": is_deaf,
}


@contextlib.contextmanager
def serving(behave: Behaviour) -> Iterator[Endpoint]:
    """A server on loopback that treats every connection so."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            behave(connection, stop)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield Endpoint("127.0.0.1", listener.getsockname()[1])
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(10)
            for thread in threads:
                thread.join(10)


CLIENTS = {
    "resp": lambda endpoint, _: RespConnector(endpoint, 1, TIMEOUT_S),
    "redis": lambda endpoint, _: RedisConnector(endpoint, 1, TIMEOUT_S),
    "striped": lambda endpoint, _: StripedConnector([endpoint], 1, TIMEOUT_S),
    "native": lambda endpoint, path: StripedConnector([endpoint], 1, TIMEOUT_S, library=path()),
}


@pytest.fixture(params=CLIENTS)
def connect(request) -> Callable[[Endpoint], Connector]:
    return lambda endpoint: CLIENTS[request.param](endpoint, lambda: request.getfixturevalue("library"))


@pytest.mark.parametrize("operation", ["get", "put", "count_present"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_call_ends_in_time(connect, behaviour, operation):
    size = 64 * MIB if (behaviour, operation) == ("never reads", "put") else MIB
    arrays = [np.zeros(size, np.uint8) for _ in KEYS]
    with serving(BEHAVIOURS[behaviour]) as endpoint, connect(endpoint) as connector:
        calls = {
            "get": lambda: connector.get(KEYS, arrays),
            "put": lambda: connector.put(KEYS, arrays),
            "count_present": lambda: connector.count_present(KEYS),
        }
        with pytest.raises(StoreError):
            calls[operation]()


SANITIZED = """
import sys
from pathlib import Path
import numpy as np
from workflow.hyperkv.connectors.striped.connector import StripedConnector
from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.base.deadline import Endpoint

for port in sys.argv[2:]:
    with StripedConnector([Endpoint("127.0.0.1", int(port))], 1, 0.4, library=Path(sys.argv[1])) as connector:
        try:
            print(connector.get([b"a" * 32, b"b" * 32], [np.zeros(1 << 20, np.uint8)] * 2))
        except StoreError as error:
            print(str(error).replace(f"127.0.0.1:{port}", "it"))
"""


def test_the_compiled_client_ends_in_time_under_sanitizers(tmp_path):
    with contextlib.ExitStack() as servers:
        ports = [str(servers.enter_context(serving(behave)).port) for behave in BEHAVIOURS.values()]
        done = sanitized_run(tmp_path, SANITIZED, *ports)
    assert done.returncode == 0, done.stderr
    late = "receive timed out after 0.4 s at it"
    assert dict(zip(BEHAVIOURS, done.stdout.splitlines(), strict=True)) == {
        "drips a line": late,
        "drips a value": late,
        "drips another value": late,
        "drips an error": late,
        "floods a line": "it sent a line of more than 4096 bytes",
        "floods another value": late,
        "stops in a value": late,
        "stops in a line": late,
        "never answers": late,
        "never reads": late,
    }


@pytest.mark.parametrize("behaviour", ["drips a line", "never answers", "floods a line"])
def test_a_password_is_asked_for_in_time(behaviour, monkeypatch):
    monkeypatch.setenv("HYPERKV_TEST_PASSWORD", "secret")
    secret = Secret(None, "HYPERKV_TEST_PASSWORD")
    with serving(BEHAVIOURS[behaviour]) as server:
        endpoint = Endpoint(server.host, server.port, secret)
        with pytest.raises(StoreError):
            RespConnector(endpoint, 1, TIMEOUT_S)
        with pytest.raises(StoreError):
            StripedConnector([endpoint], 1, TIMEOUT_S)


SLOW_BYTES_PER_S = 16 * MIB
SLOW_TIMEOUT_S = 1.5


def slowly(store: Endpoint) -> Behaviour:
    """What lies between client and store and lets SLOW_BYTES_PER_S through, either way."""

    def forward(source: socket.socket, sink: socket.socket, stop: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 18):
                sink.sendall(piece)
                stop.wait(len(piece) / SLOW_BYTES_PER_S)
            sink.shutdown(socket.SHUT_WR)

    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        with socket.create_connection((store.host, store.port)) as server:
            back = threading.Thread(target=forward, args=(server, connection, stop), daemon=True)
            back.start()
            forward(connection, server, stop)
            back.join(10)

    return behave


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_large_value_that_keeps_moving_takes_longer_than_the_time_out(kind, request, tmp_path):
    value = np.random.default_rng(0).integers(0, 256, 32 * MIB, np.uint8)
    buffer = np.zeros_like(value)
    with (
        make_store("valkey", store_config(tmp_path, "valkey")) as store,
        serving(slowly(store.endpoint)) as endpoint,
    ):
        path = request.getfixturevalue("library") if kind == "native" else None
        kinds = {"resp": RespConnector, "redis": RedisConnector}
        with (
            kinds[kind](endpoint, 1, SLOW_TIMEOUT_S)
            if kind in kinds
            else StripedConnector([endpoint], 1, SLOW_TIMEOUT_S, library=path)
        ) as connector:
            started = time.monotonic()
            connector.put(KEYS[:1], [value])
            assert connector.get(KEYS[:1], [buffer]) == [True]
            assert time.monotonic() - started > 2 * SLOW_TIMEOUT_S
            assert connector.count_present(KEYS) == 1
    assert (buffer == value).all()


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_raw_socket_ends_in_time(behaviour):
    with serving(BEHAVIOURS[behaviour]) as endpoint:
        connection = RawConnection(endpoint, TIMEOUT_S)
        with contextlib.closing(connection), pytest.raises(StoreError):
            connection.write(0, [np.zeros(64 * MIB, np.uint8)])
            connection.read(0, [np.zeros(1 << 30, np.uint8)])


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_ping_ends_in_time(behaviour):
    """As the wait for a store to be ready asks."""
    with (
        serving(BEHAVIOURS[behaviour]) as endpoint,
        bounded(endpoint.host, endpoint.port, TIMEOUT_S) as client,
        pytest.raises(redis.RedisError),
    ):
        client.ping()


HEAD = b"HTTP/1.1 200 OK\r\n"
PAGES = {
    "drips a status": drips(HEAD),
    "drips a header": drips(HEAD + b"X: ", b"y"),
    "drips a body": drips(HEAD + b"Content-Length: 100000\r\n\r\n", b"z"),
    "drips chunks": drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n"),
    "floods headers": floods(HEAD, b"X: y\r\n"),
    "never answers": says(b""),
    "stops in the body": says(HEAD + b"Content-Length: 100000\r\n\r\nhalf"),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_ends_in_time(page):
    with serving(PAGES[page]) as endpoint, pytest.raises(requests.RequestException):
        url = f"http://{endpoint.host}:{endpoint.port}/metrics"
        direct_http.request("GET", url, timeout=TIMEOUT_S).raise_for_status()


@pytest.mark.parametrize("page", ["drips a status", "drips a body"])
def test_an_answer_that_is_streamed_ends_in_time(page):
    with serving(PAGES[page]) as endpoint, pytest.raises(requests.RequestException):
        url = f"http://{endpoint.host}:{endpoint.port}/v1/completions"
        with direct_http.request("POST", url, timeout=TIMEOUT_S, data="{}", stream=True) as reply:
            list(reply.iter_lines())


@pytest.mark.parametrize("page", PAGES)
def test_a_download_ends_in_time(page, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_TIMEOUT_S", TIMEOUT_S)
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    with serving(PAGES[page]) as endpoint, pytest.raises(PassingError):
        fetch.fetch(f"http://{endpoint.host}:{endpoint.port}/file", None, tmp_path / "file")


def test_what_cannot_be_bounded_is_left():
    never = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            within(Deadline(0.05), never.wait)
    finally:
        never.set()
    assert within(Deadline(5), lambda: 7) == 7
    with pytest.raises(KeyError):
        within(Deadline(5), lambda: {}["x"])
