"""What was measured where: words for hardware, columns, and the line for what is not alike."""

from copy import deepcopy

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tests.helpers import command
from tests.record_factory import measured, varied
from workflow.hyperkv.figures import tier_tradeoff
from workflow.hyperkv.predict import place_stores
from workflow.hyperkv.records import hardware
from workflow.hyperkv.tables import summary
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.scenarios import scenarios_table

DISK = {
    "file_system": "xfs",
    "model": None,
    "kind": "md array",
    "level": "raid0",
    "raid_chunk_bytes": 512 << 10,
    "members": [{"model": "PM9A3", "serial": "1"}, {"model": "PM9A3", "serial": "2"}],
}
ENVIRONMENT = {
    "node": "a",
    "cpu": "EPYC 7B13",
    "cores": 64,
    "usable_cores": 64,
    "ram_bytes": 504 << 30,
    "gpu": ["NVIDIA L4, 580.1, 23034 MiB", "NVIDIA L4, 580.1, 23034 MiB"],
    "disk": DISK,
}
WORDS = "64 x EPYC 7B13, 504 GiB, 2 x NVIDIA L4"


def record(tier: str = "ssd", **changes) -> dict:
    scenario = {"tier": tier, "data_dir": changes.pop("data_dir", None)}
    return {"environment": ENVIRONMENT | changes, "spec": {"scenario": scenario}}


def test_words_name_cores_memory_gpus_and_what_disks_are():
    assert hardware.hardware_words(ENVIRONMENT) == WORDS
    assert hardware.hardware_words(ENVIRONMENT | {"usable_cores": 2}).startswith("2 of 64 x EPYC")
    for words in (hardware.hardware_words, hardware.machine_words):
        assert words({"cpu": None, "cores": 1, "ram_bytes": 1 << 30}) == "1 x CPU core, 1 GiB"
    assert hardware.disk_words(DISK) == "xfs, 2 x PM9A3 (md array, raid0, 512 KiB)"


def test_alike_nodes_have_the_same_words_and_what_changes_every_day_is_not_in_them():
    other = {"node": "b", "ram_bytes": (504 << 30) + (40 << 20), "kernel": "6.1", "packages": {}}
    other["disk"] = deepcopy(DISK) | {
        "device": "md1",
        "members": [{"model": "PM9A3", "serial": n} for n in "34"],
    }
    found = hardware.columns_of([record(), record(**other)])
    assert found == {"node": "a | b", "hardware": WORDS, "disk": "xfs, 2 x PM9A3 (md array, raid0, 512 KiB)"}


@pytest.mark.parametrize("wrong", [{"tier": "dram"}, {"tier": "none"}, {"data_dir": "/dev/shm/hyperkv"}])
def test_a_row_that_does_not_use_the_disk_has_none(wrong):
    assert hardware.columns_of([record(**wrong)])["disk"] is None


def test_a_record_that_does_not_tell_has_no_words():
    assert set(hardware.columns_of([{}, {"environment": float("nan"), "spec": float("nan")}]).values()) == {
        None
    }


def rows(*records_of: dict) -> pd.DataFrame:
    return pd.DataFrame(
        [{"scenario": f"s{n}", **hardware.columns_of([each])} for n, each in enumerate(records_of)]
    )


def test_alike_rows_say_nothing():
    assert hardware.mixed([rows(record(), record(node="b"), record("none"))]) == ""
    assert hardware.mixed([pd.DataFrame({"scenario": ["a"]})]) == ""


@pytest.mark.parametrize(
    "change", [{"cpu": "Xeon"}, {"ram_bytes": 1 << 30}, {"gpu": []}, {"cores": 32, "usable_cores": 32}]
)
def test_other_hardware_is_named_with_what_ran_on_it(change):
    text = hardware.mixed([rows(record(), record(**change), record())])
    assert text.startswith(f"Not alike: measured on 2 different machines. {WORDS}: s0, s2; ")
    assert text.endswith(": s1.")
    assert text.count("\n") == 0


def test_other_disks_are_named_too():
    text = hardware.mixed([rows(record(), record(disk=DISK | {"level": "raid5"}))])
    assert text.startswith("Not alike: measured on 2 different disks. xfs, 2 x PM9A3 (md array, raid0")


def test_repeats_on_different_hardware_are_not_alike():
    both = hardware.columns_of([record(), record(cpu="Xeon")])
    assert "different machines" in hardware.mixed([pd.DataFrame([{"scenario": "a", **both}])])


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> list[dict]:
    """Real records of two scenarios, the second as if from another machine."""
    folder = tmp_path_factory.mktemp("cells")
    real = measured(folder, "dram")
    other = deepcopy(real)
    other["environment"] |= {"node": "far", "cpu": "Another CPU"}
    return [real, varied(other, scenario="far")]


def test_a_figure_and_the_summary_say_that_rows_are_not_alike(elsewhere, tmp_path, monkeypatch):
    cells = cells_table(elsewhere)
    scenarios = scenarios_table(cells)
    scenarios.to_csv(tmp_path / "scenarios.csv", index=False)
    words = ["--tables", tmp_path / "scenarios.csv", "--spec", '{"chunk_tokens": 32}']
    words += ["--svg", tmp_path / "f.svg", "--png", tmp_path / "f.png"]
    monkeypatch.setitem(plt.rcParams, "svg.fonttype", "none")
    command(tier_tradeoff, *words)
    assert "Not alike: measured on 2 different machines." in (tmp_path / "f.svg").read_text()
    text = summary.hardware_text([scenarios])
    assert text.startswith(f"Measured on {elsewhere[0]['environment']['node']}, far: ")
    assert "Not alike" in text
    alike = scenarios_table(cells_table([elsewhere[0]]))
    assert "Not alike" not in summary.hardware_text([alike])


def test_break_even_names_the_machine_of_its_stores_not_that_of_the_limits():
    here, far = pd.DataFrame({"hardware": [WORDS, None]}), pd.DataFrame({"hardware": ["8 x Far", WORDS]})
    assert place_stores.machine_of(ENVIRONMENT, here) == "64 x EPYC 7B13, 504 GiB, xfs"
    assert place_stores.machine_of(ENVIRONMENT, pd.DataFrame()) == "64 x EPYC 7B13, 504 GiB, xfs"
    assert place_stores.machine_of(ENVIRONMENT, far) == f"{WORDS} and 8 x Far"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA A100 80GB (derived)", "A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB"),
        ("AMD Instinct MI300X 192GB (derived)", "MI300X 192GB"),
        ("my own", "my own"),
    ],
)
def test_a_gpu_has_one_short_name(name, short):
    assert hardware.short_gpu(name) == short
