"""The bench of a cluster: what its links let through, and what its tables say."""

import socket
import threading
import time

import pytest

from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.profile.clusters import bench_cluster
from workflow.hyperkv.profile.clusters.bench_cluster import Missed, Speed
from workflow.hyperkv.profile.clusters.links import Pipe, links

SENT = bytes(range(256)) * 8192


def test_a_link_gives_what_came_and_no_faster_than_stated(tmp_path):
    here, listener = free_port(), socket.create_server(("127.0.0.1", 0))
    received = bytearray()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            while len(received) < len(SENT):
                received.extend(peer.recv(1 << 16))
            peer.sendall(SENT)

    thread = threading.Thread(target=serve)
    thread.start()
    with links({here: listener.getsockname()[1]}, 0.02, None, tmp_path / "log"):
        with socket.create_connection(("127.0.0.1", here), timeout=60) as client:
            begun = time.perf_counter()
            client.sendall(SENT)
            back = bytearray()
            while piece := client.recv(1 << 16):
                back.extend(piece)
            took_s = time.perf_counter() - begun
    thread.join(60)
    listener.close()
    assert received == back == SENT
    assert took_s >= 2 * len(SENT) / 0.02e9


def test_what_was_there_while_a_thread_was_late_has_passed():
    pipe = Pipe(1.0)
    pipe.take(1000, idle=True)
    free_s = pipe._free_s
    pipe.take(1000, idle=False)
    assert pipe._free_s == pytest.approx(free_s + 1e-6)


@pytest.fixture
def small(monkeypatch):
    for name, value in {"_CHUNK_BYTES": 1 << 20, "_LOADS": 1, "_ROUND_S": 0.0}.items():
        monkeypatch.setattr(bench_cluster, name, value)


def test_nodes_behind_links_are_loaded_from_through_them(tmp_path, small):
    found = bench_cluster.speed(tmp_path, 2, 0.05, None, 2, 1)
    assert 0 < found.load_gbps <= 0.11  # what a thread is late by, the link may give at once
    assert 0 < found.save_gbps <= 0.11


@pytest.mark.parametrize("replica", [True, False])
def test_a_killed_master_is_served_again(tmp_path, replica):
    found = bench_cluster.missed(tmp_path / "there", "valkey", replica, None)
    assert found.loads > 0
    assert found.served_s >= 0


def test_the_tables():
    speeds = {1: Speed(0.02, 0.019, 0.5), 8: Speed(0.1, 0.09, 0.5)}
    told = bench_cluster.table(speeds, 0.02, 0.11)
    assert "0.11 GB/s of the client" in told
    assert [line.split()[:4] for line in told.splitlines()[3:5]] == [
        ["1", "0.02", "0.02", "1.00"],
        ["8", "0.11", "0.1", "0.91"],
    ]
    told = bench_cluster.missed_table({"valkey, itself back": [Missed(2, 0.1, 5, 1), Missed(3, 0.5, 5, 0)]})
    assert told.splitlines()[3].split()[-6:] == ["back", "2.50", "0.30", "0.50", "10", "1"]
