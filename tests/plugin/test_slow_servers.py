"""Servers that are slow on purpose: every call of every client ends, where one that waits for every byte anew never would, and a large transfer that goes on does not."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import redis
import requests

from tests.plugin.native import sanitized_run
from tests.stores.conftest import store_config
from workflow.hyperkv.base import direct_http
from workflow.hyperkv.base.errors import PassingError, StoreError
from workflow.hyperkv.base.threads import within
from workflow.hyperkv.connectors.redis import RedisConnector
from workflow.hyperkv.connectors.resp import RespConnector
from workflow.hyperkv.machine import download as fetch
from workflow.hyperkv.profile.loopback import RawConnection
from workflow.hyperkv.stores.redis_client import bounded
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.base import Connector
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.deadline import Deadline, Endpoint
from workflow.plugin.lmcache_striped.secret import Secret

MIB = 1 << 20
TIMEOUT_S = 0.2
PAUSE_S = 0.9 * TIMEOUT_S
KEYS = [b"a" * 32, b"b" * 32]
LARGE = np.zeros(8 * MIB, np.uint8)  # more than the buffers of the kernel take for one who does not read

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
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)

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


def ends_in_time(call: Callable[[Endpoint], None], error: type[Exception], behaviours=BEHAVIOURS) -> None:
    """The call fails with the error, whatever the server does; all servers at once, since most of it is waiting."""

    def outcome(behave: Behaviour) -> str:
        with serving(behave) as endpoint:
            try:
                call(endpoint)
            except error:
                return "ends"
        return "is done"

    with ThreadPoolExecutor(len(behaviours)) as pool:
        found = dict(zip(behaviours, pool.map(outcome, behaviours.values()), strict=True))
    assert found == dict.fromkeys(behaviours, "ends")


def connector_of(kind: str, library: Path, endpoint: Endpoint, timeout_s: float) -> Connector:
    if kind in ("resp", "redis"):
        return {"resp": RespConnector, "redis": RedisConnector}[kind](endpoint, 1, timeout_s)
    return StripedConnector([endpoint], 1, timeout_s, library=library if kind == "native" else None)


CLIENTS = ("resp", "redis", "striped", "native")
OPERATIONS = {
    "get": lambda connector: connector.get(KEYS, [np.zeros(MIB, np.uint8) for _ in KEYS]),
    "put": lambda connector: connector.put(KEYS, [LARGE, LARGE]),
    "count_present": lambda connector: connector.count_present(KEYS),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", CLIENTS)
def test_a_call_ends_in_time(kind, operation, library):
    def call(endpoint: Endpoint) -> None:
        with connector_of(kind, library, endpoint, TIMEOUT_S) as connector:
            OPERATIONS[operation](connector)

    ends_in_time(call, StoreError)


SANITIZED = """
import sys
from pathlib import Path
import numpy as np
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.hyperkv.base.errors import StoreError
from workflow.plugin.lmcache_striped.deadline import Endpoint

keys = [b"a" * 32, b"b" * 32]
calls = (lambda one: one.get(keys, [np.zeros(1 << 20, np.uint8)] * 2), lambda one: one.count_present(keys))
for call in calls:
    for port in sys.argv[2:]:
        with StripedConnector([Endpoint("127.0.0.1", int(port))], 1, 0.1, library=Path(sys.argv[1])) as connector:
            try:
                print(call(connector))
            except StoreError as error:
                print(str(error).replace(f"127.0.0.1:{port}", "it"))
"""


def test_the_compiled_client_ends_in_time_under_sanitizers(tmp_path):
    with contextlib.ExitStack() as servers:
        ports = [str(servers.enter_context(serving(behave)).port) for behave in BEHAVIOURS.values()]
        done = sanitized_run(tmp_path, SANITIZED, *ports)
    assert done.returncode == 0, done.stderr
    late = "receive timed out after 0.1 s at it"
    floods = {"floods a line": "it sent a line of more than 4096 bytes"}
    lengths = {
        "drips a value": MIB,
        "stops in a value": MIB,
        "drips another value": 77,
        "floods another value": 99999999999999,
    }
    values = {name: f"it answered EXISTS with b'${length}'" for name, length in lengths.items()}
    expected = dict.fromkeys(BEHAVIOURS, late) | floods
    assert done.stdout.splitlines() == [*expected.values(), *(expected | values).values()]


@pytest.mark.parametrize("kind", ["resp", "striped"])
def test_a_password_is_asked_for_in_time(kind, monkeypatch):
    monkeypatch.setenv("HYPERKV_TEST_PASSWORD", "secret")
    secret = Secret(None, "HYPERKV_TEST_PASSWORD")
    behaviours = {name: BEHAVIOURS[name] for name in ("drips a line", "never answers", "floods a line")}
    ends_in_time(
        lambda server: connector_of(kind, None, replace(server, password=secret), TIMEOUT_S),
        StoreError,
        behaviours,
    )


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
        with socket.create_connection((store.host, store.port)) as server:
            back = threading.Thread(target=forward, args=(server, connection, stop), daemon=True)
            back.start()
            forward(connection, server, stop)
            back.join(10)

    return behave


def test_a_large_value_that_keeps_moving_takes_longer_than_the_time_out(library, tmp_path):
    value = np.random.default_rng(0).integers(0, 256, 32 * MIB, np.uint8)
    with make_store("valkey", store_config(tmp_path, "valkey")) as store:

        def saved_and_loaded(kind: str) -> None:
            buffer, key = np.zeros_like(value), kind.encode() * 8
            with (
                serving(slowly(store.endpoint)) as endpoint,
                connector_of(kind, library, endpoint, SLOW_TIMEOUT_S) as connector,
            ):
                started = time.monotonic()
                connector.put([key], [value])
                assert connector.get([key], [buffer]) == [True]
                assert time.monotonic() - started > 2 * SLOW_TIMEOUT_S
                assert connector.count_present([key, b"none"]) == 1
            assert (buffer == value).all()

        with ThreadPoolExecutor(len(CLIENTS)) as pool:
            list(pool.map(saved_and_loaded, CLIENTS))


def test_the_raw_socket_ends_in_time():
    def call(endpoint: Endpoint) -> None:
        with contextlib.closing(RawConnection(endpoint, TIMEOUT_S)) as connection:
            connection.write(0, [np.zeros(64 * MIB, np.uint8)])
            connection.read(0, [np.zeros(1 << 30, np.uint8)])

    ends_in_time(call, StoreError)


def test_a_ping_ends_in_time():
    """As the wait for a store to be ready asks."""

    def call(endpoint: Endpoint) -> None:
        with bounded(endpoint.host, endpoint.port, TIMEOUT_S) as client:
            client.ping()

    ends_in_time(call, redis.RedisError)


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


@pytest.mark.parametrize("streamed", [False, True])
def test_a_page_ends_in_time(streamed):
    def call(endpoint: Endpoint) -> None:
        url = f"http://{endpoint.host}:{endpoint.port}/v1/completions"
        with direct_http.request("POST", url, timeout=TIMEOUT_S, data="{}", stream=streamed) as reply:
            list(reply.iter_lines())

    ends_in_time(call, requests.RequestException, PAGES)


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
