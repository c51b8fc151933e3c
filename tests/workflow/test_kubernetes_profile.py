"""The profile for Kubernetes: the job that it sends, whether it notices failure, and what Ctrl-C leaves.

What is sent is held against Kubernetes's own schema; what runs it here is no Kubernetes (fake_kubectl.py).
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.helpers import eventually
from tests.workflow_helpers import REPOSITORY, TINY, Checkout, changed
from workflow.hyperkv.records.record_file import read_records

pytestmark = [pytest.mark.timeout(300)]

PROFILE = "workflow/profiles/kubernetes"
SCHEMA = json.loads((REPOSITORY / "tests/data/kubernetes_job.schema.json").read_text())


@pytest.fixture
def kubectl(stand_in) -> Path:
    """A stand-in for kubectl on PATH; the folder of its state."""
    return stand_in("fake_kubectl.py", "FAKE_KUBECTL", "kubectl")


def sent(state: Path) -> dict[str, dict[str, Any]]:
    """Jobs by their names; each is one that Kubernetes takes."""
    found = {path.stem: json.loads(path.read_text()) for path in state.glob("*.json")}
    for job in found.values():
        jsonschema.validate(job, SCHEMA)
    return found


def submit(state: Path, tmp_path: Path, *words: str) -> dict[str, Any]:
    """The job of a call of the profile's `submit`, whose script writes a line."""
    script = tmp_path / "tmp.abc" / "snakejob.sh"
    script.parent.mkdir(exist_ok=True)
    script.write_text("echo done\n")
    argv = [str(REPOSITORY / PROFILE / "submit"), *words, str(script)]
    done = subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    name = done.stdout.strip()
    eventually((state / f"{name}.status").exists)
    assert (tmp_path / "results/logs/kubernetes/tmp.abc-snakejob.sh.log").read_text() == "done\n"
    return sent(state)[name]


def pod(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def test_a_measuring_job_has_a_node_to_itself(kubectl, tmp_path):
    job = submit(kubectl, tmp_path, "measure_scenario", "1", "1", "2", "64000", "240")
    assert job["spec"]["activeDeadlineSeconds"] == 240 * 60
    assert job["spec"]["backoffLimit"] == 0
    assert pod(job)["restartPolicy"] == "Never"
    assert pod(job)["nodeSelector"] == {"hyperkv": "testbed"}
    [toleration] = pod(job)["tolerations"]
    assert toleration == {"key": "hyperkv", "operator": "Equal", "value": "testbed", "effect": "NoSchedule"}
    [apart] = pod(job)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    labels = apart["labelSelector"]["matchLabels"]
    assert labels.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert (apart["topologyKey"], apart["namespaceSelector"]) == ("kubernetes.io/hostname", {})
    [container] = pod(job)["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "64000M"},
        "limits": {"nvidia.com/gpu": "2"},
    }


def test_a_build_asks_for_its_cores_and_may_run_beside_others(kubectl, tmp_path):
    job = submit(kubectl, tmp_path, "compile_kvrocks", "0", "16", "0", "24000", "120")
    assert not {"nodeSelector", "tolerations", "affinity"} & set(pod(job))
    [container] = pod(job)["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "16", "memory": "24000M"},
        "limits": {"memory": "24000M"},
    }


def test_a_job_is_its_users_without_rights_in_this_folder_with_disk_and_shared_memory(kubectl, tmp_path):
    job = submit(kubectl, tmp_path, "measure_scenario", "1", "1", "0", "1", "1")
    user = pod(job)["securityContext"]
    assert (user["runAsUser"], user["runAsGroup"]) == (os.getuid(), os.getgid())
    [container] = pod(job)["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(job)["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(job))
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"checkout": str(tmp_path), "disk": "/disk", "shm": "/dev/shm"}
    assert {volume["name"] for volume in pod(job)["volumes"]} == set(mounted)
    assert container["workingDir"] == str(tmp_path)


def test_what_the_cluster_refuses_is_said(tmp_path):
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho 'Error from server (Forbidden): no' >&2; exit 1\n")
    (tmp_path / "kubectl").chmod(0o755)
    words = [str(REPOSITORY / PROFILE / "submit"), *["rule", "0", "1", "0", "1", "1", "script"]]
    own = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        words, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Forbidden" in done.stderr


@pytest.mark.parametrize(
    ("says", "status"),
    [
        ("printf 'SuccessCriteriaMet Complete '", "success"),
        ("printf 'FailureTarget '", "running"),
        ("printf 'FailureTarget Failed '", "failed"),
        ("true", "running"),
        ("echo 'Error from server (NotFound): jobs.batch \"a\" not found' >&2; exit 1", "failed"),
        ("echo 'Unable to connect to the server: i/o timeout' >&2; exit 1", "running"),
    ],
)
def test_what_a_job_is_told_to_be(tmp_path, says, status):
    (tmp_path / "kubectl").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "kubectl").chmod(0o755)
    own = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [str(REPOSITORY / PROFILE / "status"), "a"]
    assert (
        subprocess.run(words, env=own, capture_output=True, text=True, timeout=30, check=True).stdout
        == f"{status}\n"
    )


@pytest.mark.slow
def test_a_run_submits_what_measures_and_reports_what_fails(kubectl, tmp_path):
    own = {"data_dir": f"{tmp_path}/disk/hyperkv", "scenarios.rocksdb_resp.data_dir": "/mnt/not-here/hyperkv"}
    checkout = Checkout.new(tmp_path / "checkout", changed(TINY, own))
    profile = checkout / PROFILE / "profile.yaml"
    profile.write_text(profile.read_text().replace("testbed: 1", "testbed: 2", 1))
    targets = [f"results/sweep/{name}/1.jsonl" for name in ("none", "rocksdb_resp")]
    status, output = checkout.forked(*checkout.profile_argv("kubernetes", *targets)[2:])
    assert status == 1
    assert "there is no folder /mnt/not-here on" in output
    assert [record["load"] for record in read_records(checkout / targets[0])] == TINY["experiment"]["loads"]
    assert not (checkout / targets[1]).exists()
    jobs = sent(kubectl)
    assert sorted((kubectl / f"{name}.status").read_text() for name in jobs) == ["0\n", "1\n"]
    for job in jobs.values():
        assert job["metadata"]["generateName"] == "hyperkv-measure-scenario-"
        assert pod(job)["nodeSelector"] == {"hyperkv": "testbed"}
        assert pod(job)["containers"][0]["resources"]["requests"]["memory"] == "64000M"


@pytest.mark.slow
def test_ctrl_c_ends_jobs_and_their_servers(kubectl, tmp_path):
    longer = {"data_dir": f"{tmp_path}/disk/hyperkv", "workload.conversations": 400}
    checkout = Checkout.new(tmp_path / "checkout", changed(TINY, longer))
    checkout.interrupted(*checkout.profile_argv("kubernetes", "results/sweep/rocksdb_resp/1.jsonl"))
    eventually(lambda: not list((tmp_path / "disk/hyperkv").iterdir()))
    assert len(sent(kubectl)) == 1
