"""CPU time in fine steps, and by thread."""

import os
import subprocess
import sys
import threading
import time

import pytest

from workflow.hyperkv.machine.meters import own_usage, thread_cpu_s, threads_since, usage


def test_a_process_s_cpu_is_told_finer_than_a_tick():
    assert own_usage().cpu_s == pytest.approx(time.process_time(), abs=0.005)
    before = own_usage()
    while time.process_time() < before.cpu_s + 0.003:
        pass
    cpu_s, faults = own_usage().minus(before)
    assert 0.003 <= cpu_s < 0.5
    assert faults >= 0


def test_what_is_gone_is_not_known():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(10)
    gone = usage(process.pid)
    assert (gone.cpu_s, gone.page_faults) == (None, None)
    assert own_usage().minus(gone) == (None, None)
    assert thread_cpu_s(process.pid) == {}


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
