"""What our own clients do when the system gives no thread or no descriptor; a child process has the limit."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHILD = """
import os, resource, socket, sys
from workflow.hyperkv.connectors.resp import RespConnector
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings
from workflow.plugin.lmcache_striped.l2 import StripedL2
from workflow.plugin.lmcache_striped.save_queue import SaveQueue
from workflow.hyperkv.base import direct_http
from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.stores.redis_client import bounded
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.hyperkv.base.threads import each
from workflow.plugin.lmcache_striped.threads import started
import numpy as np

here = Endpoint("127.0.0.1", int(sys.argv[1]))

def no_more_threads():
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + (4 << 20)  # a thread takes 8 MiB
    resource.setrlimit(resource.RLIMIT_AS, (size, size))

def said(action):
    try:
        return f"done: {action()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""


def child(body: str, port: int = 1) -> list[str]:
    """The lines that a child prints, which must end by itself."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD + textwrap.dedent(body), str(port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "action",
    [
        "started(8)",
        "RespConnector(here, 8, 1.0)",
        "StripedConnector([here], 8, 1.0, connect=False)",
        "StripedCache(CacheSettings((here,)))",
        "SaveQueue(lambda *_: None, 1)",
    ],
)
def test_threads_that_cannot_start_are_one_line_at_the_start(action):
    """And nothing that waits in a queue, or holds the process."""
    (line,) = child(f"no_more_threads()\nprint(said(lambda: {action}))")
    assert line.startswith("StoreError: cannot start")
    assert "ulimit" in line


def test_threads_of_a_connector_are_there_before_they_are_needed():
    """So that a call in the middle cannot leave a part of itself behind, which writes into the caller's buffers later."""
    lines = child(
        """
        pool = started(4)
        cache = StripedCache(CacheSettings((here,), timeout_s=0.5, retry_s=0.001))
        l2 = StripedL2(cache)
        no_more_threads()
        print(said(lambda: list(pool.map(str, range(4)))))
        print(said(lambda: cache.load([b"k" * 32], [np.zeros(100, np.uint8)])))
        l2.submit_batch_exists(["k" * 32])
        l2._lookups.shutdown()
        print(said(lambda: l2.drain_completions()))
        l2.close()
        """
    )
    assert lines == ["done: ['0', '1', '2', '3']", "done: [False]", "done: [(0, True, '', [False])]"]


def test_what_every_part_needs_is_done_without_threads():
    """Stores that share the work are all stopped."""
    lines = child(
        """
        done = []
        no_more_threads()
        each([1, 2, 3], done.append)
        print(done)
        print(said(lambda: each([1, 0, 2], lambda number: done.append(1 / number))))
        print(done)
        """
    )
    assert lines == [
        "[1, 2, 3]",
        "ZeroDivisionError: division by zero",
        "[1, 2, 3, 1.0, 0.5]",
    ]


def test_a_descriptor_that_is_not_to_be_had_is_one_line_and_passes():
    lines = child(
        """
        listener = socket.create_server(("127.0.0.1", 0))
        there = Endpoint("127.0.0.1", listener.getsockname()[1])
        connector = StripedConnector([there], 1, 0.3, connect=False)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = os.dup(0)
        os.close(taken)
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken, before[1]))
        print(said(lambda: connector.count_present([b"k" * 32])))
        print(said(lambda: RespConnector(there, 2, 0.3)))
        print(said(lambda: bounded("127.0.0.1", there.port, 0.3).ping()))
        print(said(lambda: direct_http.request("GET", f"http://127.0.0.1:{there.port}/", timeout=0.3)))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        print(said(lambda: connector.count_present([b"k" * 32])))
        """
    )
    assert all("Too many open files" in line for line in lines[:4]), lines
    assert lines[0].startswith("StoreError: cannot connect to 127.0.0.1")
    assert lines[1].startswith("StoreError: cannot connect to 127.0.0.1")
    assert lines[3].startswith("ConnectionError")
    assert "timed out after 0.3 s" in lines[4]
