"""A scenario whose files do not fit on its data_dir's file system is refused before its first job."""

import itertools
import json
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml

from tests.configs import BASE, GPU
from tests.helpers import mounted_tmpfs
from tests.workflow_helpers import TINY, Checkout, changed, merged
from tests.workloads.kinds import EXCERPT
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.cells.cell import CellSpec, check_room
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import sweep_spec
from workflow.hyperkv.config.scenarios import selected
from workflow.hyperkv.engines.vllm.running import saved_bytes
from workflow.hyperkv.machine.environment import has_gpu
from workflow.hyperkv.records.effective import buffer_bytes
from workflow.hyperkv.run import jobs
from workflow.hyperkv.run.jobs import pool_warnings, require_gpu, require_room

_USAGE = namedtuple("_USAGE", "total used free")
_OWN = {"scenarios.files.data_dir": "/dev/shm/own"}
_VLLM = {"experiment.scenarios": ["gpu_none", "gpu_tmpfs_striped"]}


@pytest.fixture
def free(monkeypatch) -> Callable[[int], None]:
    """Sets the bytes that every file system has free."""
    return lambda size: monkeypatch.setattr(shutil, "disk_usage", lambda path: _USAGE(size, 0, size))


def require(raw: dict[str, Any]) -> None:
    config = checked(raw)
    names = selected(config, config["experiment"]["scenarios"])
    require_room(config, itertools.product(names, range(1, config["experiment"]["repeats"] + 1)))


@pytest.mark.parametrize(
    ("raw", "scenario", "key"),
    [
        (changed(BASE, {"data_dir": "/dev/shm/small"}), "files", "data_dir"),
        (changed(BASE, _OWN), "files", "scenarios.files.data_dir"),
        (changed(BASE, {"experiment.repeats": 3}), "files", "data_dir"),
        (changed(GPU, _VLLM), "gpu_tmpfs_striped", "scenarios.gpu_tmpfs_striped.data_dir"),
    ],
)
def test_it_is_one_line_with_the_key_the_bytes_needed_and_those_free(free, raw, scenario, key):
    free(64 << 10)
    with pytest.raises(UserError) as caught:
        require(raw)
    said = re.fullmatch(
        rf"config: {re.escape(key)}: scenario {scenario}: about .* GB needed on the disk of ([^\s,;]+)(?:, where .*)?, [\d.]+ GB free; choose another data_dir "
        r"or a smaller workload \(([\d,]+) bytes needed, 65,536 free\)",
        str(caught.value),
    )
    assert said, caught.value
    needed = int(said[2].replace(",", ""))
    free(3 * needed)
    require(raw)
    free(needed - 1)
    with pytest.raises(UserError):
        require(raw)


@pytest.mark.parametrize(
    "changes",
    [
        {"experiment.scenarios": ["none", "dram"]},
        {"data_dir": "$NOT_SET_HERE/kv"},
        {"data_dir": "/not-there/deep/kv"},
    ],
)
def test_what_has_no_files_or_is_not_known_here_is_left_to_the_job(free, changes):
    free(0)
    require(changed(BASE, changes))


def test_an_array_that_is_not_mounted_is_left_to_the_job(free):
    free(0)
    raid = {"source": "raid0", "devices": ["/dev/a", "/dev/b"], "mount": "/not-there", "consent": True}
    require(changed(BASE, {"array": raid}))


def test_snakemake_says_so_before_its_first_job(tmp_path):
    checkout = Checkout.new(tmp_path / "checkout")
    with mounted_tmpfs(tmp_path / "small", 1) as small:
        checkout.configure(changed(TINY, {"scenarios.rocksdb_resp.data_dir": str(small / "kv")}))
        status, output = checkout.snakemake("sweep")
        assert status == 1
        assert re.search(
            r"^config: scenarios\.rocksdb_resp\.data_dir: scenario rocksdb_resp: .* bytes needed, 1,048,576 free\)$",
            output,
            re.MULTILINE,
        )
        assert not list(checkout.folder.glob("results/sweep/*/*.jsonl*"))


def test_an_engine_on_a_gpu_is_refused_where_there_is_none_and_what_is_said_to_do_does(monkeypatch):
    monkeypatch.setattr(jobs, "has_gpu", lambda: False)
    with pytest.raises(
        UserError, match=r"^config: vllm\.device: cuda, .* no NVIDIA GPU here; .*config/engine-cpu\.yaml"
    ):
        require_gpu(checked(GPU))
    files = ("config/scenarios.yaml", "config/config.yaml", "config/engine-cpu.yaml")
    require_gpu(checked(merged(*(yaml.safe_load(Path(file).read_text()) for file in files))))
    require_gpu(checked(BASE))
    monkeypatch.setattr(jobs, "has_gpu", lambda: True)
    require_gpu(checked(GPU))


@pytest.mark.skipif(has_gpu(), reason="it needs a machine without a GPU")
def test_snakemake_says_so_before_it_builds_for_a_gpu(tmp_path):
    checkout = Checkout.new(tmp_path / "checkout")
    checkout.configure(changed(GPU, _VLLM))
    status, output = checkout.snakemake("sweep")
    assert status == 1
    assert re.search(r"^config: vllm\.device: cuda, ", output, re.MULTILINE)
    assert not (checkout.folder / "results/build").exists()


_POOL = {
    "workload.conversations": 120,
    "experiment.scenarios": ["gpu_none", "gpu_dram", "gpu_tmpfs"],
    "experiment.loads": [10, 40],
    "scenarios.gpu_dram.dram_pool_bytes": "4 GiB",
    "scenarios.gpu_tmpfs.dram_pool_bytes": "32 GiB",
    "vllm.staging_bytes": "4 GiB",
}


