"""The profile for other schedulers: what it submits, whether it notices failure, and what Ctrl-C leaves."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers import eventually, write_as_a_stage
from tests.workflow_helpers import CONFIGS, REPOSITORY, TINY, Checkout, changed
from workflow.hyperkv.records.record_file import read_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROFILE = "workflow/profiles/generic"


@pytest.fixture
def pbs(stand_in, tmp_path, monkeypatch) -> Path:
    """Stand-ins for qsub, qstat and qdel on PATH; the folder of their state."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    return stand_in("fake_pbs.py", "FAKE_PBS", "qsub", "qstat", "qdel")


def submitted(state: Path) -> dict[str, list[str]]:
    """qsub's arguments by the jobs' ids."""
    return {path.name.removesuffix(".words"): path.read_text().splitlines() for path in state.glob("*.words")}


def test_measuring_jobs_are_submitted_for_whole_nodes_and_a_failing_one_is_reported(pbs, tmp_path):
    wrong = {"data_dir": "$TMPDIR/hyperkv", "scenarios.rocksdb_resp.data_dir": "/mnt/not-here/hyperkv"}
    checkout = Checkout.new(tmp_path / "checkout", changed(TINY, wrong))
    (checkout / PROFILE / "profile.yaml").write_text(
        (checkout / PROFILE / "profile.yaml").read_text().replace("testbed: 1", "testbed: 3", 1)
    )
    targets = [f"results/sweep/{name}/1.jsonl" for name in ("none", "rocksdb_resp")]
    earlier = checkout / targets[1]
    earlier.parent.mkdir(parents=True)
    write_as_a_stage(earlier, [{"load": 1}])
    before = earlier.read_bytes()
    status, output = checkout.forked(*checkout.profile_argv("generic", *targets)[2:])
    assert status == 1
    assert earlier.read_bytes() == before
    assert "there is no folder /mnt/not-here on" in output
    assert [path.name for path in checkout.folder.glob("results/sweep/*/*.jsonl")] == 2 * ["1.jsonl"]
    records = read_records(checkout / targets[0])
    assert [record["load"] for record in records] == TINY["experiment"]["loads"]
    jobs = submitted(pbs)
    assert sorted((pbs / f"{job}.status").read_text() for job in jobs) == ["0\n", "1\n"]
    for words in jobs.values():
        assert words[:3] == ["-V", "-N", "measure_scenario"]
        assert "select=1:ncpus=32:mem=64000mb" in words
        assert "place=exclhost" in words
        assert "walltime=14400" in words


def test_ctrl_c_ends_jobs_and_their_servers(pbs, tmp_path):
    longer = {"data_dir": "$TMPDIR/hyperkv", "workload.conversations": 400}
    checkout = Checkout.new(tmp_path / "checkout", changed(TINY, longer))
    checkout.interrupted(*checkout.profile_argv("generic", "results/sweep/rocksdb_resp/1.jsonl"))
    assert len(submitted(pbs)) == 1


@pytest.mark.parametrize(("profile", "program"), [("generic", "qdel"), ("kubernetes", "kubectl")])
def test_jobs_are_ended_by_a_scheduler_that_takes_longer_than_snakemake_waits(
    profile, program, tmp_path, monkeypatch
):
    """Snakemake kills a cancel script that has not ended within 2 s: it must not wait for the scheduler."""
    os.mkfifo(tmp_path / "busy")
    asked = tmp_path / program
    asked.write_text(f"#!/bin/sh\ncat {tmp_path}/busy > {tmp_path}/new; echo $* > {tmp_path}/words\n")
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    cancel = REPOSITORY / f"workflow/profiles/{profile}/cancel"
    subprocess.run([cancel, "job-1", "job-2"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert not (tmp_path / "words").exists()
    (tmp_path / "busy").write_text("")
    eventually(lambda: (tmp_path / "words").exists() and "job-1 job-2" in (tmp_path / "words").read_text())


@pytest.mark.parametrize(
    ("profile", "own", "gpus"),
    [
        ("slurm", "{}", {"none_reference": "gpu=1", "dram": "gpu=1"}),
        ("generic", "{}", {"none_reference": "gpu=1", "dram": "gpu=1"}),
        ("kubernetes", "{}", {"none_reference": "gpu=1", "dram": "gpu=1"}),
        (
            "slurm",
            "{vllm: {tensor_parallel: 2}, scenarios: {none_reference: {vllm: {tensor_parallel: 4}}}}",
            {"none_reference": "gpu=4", "dram": "gpu=2"},
        ),
    ],
)
def test_engine_vllm_asks_for_the_gpus_that_share_a_model(profile, own, gpus, tmp_path):
    checkout = Checkout.new(tmp_path / "checkout")
    (checkout / "own.yaml").write_text(own)
    (checkout / "two.yaml").write_text("experiment: {scenarios: [none_reference, dram]}\n")
    configs = [*CONFIGS[:2], "config/gpu-box.yaml", "own.yaml", "two.yaml"]
    words = ["sweep", "--dry-run", "--workflow-profile", f"workflow/profiles/{profile}"]
    status, output = checkout.forked(*words, "--configfile", *configs)
    assert status == 0, output
    jobs = output.split("\n[")
    measuring = [job for job in jobs if "rule measure_scenario:" in job]
    asked = {
        ("none_reference" if "scenario=none_reference," in job else "dram", word)
        for job in measuring
        for word in re.findall(r"gpu=\d+", job)
    }
    assert asked == set(gpus.items())
    environments = [job for job in jobs if "rule build_environment:" in job]
    assert {("environment=reference" in job, "gpu=1" in job) for job in environments} == {
        (True, True),
        (False, False),
    }
