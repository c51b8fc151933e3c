"""Signals to a stage: what ends it, and what comes too late to make a failure of it."""

import signal
import subprocess
import sys

import pytest

from workflow.hyperkv.base.cli import run_stage

STAGE = """
import atexit, os, signal, sys
from workflow.hyperkv.base.cli import run_stage

def main():
    atexit.register(os.kill, os.getpid(), signal.{name})
    {end}

sys.exit(run_stage("sweep", main))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_a_signal_after_the_results_are_written_is_no_failure(name):
    command = [sys.executable, "-c", STAGE.format(name=name, end="")]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def test_a_stage_that_failed_is_ended_by_it():
    command = [sys.executable, "-c", STAGE.format(name="SIGTERM", end="raise KeyboardInterrupt")]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0


def test_a_stage_inside_another_program_leaves_its_signals_as_they_were():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert run_stage("sweep", lambda: None) == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
