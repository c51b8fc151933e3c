"""A scenario whose files do not fit on its data_dir's file system is refused before its first job."""

import itertools
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest

from tests.configs import BASE, H100
from tests.helpers import mounted_tmpfs
from tests.workflow_helpers import TINY, Checkout, changed
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.scenarios import selected
from workflow.hyperkv.run.room import pool_warnings, require_room

_USAGE = namedtuple("_USAGE", "total used free")
_OWN = {"scenarios.files.data_dir": "/dev/shm/own"}
_VLLM = {"experiment.scenarios": ["h100_none", "h100_striped_mp"]}


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
        (changed(H100, _VLLM), "h100_striped_mp", "scenarios.h100_striped_mp.data_dir"),
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


_POOL = {
    "workload.conversations": 80,
    "experiment.scenarios": ["h100_none", "h100_dram_mp", "h100_striped_mp"],
    "experiment.loads": [10, 40],
    "scenarios.h100_dram_mp.dram_pool_bytes": "4 GiB",
    "scenarios.h100_striped_mp.dram_pool_bytes": "4 GiB",
}


def warned(changes: dict[str, Any]) -> list[str]:
    config = checked(changed(H100, _POOL | changes))
    names = selected(config, config["experiment"]["scenarios"])
    return pool_warnings(config, [(name, repeat) for name in names for repeat in (1, 2)])


def test_a_pool_that_all_clients_prompts_may_not_fit_is_said_and_what_is_said_to_do_does():
    """An H200 lost half of its hits with 4 GiB at 40 clients, and none at 10."""
    (line,) = warned({})
    said = re.fullmatch(
        r"dram_pool_bytes of h100_dram_mp, h100_striped_mp: 4096 MiB may not hold the prompts of 40 clients at once, and LMCache's server "
        r"does not save what it has no room for; (\d+) MiB do, or lower experiment\.loads",
        line,
    )
    assert said, line
    assert 8 << 10 < int(said[1]) < 40 << 10
    for size, lines in ((int(said[1]), 0), (int(said[1]) - 1, 1)):
        sizes = {
            f"scenarios.{name}.dram_pool_bytes": f"{size} MiB" for name in ("h100_dram_mp", "h100_striped_mp")
        }
        assert len(warned(sizes)) == lines
    assert warned({"experiment.loads": [10]}) == []


def test_a_buffer_is_said_by_its_key_half_of_the_bytes_do_in_fp8_and_open_loops_have_no_clients():
    buffer = {"scenarios.h100_striped_mp.dram_pool_bytes": None, "vllm.staging_bytes": "4 GiB"}
    only = {"experiment.scenarios": ["h100_none", "h100_striped_mp"]}
    (line,) = warned(buffer | only)
    assert line.startswith("vllm.staging_bytes of h100_striped_mp: 4096 MiB")
    needed = [
        int(re.search(r"; (\d+) MiB do", *warned(changes | only))[1])
        for changes in (buffer, buffer | {"kv_dtype": "fp8"})
    ]
    assert needed[0] == pytest.approx(2 * needed[1], abs=2)
    assert warned(only | buffer | {"experiment.loop": "open"}) == []


def test_only_a_store_that_moves_values_needs_their_room_twice(free):
    def needed(settings: dict[str, str]) -> int:
        free(64 << 10)
        raw = changed(H100, _VLLM | {"scenarios.h100_striped_mp.settings": settings})
        with pytest.raises(UserError) as caught:
            require(raw)
        return int(re.search(r"\(([\d,]+) bytes needed", str(caught.value))[1].replace(",", ""))

    once = needed({"rocksdb.write_buffer_size": 16})
    twice = needed({"rocksdb.write_buffer_size": 16, "rocksdb.enable_blob_garbage_collection": "yes"})
    assert 1.7 < twice / once < 1.9
