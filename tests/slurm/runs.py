"""What the tests of Slurm share: a checkout with an edited profile, snakemake on it, and others' jobs."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.workflow_helpers import Checkout

from .cluster import NODE, Cluster, Job

PROFILE = "workflow/profiles/slurm"
CONFIGS = ["config/scenarios.yaml", "config/config.yaml", "config/smoke.yaml", "tiny.yaml"]
# What a user edits, here for a small node without accounting.
EDITS = {
    "#slurm-status-command: squeue": "slurm-status-command: squeue",
    "status-checks: 20": "status-checks: 2",
    "mem_mb: 64000": "mem_mb: 2000",
    "testbed: 1": "testbed: 20",
    "#constraint: testbed": "constraint: testbed",
    "slurm_extra: --exclusive": f"slurm_extra: --exclusive --nodelist={NODE}",
    "profile_limits: *testbed": "profile_limits: {<<: *testbed, gpu: 1}",
}


def new_checkout(folder: Path, config: dict[str, Any], edits: dict[str, str] = EDITS) -> Checkout:
    """A checkout with an edited profile; its nodes' own disk lies beside it."""
    checkout = Checkout.new(folder / "checkout", config)
    profile = checkout / PROFILE / "profile.yaml"
    text = profile.read_text()
    for shipped, edited in edits.items():
        assert shipped in text, shipped
        text = text.replace(shipped, edited, 1)
    profile.write_text(text)
    (folder / "node-disk").mkdir()
    return checkout


@contextlib.contextmanager
def snakemake(cluster: Cluster, checkout: Checkout, *targets: str) -> Iterator[Any]:
    """snakemake as a user starts it on a login node: the process."""
    argv = ["-m", "snakemake", *targets, "--workflow-profile", PROFILE, "--configfile", *CONFIGS]
    own = {"TMPDIR": str(checkout.folder.parent / "node-disk"), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (cluster.environment | own).items():
            patch.setenv(name, value)
        with checkout.start(*argv) as process:
            yield process


@dataclass(frozen=True)
class Run:
    """A run that ended: exit status, output, and its jobs."""

    status: int
    output: str
    jobs: list[Job]


def run(cluster: Cluster, checkout: Checkout, *targets: str) -> Run:
    """snakemake to its end; no job is left in the queue."""
    before = {job.job_id for job in cluster.jobs()}
    with snakemake(cluster, checkout, *targets) as process:
        output, _ = process.communicate(timeout=600)
    assert not cluster.queued(), output
    return Run(process.returncode, output, [job for job in cluster.jobs() if job.job_id not in before])


def is_running(cluster: Cluster) -> bool:
    return any(job.comment and job.state == "RUNNING" for job in cluster.jobs())


def neighbour(cluster: Cluster, seconds: int, node: str = NODE) -> int:
    """Submit somebody else's job, one that shares its node with anybody; its id."""
    words = [
        "sbatch",
        "--parsable",
        "-n1",
        f"-w{node}",
        "--mem=100",
        "-t1",
        "-o/dev/null",
        f"--wrap=sleep {seconds}",
    ]
    return int(cluster.call(*words))
