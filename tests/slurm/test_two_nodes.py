"""A scenario whose store has a node of its own: one job of two nodes on a real Slurm. `make test-slurm`."""

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import eventually
from tests.workflow_helpers import Checkout, changed
from workflow.hyperkv.records.record_file import read_records

from .cluster import NODE, OTHER, OTHER_ADDRESS, Cluster
from .runs import EDITS, neighbour, new_checkout, snakemake

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

OUT = "results/sweep/there/1.jsonl"
ON_TWO: dict[str, Any] = {
    "data_dir": "$TMPDIR/$SLURMD_NODENAME",
    "scenarios": {
        "there": {
            "tier": "ssd",
            "store": "rocksdb",
            "connector": "striped",
            "chunk_tokens": 64,
            "settings": {"rocksdb.write_buffer_size": 2, "rocksdb.write_options.disable_wal": "yes"},
            "place": {"node": "other"},
        }
    },
    "experiment": {"scenarios": ["none", "there"], "loads": [1], "repeats": 1},
    "figures": {"chunk_tokens": 64},
}
LONG = changed(ON_TWO, {"workload.conversations": 200})


@pytest.fixture
def checkout(request, tmp_path) -> Checkout:
    """A checkout with the configuration of the test's parameter, and a profile in which no node is pinned."""
    edits = {
        key: value
        for key, value in EDITS.items()
        if key not in ("slurm_extra: --exclusive", "#constraint: testbed")
    }
    return new_checkout(tmp_path, request.param, edits)


def disks(checkout: Checkout) -> list[Path]:
    """What lies on both nodes' own disks."""
    return list((checkout.folder.parent / "node-disk").glob("*/*"))


def servers(checkout: Checkout) -> list[psutil.Process]:
    return checkout.processes("stores.rocksdb.server")


@pytest.mark.parametrize("checkout", [ON_TWO], indirect=True)
def test_the_store_is_on_the_second_node_and_both_are_the_jobs_alone(cluster: Cluster, checkout: Checkout):
    before = {job.job_id for job in cluster.jobs()}
    with snakemake(cluster, checkout, OUT) as process:
        eventually(lambda: servers(checkout), 120)
        [server] = servers(checkout)
        words = server.cmdline()
        assert words[words.index("--bind") + 1] == OTHER_ADDRESS
        assert server.environ()["SLURMD_NODENAME"] == OTHER
        others = [neighbour(cluster, 1, node) for node in (NODE, OTHER)]
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert not cluster.queued()
    jobs = {job.job_id: job for job in cluster.jobs() if job.job_id not in before}
    [own] = [job for job in jobs.values() if job.comment == "rule_measure_scenario_wildcards_there_1"]
    assert (own.words["NumNodes"], own.words["NodeList"], own.words["NumTasks"]) == (
        "2",
        f"{NODE},{OTHER}",
        "2",
    )
    assert not [job for job in map(jobs.__getitem__, others) if job.beside(own)]
    [record] = read_records(checkout / OUT)
    assert (record["valid"], record["reasons"]) == (True, [])
    there = record["environment"]["store_node"]
    assert (record["environment"]["node"], there["node"]) == (NODE, OTHER)
    assert there["disk"]["kind"] is not None
    evidence = record["evidence"]
    assert evidence["served_bytes"] >= evidence["loaded_bytes"] > 0
    assert evidence["device_read_bytes"] > evidence["loaded_bytes"] / 2
    assert evidence["network_gbps"] > 0
    assert disks(checkout) == []
    assert not checkout.processes()


@pytest.mark.parametrize("checkout", [LONG], indirect=True)
def test_a_cancelled_job_leaves_nothing_on_either_node(cluster: Cluster, checkout: Checkout):
    with snakemake(cluster, checkout, OUT) as process:
        eventually(
            lambda: servers(checkout) and servers(checkout)[0].io_counters().write_bytes > 10_000_000, 120
        )
        assert {path.parent.name for path in disks(checkout)} == {NODE, OTHER}
        [job] = cluster.queued()
        cluster.call("scancel", job)
        eventually(lambda: not cluster.queued() and not servers(checkout), 60)
        eventually(lambda: not checkout.processes("stores.elsewhere.agent"), 30)
        assert disks(checkout) == []
        process.send_signal(signal.SIGINT)  # it looks at jobs now and then only
        process.communicate(timeout=60)
    assert not checkout.processes()