def warned(changes: dict[str, Any]) -> list[str]:
    config = checked(changed(GPU, _POOL | changes))
    names = selected(config, config["experiment"]["scenarios"])
    return pool_warnings(config, [(name, repeat) for name in names for repeat in (1, 2)])


def test_a_pool_that_all_clients_prompts_may_not_fit_is_said_and_what_is_said_to_do_does():
    """An H200 lost half of its hits with 4 GiB at 40 clients, and none at 10. Of a pool before a store what is kept free counts."""
    keys = {
        "dram_pool_bytes of gpu_dram: 4096 MiB": "scenarios.gpu_dram.dram_pool_bytes",
        "vllm.staging_bytes of gpu_tmpfs: 4096 MiB": "vllm.staging_bytes",
    }
    lines = warned({})
    assert len(lines) == len(keys)
    sizes = {}
    for line, (start, key) in zip(lines, keys.items(), strict=True):
        said = re.fullmatch(
            rf"{re.escape(start)} may not hold the prompts of 40 clients at once, and LMCache's server "
            r"does not save what it has no room for; (\d+) MiB do, or lower experiment\.loads",
            line,
        )
        assert said, line
        assert 8 << 10 < int(said[1]) < 40 << 10
        sizes[key] = int(said[1])
    assert warned({key: f"{size} MiB" for key, size in sizes.items()}) == []
    assert len(warned({key: f"{size - 1} MiB" for key, size in sizes.items()})) == 2
    assert warned({"experiment.loads": [10]}) == []


def test_clients_of_documents_may_ask_about_as_many_of_them():
    """Five documents of 16,000 tokens, 2.1 GB each: LMCache had no room for 4 % of what was to be saved."""
    documents = yaml.safe_load(Path("config/experiments/gpu/documents.yaml").read_text())
    config = checked(merged(GPU, documents))
    behind, alone = pool_warnings(config, [("gpu_dram", 1), ("gpu_disk", 1)])
    assert alone.startswith("dram_pool_bytes of gpu_dram: 9216 MiB may not hold the prompts of 5 clients ")
    assert "; 10272 MiB do" in behind


def test_half_of_a_buffers_bytes_do_in_fp8_and_open_loops_have_no_clients():
    buffer = {
        "experiment.scenarios": ["gpu_none", "gpu_tmpfs"],
        "scenarios.gpu_tmpfs.dram_pool_bytes": None,
        "vllm.staging_bytes": "4 GiB",
    }
    (line,) = warned(buffer)
    assert line.startswith("vllm.staging_bytes of gpu_tmpfs: 4096 MiB")
    needed = [
        int(re.search(r"; (\d+) MiB do", *warned(changes))[1])
        for changes in (buffer, buffer | {"kv_dtype": "fp8"})
    ]
    assert needed[0] == pytest.approx(2 * needed[1], abs=2)
    assert warned(buffer | {"experiment.loop": "open"}) == []
    trace = {"kind": "trace", "trace": str(EXCERPT)}
    own_times = {
        "loadgen.conversations_per_client": None,
        "experiment.loads": [40],
        "vllm.staging_bytes": "16 GiB",
    }
    config = checked(changed(GPU, _POOL | own_times) | {"workload": trace})
    assert pool_warnings(config, [("gpu_tmpfs", 1)]) == []


def test_only_a_store_that_moves_values_needs_their_room_twice(free):
    def needed(settings: dict[str, str]) -> int:
        free(64 << 10)
        raw = changed(GPU, _VLLM | {"scenarios.gpu_tmpfs_striped.settings": settings})
        with pytest.raises(UserError) as caught:
            require(raw)
        return int(re.search(r"\(([\d,]+) bytes needed", str(caught.value))[1].replace(",", ""))

    once = needed({"rocksdb.write_buffer_size": 16})
    twice = needed({"rocksdb.write_buffer_size": 16, "rocksdb.enable_blob_garbage_collection": "yes"})
    assert 1.7 < twice / once < 1.9


# A machine with one H200 as it is lent, less what the environments take.
_BOX = {"/dev/shm": 64 << 30, "memory": 120 << 30, "disk": 52 * 10**9}
_OF_GPU = sorted([Path("config/experiments/gpu.yaml"), *Path("config/experiments/gpu").glob("*.yaml")])


@pytest.mark.parametrize("path", _OF_GPU, ids=lambda path: path.stem)
def test_every_experiment_of_a_gpu_has_room_on_a_box_of_128_gib(path, monkeypatch):
    """All that is looked at before its first engine starts; two GPUs come with twice the disk."""
    disk = _BOX["disk"] * (2 if path.stem == "two_gpus" else 1)
    memory = SimpleNamespace(available=_BOX["memory"])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda folder: _USAGE(0, 0, _BOX["/dev/shm"] if str(folder).startswith("/dev/shm") else disk),
    )
    own = [] if path.stem == "gpu" else [yaml.safe_load(path.read_text())]
    raw = merged(GPU, *own)
    require(raw)
    config = checked(raw)
    for name in selected(config, config["experiment"]["scenarios"]):
        cell = CellSpec(json.loads(sweep_spec(config, name)), 1, 1, Path())
        if cell.scenario["tier"] == "none":
            continue
        saved = saved_bytes(cell)
        buffer = buffer_bytes(cell.scenario, config["vllm"]["staging_bytes"])
        check_room(cell, saved, buffer)
        in_shm = str(cell.data_dir).startswith("/dev/shm")
        assert buffer + in_shm * saved < _BOX["memory"], name
