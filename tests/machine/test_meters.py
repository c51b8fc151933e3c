"""CPU time by thread, and energy by a made-up powercap and a made-up NVML."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from workflow.hyperkv.machine import meters
from workflow.hyperkv.machine.meters import (
    Energy,
    Gpus,
    Rapl,
    energy_metered,
    thread_cpu_s,
    threads_since,
)


def test_threads_are_told_apart_by_name():
    before = thread_cpu_s(os.getpid())
    busy, done = threading.Event(), threading.Event()

    def work():
        deadline = time.thread_time() + 0.02
        while time.thread_time() < deadline:
            pass
        busy.set()
        done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert busy.wait(10)
    spent = threads_since(os.getpid(), before)
    done.set()
    thread.join()
    assert sum(spent.values()) >= 0.02
    assert all(value > 0 for value in spent.values())


def powercap(folder: Path, **zones: int) -> Path:
    """A made-up /sys/class/powercap: microjoules by zone, `package_0` as intel-rapl:0 and so on."""
    for number, (name, microjoules) in enumerate(zones.items()):
        zone = folder / f"intel-rapl:{number}"
        zone.mkdir(parents=True, exist_ok=True)
        told = {
            "name": name.replace("_", "-"),
            "energy_uj": microjoules,
            "max_energy_range_uj": 1_000_000_000,
        }
        for key, value in told.items():
            (zone / key).write_text(f"{value}\n")
    return folder


def test_packages_and_memory_are_added_and_what_is_part_of_them_is_not(tmp_path):
    rapl = Rapl(powercap(tmp_path, package_0=5_000_000, core=1, dram=7_000_000, psys=9))
    assert rapl.joules() == 0
    powercap(tmp_path, package_0=6_500_000, core=900_000, dram=7_250_000, psys=99_000_000)
    assert rapl.joules() == pytest.approx(1.75)


def test_a_counter_that_began_again_goes_on(tmp_path):
    rapl = Rapl(powercap(tmp_path, package_0=999_000_000))
    rapl.joules()
    powercap(tmp_path, package_0=1_000_000)
    assert rapl.joules() == pytest.approx(2.0)


def test_what_this_machine_or_user_is_not_told_is_null(tmp_path):
    assert Rapl(tmp_path).joules() is None
    assert Rapl(powercap(tmp_path / "others", psys=5)).joules() is None
    hidden = Rapl(powercap(tmp_path / "hidden", package_0=5, dram=6))
    (tmp_path / "hidden/intel-rapl:1/energy_uj").unlink()
    assert (hidden.joules(), hidden.joules()) == (None, None)


class Nvml:
    """A made-up pynvml: millijoules by GPU."""

    def __init__(self, *millijoules: int):
        self.told, self.ended = list(millijoules), 0

    def nvmlInit(self):
        if not self.told:
            raise RuntimeError("Driver Not Loaded")

    def nvmlShutdown(self):
        self.ended += 1

    def nvmlDeviceGetHandleByIndex(self, index):
        return range(len(self.told))[index]

    def nvmlDeviceGetHandleByUUID(self, name):
        return self.nvmlDeviceGetHandleByIndex(int(name.removeprefix("GPU-")))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.told[handle] < 0:
            raise RuntimeError("Not Supported")
        return self.told[handle]


@pytest.mark.parametrize(
    ("count", "visible", "joules"),
    [
        (1, None, 1.0),
        (2, None, 3.0),
        (1, "2,1", 4.0),
        (2, "GPU-1, GPU-2", 6.0),
        (4, None, None),
        (2, "1", None),
        (1, "GPU-9", None),
        (0, None, None),
    ],
)
def test_the_gpus_in_use_are_counted_and_no_others(monkeypatch, count, visible, joules):
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(1000, 2000, 4000))
    with Gpus(count, visible) as gpus:
        assert gpus.joules() == joules


@pytest.mark.parametrize("nvml", [Nvml(), Nvml(-1), None])
def test_without_nvml_gpus_are_null(monkeypatch, nvml):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with Gpus(1, None) as gpus:
        assert gpus.joules() is None


def test_energy_of_a_time_is_what_the_counters_rose_in_it(tmp_path, monkeypatch):
    now, nvml = [100.0], Nvml(5000)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(meters.time, "time", lambda: now[0])
    with energy_metered(1, None, powercap(tmp_path, package_0=0)) as meter:
        for _ in range(4):
            now[0] += 10
            nvml.told[0] += 3000
            powercap(tmp_path, package_0=int((now[0] - 100) * 1_000_000))
            meter.read()
    assert meter.between(110, 130) == Energy(pytest.approx(20.0), pytest.approx(6.0))
    assert meter.between(115, 120) == Energy(pytest.approx(5.0), pytest.approx(1.5))
    assert nvml.ended == 1


def test_a_counter_that_is_lost_on_the_way_is_null(tmp_path):
    with energy_metered(0, None, powercap(tmp_path, package_0=1)) as meter:
        (tmp_path / "intel-rapl:0/energy_uj").write_text("gone")
        meter.read()
    assert meter.between(0, 1e12) == Energy(None, None)
