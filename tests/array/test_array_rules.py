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
    for name in (*answers, "mdadm", "mkfs.xfs", "mkfs.ext4", "mount", "umount", "modprobe", "udevadm"):
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


def test_inspecting_changes_nothing(tmp_path, tools):
    checkout = checkout_with(tmp_path / "checkout", {})
    status, output = checkout.snakemake("inspect_array")
    assert status == 0, output
    assert "  /dev/hyperkv-test-nvme0n1" in output
    assert "2.0 GiB, nvme, not rotating, QEMU NVMe Ctrl, TESTNVME0" in output
    assert "array.source is path: nothing is provisioned" in output
    assert "The stores' files go to results/data: " in output
    assert not (checkout / "results/array").exists()
    asked = tools.read_text().splitlines()
    assert all(line.startswith(("lsblk ", "wipefs -n ", "blkid -p ", "mdadm --examine ")) for line in asked)


def test_refusals_are_a_line_each(tmp_path, tools):
    section = RAID0 | {"consent": True, "overwrite": True}
    status, output = checkout_with(tmp_path / "checkout", section).snakemake("provision_array")
    assert status == 1
    shown = f"{Path(sys.executable).with_name('snakemake')} --cores 1 inspect_array --configfile {' '.join(CONFIGS)}"
    assert errors(output) == [
        f"hyperkv provision_array: error: {name}: there is no such device; `{shown}` lists those there are"
        for name in DEVICES
    ]
    changing = ("mkfs", "mount", "mdadm --create")
    assert not [line for line in tools.read_text().splitlines() if line.startswith(changing)]


def test_a_run_never_provisions_and_measurements_on_an_array_check_that_it_is_there(tmp_path):
    checkout = checkout_with(tmp_path / "checkout", RAID0 | {"consent": True})
    assert not {job.split()[0] for job in checkout.planned()} & RULES
    status, output = checkout.snakemake(
        "results/sweep/none/1.jsonl",
        "results/profile/valkey_resp.jsonl",
        "results/profile/limits/limits.jsonl",
        "results/profile/layers/valkey_resp.jsonl",
        "baseline_array",
        "--keep-going",
    )
    assert status == 1, output
    there = "array: there is no results/array/array.json, so no array was provisioned here; provision it"
    lines = errors(output)
    assert len(lines) == 5, output
    assert all(there in line for line in lines)
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
    table = "results/tables/limits.csv"
    status, output = checkout.snakemake(table)
    assert status == 0, output
    assert "\nfio_read,1,1048576,1.16" in (checkout / table).read_text()
    measure_less(checkout, {"repeats": 2})
    assert checkout.planned(table) == {"write_limits"}  # it is of other settings now
