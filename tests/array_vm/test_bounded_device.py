"""A real device whose GB/s the kernel bounds, beside memory that is held to be it: as many requests per second, and first tokens as early.

As root, on a machine whose cgroups bound reads (blkio of version 1, io of version 2) of the disk below the test's folder. `make test-array`.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import sweep_spec
from workflow.hyperkv.machine.memory_dir import file_system_of

from ..workflow_helpers import merged

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

GBPS, LOADS, REPEATS, MOST = 0.1, [1, 4], (1, 2, 3), 0.10
V1, V2 = Path("/sys/fs/cgroup/blkio"), Path("/sys/fs/cgroup")
GATE = 'echo $$ > "$0/cgroup.procs"; exec "$@"'


@contextlib.contextmanager
def bounded(folder: Path) -> Iterator[Path]:
    """A group whose processes read the folder's disk at GBPS; skips where there is none."""
    number = os.stat(folder).st_dev
    disk = f"{os.major(number)}:{os.minor(number)}"
    first, second = V1 / "hyperkv-test", V2 / "hyperkv-test"
    reads = f"{disk} {int(GBPS * 1e9)}"
    for group, key, line in (
        (first, "blkio.throttle.read_bps_device", reads),
        (second, "io.max", reads.replace(" ", " rbps=")),
    ):
        if not group.parent.is_dir():
            continue
        with contextlib.suppress(OSError):
            group.mkdir(exist_ok=True)
            try:
                (group / key).write_text(line)
                yield group
                return
            finally:
                group.rmdir()
    pytest.skip(f"no group of processes can be bounded on disk {disk}")


def config(folder: Path, gbps: float) -> dict:
    """The files of one connector on the folder's disk, and in memory behind a device."""
    names = ("scenarios", "config", "experiments/array")
    given = merged(*[yaml.safe_load(Path("config", f"{name}.yaml").read_text()) for name in names])
    files = {"store": "files", "connector": "inprocess"}
    given["scenarios"] |= {
        "disk": {"tier": "ssd", **files},
        "memory": {"tier": "dram", **files, "data_dir": "/dev/shm", "shape": {"read_gbps": gbps}},
    }
    given["experiment"] = {"scenarios": ["none", "disk", "memory"], "loads": LOADS}
    return checked(given | {"data_dir": str(folder)})


def measured(spec: str, out: Path, group: Path | None = None) -> dict[int, list[dict]]:
    """The cells of a scenario by load, measured by the stage's own command, within a group of processes."""
    found: dict[int, list[dict]] = {load: [] for load in LOADS}
    for repeat in REPEATS:
        file = out / str(repeat) / "1.jsonl"
        stage = [
            sys.executable,
            "-m",
            "workflow.hyperkv.sweep.measure_scenario",
            "--spec",
            spec,
            "--code",
            "test",
        ]
        command = [*stage, "--repeat", str(repeat), "--out", str(file)]
        subprocess.run(command if group is None else ["sh", "-c", GATE, str(group), *command], check=True)
        for record in map(json.loads, file.read_text().splitlines()):
            if record.get("record") == "cell":
                found[record["load"]].append(record)
    return found


def middle(cells: list[dict], part: str, name: str) -> float:
    return statistics.median(cell[part][name] for cell in cells)


def test_memory_held_to_a_disk_s_gbps_serves_as_the_disk_does(tmp_path):
    if file_system_of(tmp_path) == "tmpfs":
        pytest.skip("the test's folder is in memory")
    (data := tmp_path / "data").mkdir()
    with bounded(data) as group:
        disk = measured(sweep_spec(config(data, 1), "disk"), tmp_path / "disk", group)
    every = [cell for cells in disk.values() for cell in cells]
    gbps = round(middle(every, "evidence", "store_read_gbps"), 4)
    memory = measured(sweep_spec(config(data, gbps), "memory"), tmp_path / "memory")
    for load in LOADS:
        assert [cell["reasons"] for cell in (*disk[load], *memory[load])] == [[]] * 2 * len(REPEATS)
        for name in ("ttft_p50_ms", "rps_per_gpu"):
            ratio = middle(memory[load], "values", name) / middle(disk[load], "values", name)
            print(f"load {load}, {gbps} GB/s: {name} {ratio - 1:+.1%}")
            assert abs(ratio - 1) <= MOST, (load, name, ratio)
