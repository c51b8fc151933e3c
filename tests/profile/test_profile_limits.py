"""The limits: real copies, a real loopback process, and what happens when that one dies."""

import json
import os
import signal
import threading
from itertools import accumulate, cycle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from tests.helpers import command
from workflow.hyperkv.base.errors import StoreDied, StoreError, UserError
from workflow.hyperkv.profile import profile_limits as limits
from workflow.hyperkv.profile.loopback import Loopback, RawConnection
from workflow.hyperkv.profile.profile_limits import (
    DEVICE,
    LIMITS,
    largest_point,
    measure_device,
    measure_limits,
)
from workflow.hyperkv.records.kinds.record import SCHEMA_VERSION
from workflow.hyperkv.records.record_file import read_records
from workflow.hyperkv.workloads.payload import aligned_buffer, slots

SIZE = 256 << 10
SPEC = {"value_bytes": [SIZE, 4 * SIZE], "connections": [1, 2], "point_bytes": 4 * SIZE, "repeats": 2}


@pytest.fixture
def loopback(tmp_path):
    """A process with 8 values of memory."""
    with Loopback(8 * SIZE, tmp_path / "loopback.log", timeout_s=10) as process:
        yield process


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Points of a millisecond."""
    monkeypatch.setattr(limits, "_MINIMUM_S", 0.001)


def random_bytes(size: int, seed: int = 0) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(seed).bytes(size), dtype=np.uint8)


@pytest.mark.parametrize("size", [1, 1000, SIZE, 8 * SIZE])
def test_bytes_written_come_back_right(loopback, size):
    count = 8 * SIZE // max(size, SIZE)
    values = slots(random_bytes(count * size), size)
    received = slots(aligned_buffer(count * size), size)
    connection = loopback.connect()
    connection.write(0, values)
    connection.read(0, received)
    connection.close()
    assert all(np.array_equal(value, buffer) for value, buffer in zip(values, received, strict=True))


def test_a_unix_socket_moves_the_same_bytes_and_leaves_no_file(tmp_path):
    values, received = slots(random_bytes(8 * SIZE), SIZE), slots(aligned_buffer(8 * SIZE), SIZE)
    with Loopback(8 * SIZE, tmp_path / "log", timeout_s=10, unix=True) as loopback:
        connection = loopback.connect()
        (place,) = {
            Path(one.laddr) for one in psutil.Process(loopback.pid).net_connections("unix") if one.laddr
        }
        assert place.is_socket()
        connection.write(0, values)
        connection.read(0, received)
        connection.close()
    assert not place.parent.exists()
    assert all(np.array_equal(value, buffer) for value, buffer in zip(values, received, strict=True))
    with pytest.raises(StoreError, match=f"cannot connect to {place}"):
        loopback.connect()


def test_connections_share_the_memory_and_keep_to_their_part_of_it(loopback):
    first, second = loopback.connect(), loopback.connect()
    one, two = random_bytes(2 * SIZE, 1), random_bytes(2 * SIZE, 2)
    first.write(0, slots(one, SIZE))
    second.write(2 * SIZE, slots(two, SIZE))
    whole = aligned_buffer(8 * SIZE)
    second.read(0, slots(whole, SIZE))
    assert np.array_equal(whole[: 2 * SIZE], one)
    assert np.array_equal(whole[2 * SIZE : 4 * SIZE], two)
    assert not whole[4 * SIZE :].any()
    first.close()
    second.close()


def test_many_connections_at_once(loopback):
    value = random_bytes(SIZE)
    buffers = [aligned_buffer(SIZE) for _ in range(8)]
    connections = [loopback.connect() for _ in buffers]

    def round_trips(worker: int) -> None:
        for _ in range(5):
            connections[worker].write(worker * SIZE, [value])
            connections[worker].read(worker * SIZE, [buffers[worker]])

    threads = [threading.Thread(target=round_trips, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(value, buffer) for buffer in buffers)
    for connection in connections:
        connection.close()


def test_no_process_is_left(tmp_path):
    with Loopback(SIZE, tmp_path / "log") as loopback:
        process = psutil.Process(loopback.pid)
        assert process.is_running()
    assert not psutil.pid_exists(process.pid)
    with pytest.raises(ZeroDivisionError), Loopback(SIZE, tmp_path / "log") as loopback:
        process = psutil.Process(loopback.pid)
        raise ZeroDivisionError
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_cannot_start_is_one_line(tmp_path):
    with pytest.raises(StoreError, match="the raw socket's process ended with status") as caught:
        with Loopback(1 << 60, tmp_path / "log"):
            pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operation", ["read", "write"])
def test_the_death_of_the_process_is_noticed_at_once(loopback, operation):
    values = slots(aligned_buffer(8 * SIZE), SIZE)
    connection = loopback.connect()

    def kill():
        os.kill(loopback.pid, signal.SIGKILL)

    timer = threading.Timer(0.1, kill)
    timer.start()
    with pytest.raises(StoreDied, match=r"the raw socket's process \(pid \d+\) died with signal 9") as caught:
        with loopback.explaining():
            while True:
                getattr(connection, operation)(0, values)
    assert "timed out" not in str(caught.value.__context__)
    timer.join()


def test_a_stopped_process_times_out(tmp_path):
    with Loopback(SIZE, tmp_path / "log", timeout_s=0.2) as loopback:
        connection = loopback.connect()
        os.kill(loopback.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreError, match=r"receive timed out after 0\.2 s"):
                connection.read(0, [aligned_buffer(SIZE)])
        finally:
            os.kill(loopback.pid, signal.SIGCONT)


def test_a_point_has_a_record_per_limit(loopback):
    records = [record.dump() for record in measure_limits(loopback, SIZE, connections=2, each=3)]
    assert [record["limit"] for record in records] == list(LIMITS)
    for record in records:
        assert (record["value_bytes"], record["connections"]) == (SIZE, 2)
        assert record["moved_bytes"] == 2 * 3 * SIZE
        assert record["passes"] >= 1
        assert record["gbps"] == pytest.approx(record["moved_bytes"] / record["elapsed_s"] / 1e9)
        assert record["cpu_s"] >= 0


def test_the_fastest_pass_counts(loopback, monkeypatch):
    monkeypatch.setattr(limits, "_MINIMUM_S", 50)
    times = accumulate(cycle([0, 30, 0, 10, 0, 30]))
    monkeypatch.setattr(limits, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    for record in measure_limits(loopback, SIZE, connections=2, each=2):
        assert (record.elapsed_s, record.passes, record.moved_bytes) == (10, 3, 4 * SIZE)


def test_the_death_of_the_process_during_a_point_is_said(loopback, monkeypatch):
    read = RawConnection.read

    def killed(connection, offset, buffers):
        os.kill(loopback.pid, signal.SIGKILL)
        read(connection, offset, buffers)

    monkeypatch.setattr(RawConnection, "read", killed)
    with pytest.raises(StoreDied, match="died with signal 9"):
        measure_limits(loopback, SIZE, connections=2, each=1)


def test_wrong_bytes_are_no_result(loopback, monkeypatch):
    monkeypatch.setattr(RawConnection, "read", lambda *_: None)
    with pytest.raises(UserError, match="loopback_get: bytes arrived wrong"):
        measure_limits(loopback, SIZE, connections=1, each=1)


def test_the_largest_point_has_a_value_for_every_connection():
    assert largest_point(SPEC) == 8 * SIZE
    assert largest_point(SPEC | {"value_bytes": [10], "connections": [3], "point_bytes": 100}) == 90


def test_the_device_is_one_pass_each_way_and_leaves_no_file(tmp_path):
    records = [record.dump() for record in measure_device(tmp_path, SIZE, connections=2, each=3)]
    assert [record["limit"] for record in records] == list(DEVICE)
    for record in records:
        assert (record["passes"], record["moved_bytes"]) == (1, 2 * 3 * SIZE)
        assert record["gbps"] == pytest.approx(record["moved_bytes"] / record["elapsed_s"] / 1e9)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_wrong_bytes_from_the_device_are_no_result(tmp_path, monkeypatch):
    monkeypatch.setattr(limits.FilesStore, "get_into", lambda *_: True)
    with pytest.raises(UserError, match="device_get: bytes arrived wrong"):
        measure_device(tmp_path, SIZE, connections=1, each=1)


def test_a_file_system_without_direct_io_has_no_device_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "supports_direct_io", lambda _: False)
    assert {record["limit"] for record in run(tmp_path)} == set(LIMITS)


def run(folder: Path) -> list[dict]:
    """Run the stage; the records of its file."""
    spec = SPEC | {"data_dir": str(folder / "data")}
    arguments = ["--spec", json.dumps(spec), "--out", folder / "out.jsonl", "--logs", folder]
    command(limits, *arguments)
    return read_records(folder / "out.jsonl")


def test_the_stage_writes_a_line_per_point_and_ends_its_process(tmp_path):
    records = run(tmp_path)
    assert [(r["repeat"], r["value_bytes"], r["connections"], r["limit"]) for r in records] == [
        (repeat, size, connections, limit)
        for repeat in (1, 2)
        for size in SPEC["value_bytes"]
        for connections in (1, 2)
        for limit in (*LIMITS, *DEVICE)
    ]
    assert {(record["record"], record["schema_version"]) for record in records} == {("limit", SCHEMA_VERSION)}
    assert records[0]["spec"] == SPEC | {"data_dir": str(tmp_path / "data")}
    assert records[0]["environment"]["cores"]
    running = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in running if "loopback" in " ".join(child.cmdline())]


def test_points_that_were_kept_are_not_measured_again(tmp_path, monkeypatch):
    calls = []

    def stopped(*arguments):
        calls.append(arguments[1:])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure_limits(*arguments)

    monkeypatch.setattr(limits, "measure_limits", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert not (tmp_path / "out.jsonl").exists()
    assert len(run(tmp_path)) == 40
    assert len(calls) == 3 + 6
