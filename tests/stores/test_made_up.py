"""A store that nobody has, added by its module and one line: workflow, figures and recommendation take it as any other."""

import json
import shutil
from pathlib import Path

import pytest

from tests.workflow_helpers import TINY, Checkout, changed
from workflow.hyperkv.records.record_file import read_records

SHELF = Path(__file__).parent / "made_up" / "shelf.py"
CONFIG = changed(
    TINY,
    {
        "scenarios.shelf_resp": {
            "tier": "dram",
            "store": "shelf",
            "connector": "resp",
            "chunk_tokens": 16,
            "settings": {"io-threads": 2},
        },
        "experiment.scenarios": ["shelf_resp"],
        "profile.scenarios": ["shelf_resp"],
        "layers.scenarios": ["shelf_resp"],
        "layers.repeats": 1,
    },
)
FIGURES = ("tier_tradeoff", "stores")
TARGETS = (
    *(f"results/figures/{name}.svg" for name in FIGURES),
    "results/profile/layers/shelf_resp.jsonl",
    "results/recommended/check.json",
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Checkout:
    """A checkout with the store, on which the workflow ran."""
    checkout = Checkout.new(tmp_path_factory.mktemp("shelf") / "checkout", CONFIG)
    stores = checkout / "workflow/hyperkv/stores"
    shutil.copy(SHELF, stores)
    with (stores / "names.yaml").open("a") as names:
        names.write("shelf: shelf.ShelfStore\n")
    status, output = checkout.snakemake(*TARGETS)
    assert status == 0, output
    return checkout


def test_it_is_measured_profiled_and_taken_apart_like_any_other(ran):
    records = read_records(ran / "results/sweep/shelf_resp/1.jsonl")
    assert {record["spec"]["scenario"]["store"] for record in records} == {"shelf"}
    assert all(record["valid"] for record in records)
    rungs = {record["rung"] for record in read_records(ran / "results/profile/layers/shelf_resp.jsonl")}
    assert {"whole", "valkey", "null"} <= rungs
    assert "shelf" in (ran / "results/tables/stores.csv").read_text()


def test_figures_show_it_by_its_own_colour(ran):
    for name in FIGURES:
        assert "#f0e442" in (ran / f"results/figures/{name}.svg").read_text().lower()


def test_it_is_recommended_with_its_files_and_these_start_it(ran):
    found = json.loads((ran / "results/recommended/recommendation.json").read_text())
    [server] = found["servers"]
    assert (found["chosen"]["scenario"], server["store"], server["conf"]) == (
        "shelf_resp",
        "shelf",
        "shelf.conf",
    )
    assert 'io-threads "2"' in (ran / "results/recommended/files/shelf.conf").read_text()
    checks = {
        item["what"]: item["status"]
        for item in json.loads((ran / "results/recommended/check.json").read_text())
    }
    assert checks["store.sh"] == "checked"
    assert "PYTHONPATH" not in (ran / "results/recommended/files/vllm.sh").read_text()


def test_one_more_store_measures_nothing_again(ran, tmp_path):
    checkout = ran.copy(tmp_path / "checkout")
    stores = checkout / "workflow/hyperkv/stores"
    (stores / "rack.py").write_text(SHELF.read_text().replace("shelf", "rack").replace("Shelf", "Rack"))
    with (stores / "names.yaml").open("a") as names:
        names.write("rack: rack.RackStore\n")
    assert {job for job in checkout.planned(*TARGETS) if "shelf_resp" in job} == set()


def test_a_statement_of_its_module_measures_it_again(ran):
    assert ran.planned(*TARGETS) == set()
    module = ran / "workflow/hyperkv/stores/shelf.py"
    module.write_text(module.read_text().replace('"save": ""', '"save": "", "maxclients": 100'))
    measured = {
        "measure_scenario shelf_resp 1",
        "profile_store shelf_resp",
        "profile_layers shelf_resp",
    }
    assert {job for job in ran.planned(*TARGETS) if "shelf_resp" in job} == measured
