"""The workflow on a real Slurm: a failing job, what it leaves, mending it, and a cancelled run. `make test-slurm`.

The node has four CPUs and memory for all of its jobs at once, so that only what they ask for keeps them apart.
"""

import csv
import itertools
import json
import os
import signal
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from tests.helpers import eventually
from tests.workflow_helpers import Checkout, changed
from workflow.hyperkv.records.record_file import read_records

from .cluster import CPUS, NODE, Cluster, Job
from .runs import CONFIGS, PROFILE, Run, is_running, neighbour, new_checkout, run, snakemake

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

# On top of smoke.yaml, every stage once. The stores' files are on the node's own disk.
STORY: dict[str, Any] = {
    "data_dir": "$TMPDIR/hyperkv",
    "experiment": {"scenarios": ["none", "files", "valkey_resp", "rocksdb_redis"], "repeats": 1},
    "profile": {"scenarios": ["valkey_resp"], "value_bytes": ["1 MiB"], "repeats": 1},
    "layers": {"scenarios": ["valkey_resp"], "repeats": 1},
    "figures": {"chunk_tokens": 64},
}
ELSEWHERE = {"scenarios.rocksdb_redis.data_dir": "/mnt/not-on-this-node/hyperkv"}
FAILING = "rule_measure_scenario_wildcards_rocksdb_redis_1"
MEASURING = [
    FAILING,
    *(f"rule_measure_scenario_wildcards_{name}_1" for name in ("none", "files", "valkey_resp")),
    "rule_profile_layers_wildcards_valkey_resp",
    "rule_profile_limits",
    "rule_profile_store_wildcards_valkey_resp",
]
LONG = changed(
    STORY,
    {
        "workload.conversations": 30,
        "experiment.scenarios": ["rocksdb_resp"],
        "experiment.loads": [1, 4],
        "evidence": {"device_share_min": 0},
    },
)


@dataclass(frozen=True)
class Story:
    """Two neighbours before it, a run with a mistake and three more neighbours, the run with the mistake mended, and once
    more."""

    checkout: Checkout
    first_neighbours: list[Job]
    failed: Run
    kept: dict[str, int]
    mended: Run
    again: Run


