"""Our clients beside others: what is printed of programs that are there and of those that are not."""

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.profile import bench
from workflow.hyperkv.profile.bench import Speed, benchmark, compare, lmcache_lines, ratio, requests_per_s
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.valkey import ValkeyStore
from workflow.plugin.lmcache_striped.deadline import Endpoint

CSV = """"test","rps","avg_latency_ms","min_latency_ms"
"SET","1250.50","0.4","0.1"
"GET","5000.00","0.1","0.1"
"""
ENDPOINT = Endpoint("127.0.0.1", 1)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a redis-benchmark on PATH that prints a text and ends with a status."""

    def make(output: str, status: int = 0) -> str:
        path = tmp_path / "redis-benchmark"
        (tmp_path / "output").write_text(output)
        path.write_text(f"#!/bin/sh\n/bin/cat {tmp_path}/output\nexit {status}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return str(path)

    return make


def test_both_clients_are_measured_and_what_is_not_there_is_said(tmp_path, monkeypatch):
    with ValkeyStore(StoreConfig(tmp_path / "valkey", 1 << 16, tmp_path / "log")) as store:
        monkeypatch.setenv("PATH", str(tmp_path))
        text = compare(store, 1 << 16, 2, 4, rounds=1)
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["connector resp"][-2:] == ["1.00", "1.00"]
    assert all(float(figure) > 0 for figure in lines["connector striped"][2:6])
    assert "redis-benchmark: not installed" in text
    assert "lmcache bench l2: not installed" in text


def test_a_benchmark_s_requests_become_gb_per_s(program):
    path = program(CSV)
    assert bench.benchmark_program() == path
    assert requests_per_s(CSV) == {"set": 1250.5, "get": 5000.0}
    assert benchmark(path, ENDPOINT, 10**6, 2, 8) == {"set": Speed(1.2505), "get": Speed(5.0)}


@pytest.mark.parametrize(("output", "status"), [("refused\n", 1), ("", 0)])
def test_a_benchmark_that_fails_is_one_line(program, output, status):
    with pytest.raises(UserError, match="redis-benchmark failed") as caught:
        benchmark(program(output, status), ENDPOINT, 10, 2, 8)
    assert "\n" not in str(caught.value)


def test_a_ratio_further_than_15_per_cent_is_marked():
    assert [ratio(value) for value in (1.0, 1.15, 1.16, 0.84)] == ["1.00", "1.15", "1.16 *", "0.84 *"]


def test_lmcache_s_own_lines_are_printed(tmp_path, monkeypatch):
    path = tmp_path / "lmcache"
    path.write_text('#!/bin/sh\necho "$1 $2"\necho "load 3.0 GB/s"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(bench, "find_spec", lambda name: object())
    assert lmcache_lines(ENDPOINT, 1 << 20, 2)[-2:] == ["bench l2", "load 3.0 GB/s"]
