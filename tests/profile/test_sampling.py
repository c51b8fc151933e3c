"""perf on a process that is busy, and what is said where there is no perf."""

import os
import subprocess
import sys

import pytest

from tests.helpers import eventually
from workflow.hyperkv.machine.counters import process_counters
from workflow.hyperkv.profile.sampling import Sampler, why_not

BUSY = "import sys\nprint(1, flush=True)\nwhile True: bytes(1 << 20)"


@pytest.fixture
def uncached():
    """The probe is made anew, before and after."""
    why_not.cache_clear()
    yield
    why_not.cache_clear()


@pytest.fixture
def busy():
    """A process that allocates and clears memory."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_without_perf_the_reason_is_said_and_nothing_runs(tmp_path, monkeypatch, uncached):
    monkeypatch.setenv("PATH", str(tmp_path))
    sampler = Sampler(os.getpid())
    sampler.start()
    sampler.stop()
    sampler.close()
    assert (sampler.shares, sampler.samples, sampler.reason) == (None, 0, "perf is not installed")


def test_a_perf_that_may_not_is_one_line(tmp_path, monkeypatch, uncached):
    program = tmp_path / "perf"
    program.write_text("#!/bin/sh\necho 'Error:' >&2\necho 'Access is limited' >&2\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert why_not() == "perf may not sample: Error:"


def test_a_busy_process_is_sampled_and_nothing_is_left(busy, tmp_path, monkeypatch):
    if why_not() is not None:
        pytest.skip(why_not())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sampler = Sampler(busy.pid)
    sampler.start()
    assert list(tmp_path.iterdir())
    start = process_counters(busy.pid).cpu_s
    assert eventually(lambda: process_counters(busy.pid).cpu_s > start + 0.05)
    sampler.stop()
    assert sampler.reason is None
    assert sampler.samples > 20
    assert sum(sampler.shares.values()) == pytest.approx(1)
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_gone_is_a_reason_and_no_error():
    if why_not() is not None:
        pytest.skip(why_not())
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(10)
    sampler = Sampler(process.pid)
    sampler.start()
    sampler.stop()
    assert sampler.shares is None
    assert sampler.reason