def kept_files(checkout: Checkout) -> dict[str, int]:
    """What was measured, each file with its time of writing (ns)."""
    found = [
        *checkout.folder.glob("results/sweep/*/*.jsonl"),
        *checkout.folder.glob("results/profile/**/*.jsonl"),
    ]
    return {str(path.relative_to(checkout.folder)): path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def story(cluster, tmp_path_factory) -> Story:
    checkout = new_checkout(tmp_path_factory.mktemp("story"), changed(STORY, ELSEWHERE))
    for _ in range(2):
        neighbour(cluster, 4)
    eventually(lambda: not cluster.queued())
    first = cluster.jobs()
    with snakemake(cluster, checkout) as process:
        eventually(lambda: is_running(cluster), 120)
        for _ in range(3):
            neighbour(cluster, 2)
        output, _ = process.communicate(timeout=600)
    assert not cluster.queued(), output
    failed = Run(process.returncode, output, cluster.jobs()[len(first) :])
    kept = kept_files(checkout)
    checkout.configure(STORY)
    return Story(checkout, first, failed, kept, run(cluster, checkout), run(cluster, checkout))


def records(story: Story, pattern: str) -> list[dict[str, Any]]:
    paths = sorted(story.checkout.folder.glob(pattern))
    return [record for path in paths for record in read_records(path)]


def test_a_failing_job_is_reported_and_the_others_are_kept(story):
    assert story.failed.status == 1
    assert (
        "data_dir: /mnt/not-on-this-node/hyperkv: there is no folder /mnt/not-on-this-node on "
        f"{NODE}; mount or make it there, or choose another data_dir"
    ) in story.failed.output
    assert "what was measured is kept: run the same command again" in story.failed.output
    states = {job.comment: job.state for job in story.failed.jobs if job.comment}
    assert states == {name: "FAILED" if name == FAILING else "COMPLETED" for name in MEASURING}
    assert len(story.kept) == len(MEASURING) - 1
    assert (story.checkout / "results/figures/layers.svg").exists()


def test_every_measurement_went_through_sbatch(story):
    submitted = sorted(job.comment for job in story.failed.jobs if job.comment)
    assert submitted == sorted(MEASURING)
    times = {job.comment: (job.start, job.end) for job in [*story.failed.jobs, *story.mended.jobs]}
    for record in records(story, "results/sweep/*/*.jsonl"):
        start, end = times[f"rule_measure_scenario_wildcards_{record['scenario']}_{record['repeat']}"]
        assert start <= record["job_started_at"] <= record["job_started_at"] + record["job_s"] <= end + 1


def test_measuring_jobs_share_the_node_with_nobody(story):
    one, other = story.first_neighbours
    assert one.beside(other), "the node has no room for two jobs, so this proves nothing"
    jobs = story.failed.jobs
    measuring = [job for job in jobs if job.comment]
    assert len(jobs) == len(measuring) + 3
    assert not [
        pair for pair in itertools.product(measuring, jobs) if pair[0] != pair[1] and pair[0].beside(pair[1])
    ]
    assert {job.words["NumCPUs"] for job in measuring} == {str(CPUS)}
    spans = sorted(
        {
            (r["job_started_at"], r["job_started_at"] + r["job_s"])
            for r in records(story, "results/sweep/*/*.jsonl")
        }
    )
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


def test_jobs_ask_for_what_the_profile_says(story):
    jobs = {job.comment: job.words for job in story.failed.jobs if job.comment}
    assert {words["NumNodes"] for words in jobs.values()} == {"1"}
    assert {words["Features"] for words in jobs.values()} == {"testbed"}
    assert {words["ReqNodeList"] for words in jobs.values()} == {NODE}
    assert {words["MinMemoryNode"] for words in jobs.values()} == {"2000M"}
    limits = {name: words["TimeLimit"] for name, words in jobs.items()}
    assert limits.pop("rule_profile_layers_wildcards_valkey_resp") == "12:00:00"
    assert set(limits.values()) == {"04:00:00"}
    assert [name for name, words in jobs.items() if "gpu" in words.get("TresPerJob", "")] == [
        "rule_profile_limits"
    ]


def test_a_job_measures_with_all_cores_on_the_nodes_own_disk(story):
    measured = records(story, "results/sweep/*/*.jsonl") + records(story, "results/profile/**/*.jsonl")
    cores = str(len(os.sched_getaffinity(0)))
    assert {record["environment"]["node"] for record in measured} == {NODE}
    assert {record["environment"]["thread_variables"]["OMP_NUM_THREADS"] for record in measured} == {cores}
    assert {record["spec"]["data_dir"] for record in measured} == {"$TMPDIR/hyperkv"}
    assert list((story.checkout.folder.parent / "node-disk/hyperkv").iterdir()) == []
    assert not (story.checkout / "results/data").exists()


def test_the_mended_run_measures_only_what_failed(story):
    assert story.mended.status == 0, story.mended.output
    assert [job.comment for job in story.mended.jobs] == [FAILING, "rule_check_recommended"]
    after = kept_files(story.checkout)
    assert {name: after[name] for name in story.kept} == story.kept
    assert not list(story.checkout.folder.glob("results/**/*.partial"))
    assert not list(story.checkout.folder.glob("results/**/*.lock"))


def test_tables_say_which_node_measured(story):
    for table in ("cells", "scenarios", "stores", "limits", "layers"):
        with (story.checkout / f"results/tables/{table}.csv").open() as file:
            assert {row["node"] for row in csv.DictReader(file)} == {NODE}, table
    summary = (story.checkout / "results/tables/summary.txt").read_text()
    assert f"Measured on {NODE}: " in summary
    assert "Not alike" not in summary


def test_a_second_run_submits_nothing(story):
    assert story.again.status == 0
    assert "Nothing to be done" in story.again.output
    assert story.again.jobs == []


def servers(checkout: Checkout) -> list[psutil.Process]:
    return checkout.processes("stores.rocksdb.server")


def test_ctrl_c_leaves_no_job_and_no_process_and_the_next_run_resumes(cluster, tmp_path):
    checkout = new_checkout(tmp_path, LONG)
    partial = checkout / "results/sweep/rocksdb_resp/1.jsonl.partial"
    with snakemake(cluster, checkout, "sweep") as process:
        eventually(lambda: partial.exists() and servers(checkout), 240)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode != 0
        eventually(lambda: not cluster.queued())
        eventually(lambda: not checkout.processes())
    assert [job.state for job in cluster.jobs()][-1] == "CANCELLED", output
    assert list((tmp_path / "node-disk/hyperkv").iterdir()) == []
    first = json.loads(partial.read_text().splitlines()[0])["record"]
    resumed = run(cluster, checkout, "sweep")
    assert resumed.status == 0, resumed.output
    records = read_records(checkout / "results/sweep/rocksdb_resp/1.jsonl")
    assert [record["load"] for record in records] == [1, 4]
    assert records[0]["started_at"] == first["started_at"]


def test_when_snakemake_is_killed_its_job_goes_on_and_the_next_run_waits_for_its_end(cluster, tmp_path):
    checkout = new_checkout(tmp_path, LONG)
    partial = checkout / "results/sweep/rocksdb_resp/1.jsonl.partial"
    with snakemake(cluster, checkout, "sweep") as first:
        eventually(lambda: partial.exists() and servers(checkout), 240)
        servers(checkout)[0].suspend()  # so that it is still measuring
        first.kill()
        first.communicate(timeout=30)
        [job] = cluster.queued()
        refused = run_beside(cluster, checkout)
        told = "a job of an earlier run still measures results/sweep/rocksdb_resp/1.jsonl; wait for it, or end it "
        assert told + "(on a cluster: squeue, scancel), then run the same command again" in refused
        assert cluster.queued() == [job]
        kept = json.loads(partial.read_text().splitlines()[0])["record"]
        cluster.call("scancel", job)
        eventually(lambda: not cluster.queued() and not checkout.processes())
    resumed = run(cluster, checkout, "sweep")
    assert resumed.status == 0, resumed.output
    records = read_records(checkout / "results/sweep/rocksdb_resp/1.jsonl")
    assert [record["load"] for record in records] == [1, 4]
    assert records[0]["started_at"] == kept["started_at"]


def run_beside(cluster: Cluster, checkout: Checkout) -> str:
    """What snakemake says that is to stop at once, beside a job that is to go on."""
    argv = ["-m", "snakemake", "sweep", "--workflow-profile", PROFILE, "--configfile", *CONFIGS]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        with checkout.start(*argv, end_all=False) as process:
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    return output


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"#slurm_partition: gpu": "slurm_partition: gpu"}, "invalid partition specified: gpu"),
        ({"mem_mb: 64000": "mem_mb: 640000"}, "Memory specification can not be satisfied"),
    ],
    ids=["no such partition", "more memory than any node has"],
)
def test_what_slurm_refuses_is_said_and_nothing_is_left(cluster, tmp_path, edits, message):
    checkout = new_checkout(
        tmp_path, STORY, edits | {"#slurm-status-command: squeue": "slurm-status-command: squeue"}
    )
    refused = run(cluster, checkout, "results/sweep/none/1.jsonl")
    assert refused.status == 1
    assert message in refused.output
    assert all((job.state, job.start) == ("FAILED", job.end) for job in refused.jobs)
    assert not list(checkout.folder.glob("results/sweep/none/*"))
