"""CPU time by thread."""

import os
import threading
import time

from workflow.hyperkv.machine.meters import thread_cpu_s, threads_since


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
