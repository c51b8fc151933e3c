"""The rocksdb store's server when threads, descriptors, memory or disk space run out, and when they are back."""

import contextlib
import itertools
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tests.helpers import eventually, mounted_tmpfs
from tests.stores.servers import (
    MIB,
    ROOT,
    TIMEOUT_S,
    Running,
    command,
    receive_all,
    running,
)
from workflow.hyperkv.machine.processes import free_port

WITHOUT_LOG = ("--set", "rocksdb.write_options.disable_wal", "yes")
SMALL = ("--set", "rocksdb.write_buffer_size", "1", "--set", "rocksdb.max_total_wal_size", "1")


def limit(one: Running, what: int, soft: int) -> None:
    """Change a limit of the running server."""
    resource.prlimit(one.process.pid, what, (soft, resource.prlimit(one.process.pid, what)[1]))


def outcome(client: redis.Redis, key: str, value: bytes) -> str:
    """'' when a SET was done, else what was answered."""
    try:
        assert client.set(key, value)
    except redis.ResponseError as error:
        return str(error)
    return ""


def descriptors(one: Running) -> int:
    return len(os.listdir(f"/proc/{one.process.pid}/fd"))


@contextlib.contextmanager
def no_space(one: Running, folder: Path) -> Iterator[None]:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(64 << 10))
    yield
    filler.unlink()


@contextlib.contextmanager
def limited(one: Running, what: int, soft: int) -> Iterator[None]:
    before = resource.prlimit(one.process.pid, what)
    limit(one, what, soft)
    yield
    resource.prlimit(one.process.pid, what, before)


