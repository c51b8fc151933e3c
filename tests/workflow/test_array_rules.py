"""`snakemake array` on a real Valkey behind devices, what runs again, and what is refused before anything runs."""

import csv

import pytest

from tests.workflow_helpers import TINY, Checkout, changed

pytestmark = pytest.mark.slow

CONFIG = changed(
    TINY,
    {
        "scenarios.valkey_striped": {"chunk_tokens": 16},
        "experiment.scenarios": ["none", "valkey_striped"],
        "experiment.array": {"scenarios": ["valkey_striped"], "gbps": [0.01, 0.02]},
        "experiment.loads": [2],
    },
)
DEVICES = ["valkey_striped-0_01gbps", "valkey_striped-0_02gbps"]


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Checkout:
    """A checkout after `snakemake array`. Not to be changed."""
    checkout = Checkout.new(tmp_path_factory.mktemp("array") / "checkout", CONFIG)
    status, output = checkout.snakemake("array")
    assert status == 0, output
    return checkout


def test_every_device_has_its_row_its_proof_and_its_verdict(complete):
    with (complete / "results/tables/array.csv").open() as file:
        rows = {row["scenario"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["none", "valkey_striped", *DEVICES]
    for name in DEVICES:
        assert float(rows[name]["shaped_read_gbps"]) <= float(rows[name]["read_gbps"])
        assert rows[name]["base"] == "valkey_striped"
        assert rows[name]["verdict"] in ("pays", "loses", "undecided")
    assert "valkey_striped, 2 clients: " in (complete / "results/tables/array.txt").read_text()
    assert (complete / "results/figures/array.png").read_bytes().startswith(b"\x89PNG")


def test_again_nothing_runs_and_one_more_device_is_measured_alone(complete, tmp_path):
    assert complete.planned("array") == set()
    checkout = complete.copy(tmp_path / "checkout")
    checkout.configure(changed(CONFIG, {"experiment.array.gbps": [0.01, 0.02, 0.04]}))
    planned = checkout.planned("array")
    measured = {job for job in planned if job.startswith("measure_scenario")}
    assert measured == {"measure_scenario valkey_striped-0_04gbps 1"}
    assert planned - measured == {"write_cost", "write_array", "draw_array"}


def test_without_devices_there_is_nothing_to_do(complete, tmp_path):
    checkout = complete.copy(tmp_path / "checkout")
    checkout.configure(changed(CONFIG, {"experiment.array": {}}))
    status, output = checkout.snakemake("array", "--dry-run")
    assert status != 0
    assert "config: experiment.array is empty; config/experiments/array.yaml has one" in output
