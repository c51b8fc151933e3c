"""The kernel's counters against work whose size is known."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workflow.hyperkv.machine import counters as module
from workflow.hyperkv.machine.counters import (
    ProcessCounters,
    block_device_bytes,
    block_device_of,
    process_counters,
    supports_direct_io,
)
from workflow.hyperkv.stores.base import Counters

MIB = 1 << 20
NOTHING = ProcessCounters(None, None, None, None, None)


def test_cpu_and_memory_of_this_process():
    before = process_counters(os.getpid())
    while time.process_time() < before.cpu_s + 0.1:
        pass
    held = bytearray(b"x" * (32 * MIB))
    after = process_counters(os.getpid())
    assert after.cpu_s == pytest.approx(time.process_time(), abs=0.1)
    assert after.cpu_s > before.cpu_s
    assert after.rss_bytes >= len(held)
    assert after.page_faults - before.page_faults >= 32 * MIB // (2 * MIB)


def test_cpu_is_told_finer_than_a_tick_and_what_is_gone_is_not_known():
    before = process_counters(os.getpid())
    assert before.cpu_s == pytest.approx(time.process_time(), abs=0.005)
    while time.process_time() < before.cpu_s + 0.003:
        pass
    spent = process_counters(os.getpid()).minus(before)
    assert 0.003 <= spent.cpu_s < 0.5
    assert spent.page_faults >= 0
    assert spent.rss_bytes > MIB
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(10)
    assert process_counters(process.pid) == process_counters(None) == NOTHING
    assert process_counters(os.getpid()).minus(NOTHING).cpu_s is None


def test_device_bytes_of_this_process(tmp_path):
    before = process_counters(os.getpid())
    device = block_device_bytes(tmp_path)
    if before.device_write_bytes is None or device is None:
        pytest.skip("no /proc/PID/io, or no block device under tmp_path")
    with (tmp_path / "f").open("wb") as file:
        file.write(os.urandom(2 * MIB))
        file.flush()
        os.fsync(file.fileno())
    assert process_counters(os.getpid()).device_write_bytes - before.device_write_bytes >= 2 * MIB
    assert block_device_bytes(tmp_path)[1] - device[1] >= 2 * MIB


@pytest.mark.parametrize("name", ["a) R b", "(((", "x y"])
def test_a_command_name_of_any_kind(name, tmp_path):
    program = tmp_path / name
    program.symlink_to(Path(sys.executable).resolve())
    code = "print('up', flush=True); input()"
    with subprocess.Popen(
        [str(program), "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "up\n"
        found = process_counters(process.pid)
        process.communicate("\n", timeout=10)
    assert 0 < found.cpu_s < 10
    assert MIB < found.rss_bytes < 1 << 30
    assert found.page_faults > 100


def test_a_process_that_is_gone_is_unknown():
    process = subprocess.Popen(["true"])
    process.wait(10)
    assert process_counters(process.pid) == NOTHING


def test_unknown_is_none_not_zero():
    earlier = Counters(5, None, 1, 0, ProcessCounters(10, 0, 1.5, 100, None))
    later = Counters(9, 7, 1, None, ProcessCounters(30, 0, 2.0, 50, 3))
    assert later.minus(earlier) == {
        "served_bytes": 4,
        "taken_bytes": None,
        "hits": 0,
        "misses": None,
        "device_read_bytes": 20,
        "device_write_bytes": 0,
        "cpu_s": 0.5,
        "rss_bytes": 50,
        "page_faults": None,
    }


def test_tmpfs_is_no_block_device():
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm")
    assert block_device_of(Path("/dev/shm")) is None
    assert block_device_bytes(Path("/dev/shm")) is None


def test_direct_io_probe_leaves_nothing(tmp_path, monkeypatch):
    real = os.open
    asked = []

    def refuse(path, flags, *rest):
        asked.append(flags)
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(path, flags, *rest)

    supports_direct_io(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module.os, "open", refuse)
    assert supports_direct_io(tmp_path) is False
    assert asked[0] & os.O_DIRECT
    assert list(tmp_path.iterdir()) == []