FAULTS: dict[str, Callable[[Running, Path], contextlib.AbstractContextManager[None]]] = {
    "no space": no_space,
    "file size": lambda one, _: limited(one, resource.RLIMIT_FSIZE, MIB // 2),
    "descriptors": lambda one, _: limited(one, resource.RLIMIT_NOFILE, descriptors(one)),
}


@pytest.mark.parametrize(
    ("fault", "log"),
    [
        *itertools.product(FAULTS, [(), WITHOUT_LOG]),
        ("no space", ("--set", "rocksdb.write_options.sync", "yes")),
    ],
)
def test_after_a_fault_what_was_acknowledged_is_there_and_what_was_refused_is_not(fault, log, tmp_path):
    """Until writes are refused keys are written over and deleted; the last acknowledged state is what is read."""
    with mounted_tmpfs(tmp_path / "disk", 32) as disk:
        with running(disk / "db", *SMALL, *log) as one, one.client() as client:
            expected: dict[str, bytes | None] = {}
            refused = []
            for number in range(3):
                expected[f"k{number}"] = os.urandom(300_000)
                assert not outcome(client, f"k{number}", expected[f"k{number}"])
            assert client.delete("k1") == 1
            expected["k1"] = None
            with FAULTS[fault](one, disk):
                for number in range(60):
                    key, value = f"k{number % 7}", os.urandom(300_000)
                    if answer := outcome(client, key, value):
                        refused.append(answer)
                        expected.setdefault(key, None)
                        if len(refused) > 3:
                            break
                    else:
                        expected[key] = value
                assert len(refused) > 3
                assert all("IO error" in answer or "No space" in answer for answer in refused), refused
                assert client.ping()
                assert client.info("persistence")["writes_stopped"] == 1
            assert eventually(lambda: not outcome(client, "after", b"x" * 5000))
            assert {key: client.get(key) for key in expected} == expected
            assert client.dbsize() == sum(value is not None for value in expected.values()) + 1
            told = client.info("persistence")
            assert (told["writes_stopped"], told["recoveries"]) == (0, 1)
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(TIMEOUT_S) == 0
        with running(disk / "db", *SMALL, *log) as one, one.client() as client:
            assert {key: client.get(key) for key in expected} == expected


def test_reads_go_on_while_writes_are_refused(tmp_path):
    with running(tmp_path / "db", *SMALL) as one, one.client() as client:
        assert client.set("k", b"v" * 100_000)
        with limited(one, resource.RLIMIT_FSIZE, MIB // 4):
            assert "File too large" in outcome(client, "l", bytes(MIB))
            assert "writes have stopped" in outcome(client, "l", b"small")
            assert client.get("k") == b"v" * 100_000
            assert client.exists("l") == 0
            with pytest.raises(redis.ResponseError, match="writes have stopped"):
                client.delete("k")
            assert client.get("k") == b"v" * 100_000


@pytest.mark.parametrize("log", [(), WITHOUT_LOG])
def test_sigterm_with_a_full_disk_ends_in_one_line(log, tmp_path):
    """The error of the flush is what is printed; with a log the values are there afterwards."""
    with mounted_tmpfs(tmp_path / "disk", 24) as disk:
        port = free_port()
        with subprocess.Popen(
            command(disk / "db", port, *log),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            one = Running(process, port)
            try:
                assert process.stdout.readline().startswith("ready")
                with one.client() as client:
                    assert client.set("k", b"v" * MIB)
                with no_space(one, disk):
                    process.send_signal(signal.SIGTERM)
                    out, errors = process.communicate(timeout=TIMEOUT_S)
                assert process.returncode == 2
                assert (out, len(errors.splitlines())) == ("", 1), errors
                assert "the last writes could not be flushed" in errors
                assert "No space left on device" in errors
                assert ("in its log alone" in errors) == (not log)
            finally:
                process.kill()
        if not log:
            with running(disk / "db") as one, one.client() as client:
                assert client.get("k") == b"v" * MIB


def test_without_descriptors_connections_are_refused_at_once_and_nothing_spins(tmp_path):
    with running(tmp_path / "db", *SMALL) as one, one.client() as client, contextlib.ExitStack() as held:
        assert client.set("k", b"v")
        with limited(one, resource.RLIMIT_NOFILE, descriptors(one) + 20):
            others = [held.enter_context(one.connect()) for _ in range(40)]
            answers = []
            for other in others:
                other.settimeout(TIMEOUT_S)
                with contextlib.suppress(OSError):
                    other.sendall(b"PING\r\n")
                    answers.append(other.recv(200))
            assert answers.count(b"+PONG\r\n") >= 5
            assert [a for a in answers if a != b"+PONG\r\n" and b"descriptor" not in a and a] == []
            assert client.info("stats")["rejected_connections"] >= 15
            with limited(one, resource.RLIMIT_NOFILE, descriptors(one) - 1):
                waiting = [held.enter_context(one.connect()) for _ in range(5)]
                for other in waiting:
                    assert b"PONG" not in receive_all(other)
                before = sum(psutil.Process(one.process.pid).cpu_times()[:2])
                held.enter_context(one.connect())
                assert client.ping()
                time.sleep(0.5)  # the time in which it must not be busy
                assert sum(psutil.Process(one.process.pid).cpu_times()[:2]) - before < 0.25
        held.close()
        assert eventually(lambda: not outcome(client, "new", bytes(100_000)))
        with one.client() as another:
            assert another.get("k") == b"v"
            assert another.get("new") == bytes(100_000)


def test_without_memory_connections_and_values_are_refused_and_the_server_goes_on(tmp_path):
    """As much address space as it has, and no more: no thread can start."""
    with running(tmp_path / "db") as one, one.client() as client:
        assert client.set("k", b"v" * 1000)
        assert client.set("large", bytes(64 * MIB))
        size = psutil.Process(one.process.pid).memory_info().vms
        with limited(one, resource.RLIMIT_AS, size + MIB):
            for _ in range(20):
                with one.connect() as other:
                    assert b"ERR" in receive_all(other)
            assert "no memory" in outcome(client, "l", b"x")
            assert client.get("k") == b"v" * 1000
            with pytest.raises(redis.ResponseError, match="no memory"):
                client.get("large")
            assert client.info("stats")["rejected_connections"] == 20
        assert not outcome(client, "l", b"x")
        assert client.get("large") == bytes(64 * MIB)
        with one.client() as another:
            assert another.get("l") == b"x"
            assert another.info("clients")["connected_clients"] == 2


# A user of its own, who may read every file all the same: a limit of processes does not bind root.
CAPABLE = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
AS_ANOTHER = ["setpriv", "--reuid", "61547", "--clear-groups", *CAPABLE]
MOST_THREADS = 20


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="another user needs root and setpriv"
)
def test_without_threads_connections_are_refused_and_the_server_goes_on(tmp_path):
    port = free_port()
    process = subprocess.Popen(
        [*AS_ANOTHER, *command(tmp_path / "db", port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (MOST_THREADS, MOST_THREADS)),
    )
    try:
        assert process.stdout.readline().startswith("ready")
        one = Running(process, port)
        with one.client() as client, contextlib.ExitStack() as held:
            assert client.set("k", b"v")
            others = [held.enter_context(one.connect()) for _ in range(40)]
            answers = []
            for other in others:
                with contextlib.suppress(OSError):
                    other.sendall(b"PING\r\n")
                answers.append(other.recv(200))
            refused = answers.count(b"-ERR can't start new thread\r\n")
            assert refused > 40 - MOST_THREADS
            assert answers.count(b"+PONG\r\n") == 40 - refused
            assert client.info("stats")["rejected_connections"] == refused
            assert client.set("k", b"w")
            held.close()
            assert eventually(lambda: client.info("clients")["connected_clients"] == 1)
            with one.client() as another:
                assert another.get("k") == b"w"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_refused_client_is_told_why(tmp_path):
    with running(tmp_path / "db", "--set", "maxclients", "1") as one, one.client() as client:
        assert client.ping()
        with socket.create_connection(("127.0.0.1", one.port), timeout=TIMEOUT_S) as other:
            assert receive_all(other) == b"-ERR max number of clients reached\r\n"
