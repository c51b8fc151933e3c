"""`snakemake array ladder` on a real Valkey, what runs again, and what is refused before anything runs."""

import csv

import pytest

from tests.kvrocks_tree import write_kvrocks
from tests.workflow_helpers import TINY, Checkout, changed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = {
    "1 reference": {"scenario": "valkey_redis"},
    "2 native client": {"scenario": "valkey_resp", "changes": ["connector"]},
    "3 striped": {
        "scenario": "valkey_striped",
        "changes": ["connector", "stripe_bytes", "stripes_in_flight"],
    },
}
CONFIG = changed(
    TINY,
    {
        "scenarios.valkey_striped": {"chunk_tokens": 16},
        "experiment.scenarios": ["none", "valkey_redis", "valkey_resp", "valkey_striped"],
        "experiment.array": {"scenarios": ["valkey_striped"], "gbps": [0.01, 0.02]},
        "ladder": {"steps": STEPS, "beside": ["none"]},
    },
)
DEVICES = ["valkey_striped-0_01gbps", "valkey_striped-0_02gbps"]


@pytest.fixture(scope="module")
def ran(complete, tmp_path_factory) -> Checkout:
    """A checkout after `snakemake array ladder`. Not to be changed."""
    checkout = complete[0].copy(tmp_path_factory.mktemp("array") / "checkout")
    checkout.configure(CONFIG)
    status, output = checkout.snakemake("array", "ladder")
    assert status == 0, output
    return checkout


@pytest.fixture
def checkout(ran, tmp_path) -> Checkout:
    return ran.copy(tmp_path / "checkout")


def test_every_device_has_its_row_its_proof_and_its_verdict(ran):
    with (ran / "results/tables/array.csv").open() as file:
        rows = {row["scenario"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["none", "valkey_striped", *DEVICES]
    for name in DEVICES:
        assert float(rows[name]["shaped_read_gbps"]) <= float(rows[name]["read_gbps"])
        assert rows[name]["base"] == "valkey_striped"
        assert rows[name]["verdict"] in ("pays", "loses", "undecided")
    assert "valkey_striped, 2 clients: " in (ran / "results/tables/array.txt").read_text()
    assert (ran / "results/figures/array.png").read_bytes().startswith(b"\x89PNG")


def test_again_nothing_runs_and_one_more_device_is_measured_alone(checkout):
    assert checkout.planned("array", "ladder") == set()
    checkout.configure(changed(CONFIG, {"experiment.array.gbps": [0.01, 0.02, 0.04]}))
    planned = checkout.planned("array")
    measured = {job for job in planned if job.startswith("measure_scenario")}
    assert measured == {"measure_scenario valkey_striped-0_04gbps 1"}
    assert planned - measured == {"write_cost", "write_array", "draw_array"}


def test_every_step_has_its_gain_and_the_figures_are_drawn(ran):
    with (ran / "results/tables/ladder.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["load"] == "2"]
    assert [row["step"] for row in rows] == [*STEPS, ""]
    assert {row["valid"] for row in rows} == {"True"}
    assert [bool(row["ttft_gain_over_previous"]) for row in rows] == [False, True, True, False]
    for name in ("ladder", "before_after"):
        assert (ran / f"results/figures/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_changed_figure_only_draws(checkout):
    path = checkout / "workflow/hyperkv/figures/style.py"
    path.write_text(path.read_text() + "\nCHANGED = True\n")
    assert checkout.planned("ladder") == {"draw_ladder", "draw_before_after"}


MADE = ["connector", "stripe_bytes", "stripes_in_flight", "store", "tier", "patched"]


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        (
            "array",
            {"experiment.array": {}},
            "config: experiment.array is empty; config/experiments/array.yaml has one",
        ),
        (
            "ladder",
            {
                "scenarios.valkey_striped": {
                    "store": "kvrocks",
                    "tier": "ssd",
                    "patched": True,
                    "chunk_tokens": 16,
                },
                "experiment.array": {},
                "kvrocks": {"source": "binary", "binary": "PROGRAM"},
                "ladder.steps.3 striped.changes": MADE,
            },
            "config: ladder: kvrocks: source binary cannot be patched, so without valkey_striped.",
        ),
        (
            "ladder",
            {"scenarios.valkey_striped.connections": 4},
            "config: ladder.steps.3 striped: scenario valkey_striped differs from valkey_resp in connections as well",
        ),
        ("ladder", {"ladder": {}}, "config: ladder.steps is empty"),
    ],
)
def test_an_array_or_a_ladder_that_is_none_stops_before_anything_runs(
    checkout, tmp_path, target, changes, message
):
    if "kvrocks" in changes:
        changes = changes | {"kvrocks.binary": str(write_kvrocks(tmp_path / "kvrocks"))}
    checkout.configure(changed(CONFIG, changes))
    status, output = checkout.snakemake(target, "--dry-run")
    assert status == 1
    assert message in output
