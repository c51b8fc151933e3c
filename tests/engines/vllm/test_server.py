"""An engine's servers: which start one after the other, and which side by side."""

import os
import sys
from pathlib import Path

import pytest

from workflow.hyperkv.engines.vllm.server import (
    EngineError,
    Engines,
    EngineServers,
    ServerCommand,
    gpu_memory_used,
    wait_for_gpu_memory,
)
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.records.effective import Effective

# A server that answers as soon as the file `wanted` is there, and makes the file `made` when it begins.
PROGRAM = """
import http.server, pathlib, sys, time
port, wanted, made = int(sys.argv[1]), *map(pathlib.Path, sys.argv[2:])
made.touch()
while not wanted.exists():
    time.sleep(0.01)
http.server.HTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def commands(folder: Path, awaited: bool, ready_s: float) -> list[ServerCommand]:
    """Two servers, each ready when the other has begun."""
    found = []
    for own, other in (("first", "second"), ("second", "first")):
        port = free_port()
        argv = [sys.executable, "-c", PROGRAM, str(port), str(folder / other), str(folder / own)]
        log = folder / f"{own}.log"
        found.append(ServerCommand(own, argv, port, "/", log, ready_s, awaited or own == "second"))
    return found


def test_a_server_that_is_not_awaited_starts_beside_the_next_and_both_are_ready_then(tmp_path):
    with EngineServers(commands(tmp_path, False, 60), {}) as servers:
        assert servers.url.startswith("http://127.0.0.1:")
        servers.check_alive()


def test_the_next_starts_when_one_that_is_awaited_is_ready(tmp_path):
    with (
        pytest.raises(EngineError, match=r"first.*first\.log"),
        EngineServers(commands(tmp_path, True, 1), {}),
    ):
        pass
    assert not (tmp_path / "second").exists()


def test_the_first_that_does_not_start_is_told(tmp_path):
    first, second = commands(tmp_path, False, 60)
    broken = ServerCommand(
        "first", [sys.executable, "-c", "raise SystemExit(3)"], first.port, "/", first.log, 60, False
    )
    with pytest.raises(EngineError, match=r"first\.log"), EngineServers([broken, second], {}):
        pass


class Told:
    """Servers of one engine that say what they are given."""

    def __init__(self, gpus=1, **counted):
        self.effective, self.counted, self.emptied = Effective(gpus=gpus), counted, 0

    def told(self, _):
        return self.effective

    def counters(self):
        return self.counted

    def reset_hbm(self, _):
        self.emptied += 1


def test_what_several_engines_count_is_summed_and_what_one_does_not_have_yet_is_none_of_it():
    each = [Told(hit=3, computed=1, lost=None), Told(hit=None, computed=2, lost=None)]
    both = Engines(each)
    assert both.counters() == {"hit": 3, "computed": 3, "lost": None}
    both.reset_hbm()
    assert [own.emptied for own in each] == [1, 1]


def test_engines_that_are_not_alike_are_refused():
    assert Engines([Told(), Told()]).told(1) == Effective(gpus=1)
    with pytest.raises(EngineError, match="the engines are not alike"):
        Engines([Told(), Told(gpus=2)]).told(1)


def test_memory_in_use_is_that_of_the_engines_own_gpus(tmp_path, monkeypatch):
    """Another program's GPU is neither waited for nor counted."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    told = tmp_path / "nvidia-smi"
    told.write_text(
        '#!/bin/sh\ncase "$*" in *--id=1*) echo 7;; *--id=GPU-x*) echo "No devices were found" >&2; exit 6;; *) echo 900; echo 7;; esac\n'
    )
    told.chmod(0o755)
    assert [gpu_memory_used(visible) for visible in ("1", None, "GPU-x")] == [7 << 20, 907 << 20, None]
    with EngineServers(commands(tmp_path, False, 60), {"CUDA_VISIBLE_DEVICES": "1"}):
        told.write_text(told.read_text().replace("echo 900;", "echo 9000;"))
    wait_for_gpu_memory(907 << 20, "1", 0)
    with pytest.raises(EngineError, match="8100 MiB"):
        wait_for_gpu_memory(907 << 20, None, 0)
