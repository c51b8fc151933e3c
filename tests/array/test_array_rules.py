"""The array's rules through snakemake: only when asked for, one line per reason, and measurements that check first."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.array.fake_fio import write_fio
from tests.array.machines import recorded
from tests.workflow_helpers import CONFIGS, TINY, Checkout, changed

pytestmark = pytest.mark.slow

DEVICES = ["/dev/disk/by-id/nvme-hyperkv-test-0", "/dev/disk/by-id/nvme-hyperkv-test-1"]
RAID0 = {"source": "raid0", "devices": DEVICES, "mount": "/mnt/hyperkv-test-array"}
RULES = {"inspect_array", "provision_array", "teardown_array", "baseline_array"}


@pytest.fixture(autouse=True)
def tools(tmp_path, monkeypatch) -> Path:
    """First on PATH, tools that show other disks than this machine's and change nothing: the list of what they were asked."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "lsblk.json").write_text(
        recorded("lsblk-blank.json")
        .replace("nvme", "hyperkv-test-nvme")
        .replace('"tran": "hyperkv-test-nvme"', '"tran": "nvme"')
    )
    answers = {
        "lsblk": f"cat {folder}/lsblk.json",
        "wipefs": "echo '{\"signatures\": []}'",
        "blkid": "exit 2",
    }
    for name in (
        "lsblk",
        "wipefs",
        "blkid",
        "mdadm",
        "mkfs.xfs",
        "mkfs.ext4",
        "mount",
        "umount",
        "modprobe",
        "udevadm",
    ):
        (folder / name).write_text(
            f'#!/bin/sh\necho {name} "$@" >> {folder}/asked\n{answers.get(name, "exit 1")}\n'
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "asked"


def checkout_with(folder: Path, section: dict) -> Checkout:
    return Checkout.new(folder, changed(TINY, {"array": section}))


def measure_less(checkout: Checkout, sizes: dict) -> None:
    """Change constants of the checkout's baseline."""
    with (checkout / "workflow/hyperkv/config/models/array.py").open("a") as module:
        module.write(f"BASELINE |= {sizes}\n")


def errors(output: str) -> list[str]:
    return list(
        dict.fromkeys(
            line for line in output.splitlines() if line.startswith("hyperkv ") and " error: " in line
        )
    )


def test_inspecting_changes_nothing_and_looks_every_time(tmp_path, tools):
    checkout = checkout_with(tmp_path / "checkout", {})
    for _ in range(2):
        status, output = checkout.snakemake("inspect_array")
        assert status == 0, output
        assert "  /dev/hyperkv-test-nvme0n1" in output
        assert "2.0 GiB, nvme, not rotating, QEMU NVMe Ctrl, TESTNVME0" in output
        assert "array.source is path: nothing is provisioned" in output
        assert "The stores' files go to results/data: " in output
    assert not (checkout / "results/array").exists()
    asked = tools.read_text().splitlines()
    assert all(line.startswith(("lsblk ", "wipefs -n ", "blkid -p ", "mdadm --examine ")) for line in asked)


def test_a_run_never_provisions(tmp_path):
    checkout = checkout_with(tmp_path / "checkout", RAID0 | {"consent": True})
    assert not {job.split()[0] for job in checkout.planned()} & RULES


def test_refusals_are_a_line_each(tmp_path, tools):
    checkout = checkout_with(tmp_path / "checkout", {})
    for rule in ("provision_array", "teardown_array"):
        status, output = checkout.snakemake(rule)
        assert status == 1
        assert (
            f"hyperkv {rule}: error: array.source: it is path, which takes a folder as it is; set raid0"
            in errors(output)
        )
    checkout.configure(changed(TINY, {"array": RAID0 | {"consent": True, "overwrite": True}}))
    status, output = checkout.snakemake("provision_array")
    assert status == 1
    shown = f"{Path(sys.executable).with_name('snakemake')} --cores 1 inspect_array --configfile {' '.join(CONFIGS)}"
    assert errors(output) == [
        f"hyperkv provision_array: error: {name}: there is no such device; `{shown}` lists those there are"
        for name in DEVICES
    ]
    assert not [
        line
        for line in tools.read_text().splitlines()
        if line.startswith(("mkfs", "mount", "mdadm --create"))
    ]


def test_measurements_on_an_array_check_that_it_is_there(tmp_path):
    checkout = checkout_with(tmp_path / "checkout", RAID0)
    for job in (
        "results/sweep/none/1.jsonl",
        "results/profile/valkey_resp.jsonl",
        "results/profile/limits/limits.jsonl",
        "results/profile/layers/valkey_resp.jsonl",
        "baseline_array",
    ):
        status, output = checkout.snakemake(job)
        assert status == 1, output
        [line] = errors(output)
        assert (
            "error: array: there is no results/array/array.json, so no array was provisioned here; provision it"
            in line
        )
    assert not Path(RAID0["mount"]).exists()
    assert not (checkout / "results/data").exists()


def test_naming_the_array_measures_again_what_it_carries(tmp_path):
    checkout = checkout_with(tmp_path / "checkout", RAID0)
    spec = json.loads(checkout.spec("none"))
    assert spec["data_dir"] == "/mnt/hyperkv-test-array/hyperkv"
    assert spec["array"]["devices"] == DEVICES
    assert "consent" not in spec["array"]
    assert "array" not in json.loads(Checkout.new(tmp_path / "other").spec("none"))


def test_the_baseline_becomes_the_devices_limit(tmp_path, monkeypatch):
    write_fio(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    checkout = checkout_with(tmp_path / "checkout", {})
    small = {"block_bytes": [4096, 1 << 20], "queue_depths": [1], "point_s": 1, "repeats": 1}
    measure_less(checkout, small | {"file_bytes": 1 << 20, "reader_bytes": 1 << 20})
    status, output = checkout.snakemake("baseline_array")
    assert status == 0, output
    assert "sequential read: 1.16 GB/s" in output
    status, output = checkout.snakemake("stores")
    assert status == 0, output
    limits = (checkout / "results/tables/limits.csv").read_text()
    assert "\nfio_read,1,1048576,1.16" in limits
    assert "fio, its best" in (checkout / "results/figures/stores.svg").read_text()
    assert checkout.planned("stores") == set()
    measure_less(checkout, {"repeats": 2})
    assert checkout.planned("stores") == {"write_limits", "draw_stores"}  # it is of other settings now
