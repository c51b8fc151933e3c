"""`snakemake tune` on a real Valkey: it ends with what it promises, again measures nothing, and survives a kill."""

import csv
import json
import os
import shutil
import signal

import pytest
import yaml

from tests.helpers import eventually
from tests.workflow_helpers import CONFIGS, TINY, Checkout, changed, merged
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.tune import tune_spec
from workflow.hyperkv.records.record_file import read_records

pytestmark = pytest.mark.slow

FOLDER = "results/tune/valkey_striped"
SEARCH = {"search_settings valkey_striped"}
JOBS = {*SEARCH, "write_tune", "draw_tune"}
SECTION = {
    "scenarios": ["valkey_striped"],
    "trials": 4,
    "budget_minutes": 2,
    "finalists": 1,
    "repeats": 2,
    "prompt_tokens": 64,
    "space": {
        "connections": [1, 2, 3, 4],
        "stripe_bytes": ["64 KiB", "256 KiB"],
        "settings.io-threads": [1],
        "settings.workers": [1],
    },
}
CONFIG = changed(TINY, {"scenarios.valkey_striped": {"chunk_tokens": 16}})


def configured(**section) -> dict:
    """The tiny config with a tiny search; the space replaces the repository's own."""
    return changed(CONFIG, {"tune": {**SECTION, **section}})


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> tuple[Checkout, str]:
    """A checkout after a search, and what was printed. Not to be changed."""
    checkout = new_checkout(tmp_path_factory.mktemp("tune") / "checkout")
    status, output = checkout.snakemake("tune")
    assert status == 0, output
    return checkout, output


def new_checkout(folder) -> Checkout:
    """A checkout whose own config has no space, so that the tiny one is all there is."""
    checkout = Checkout.new(folder, configured())
    path = checkout / "config/config.yaml"
    own = yaml.safe_load(path.read_text())
    own["tune"]["space"] = {}
    path.write_text(yaml.safe_dump(own))
    return checkout


@pytest.fixture
def checkout(complete, tmp_path) -> Checkout:
    return complete[0].copy(tmp_path / "checkout")


def lines(checkout, name):
    return read_records(checkout / f"{FOLDER}/{name}")


def test_a_search_leaves_its_evidence_and_a_configuration(complete):
    checkout, output = complete
    trials = lines(checkout, "trials.jsonl")
    assert [trial["trial"] for trial in trials] == [0, 1, 2, 3]
    assert trials[0]["parameters"] == {"connections": 2, "stripe_bytes": 1 << 20, "settings.io-threads": None}
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    assert all(entry["get_gbps"] > 0 for trial in trials for entry in trial["rounds"])
    evidence = json.loads((checkout / f"{FOLDER}/evidence.json").read_text())
    assert evidence["left_out"] == ["settings.workers is left out: store valkey has no such key"]
    assert [len(item["repeats"]) for item in evidence["finalists"]] == [2, 2]
    assert all(entry["valid"] and entry["value"] > 0 for entry in evidence["finalists"][0]["repeats"])
    assert evidence["environment"]["cores"]
    assert f"hyperkv tune: {evidence['in_words']}" in output
    scenarios = yaml.safe_load((checkout / f"{FOLDER}/winner.yaml").read_text())["scenarios"]
    winner = scenarios["valkey_striped_tuned"]
    fixed = {"store": "valkey", "connector": "striped", "chunk_tokens": 16}
    assert fixed.items() <= winner.items()
    found = {name: winner.get(name, winner["settings"].get("io-threads")) for name in evidence["winner"]}
    assert found == evidence["winner"]
    with (checkout / "results/tables/tune.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["level"] for row in rows][:4] == ["store"] * 4
    assert {row["state"] for row in rows if row["level"] == "engine"} == {"valid"}
    dictionary = yaml.safe_load((checkout / "workflow/schemas/columns.yaml").read_text())
    assert list(rows[0]) == list(dictionary["tune"])
    assert (checkout / "results/figures/tune.png").read_bytes().startswith(b"\x89PNG")
    assert not list(checkout.folder.glob("results/data/*"))


def test_the_winner_is_a_scenario_that_can_be_measured(complete, tmp_path):
    checkout = complete[0].copy(tmp_path / "checkout")
    winner = yaml.safe_load((checkout / f"{FOLDER}/winner.yaml").read_text())
    checkout.configure(
        changed(configured(), {"scenarios.valkey_striped_tuned": winner["scenarios"]["valkey_striped_tuned"]})
    )
    status, output = checkout.sweep("valkey_striped_tuned")
    assert status == 0, output


@pytest.mark.parametrize(
    "change",
    [
        {"finalists": 2},
        {"space": {"connections": [1, 2, 4, 8]}},
        {"objective": {"metric": "ttft_p50_ms", "load": 1}},
    ],
)
def test_another_search_runs_again(checkout, change):
    checkout.configure(configured(**change))
    assert checkout.planned("tune") == JOBS


def test_nothing_runs_again_but_what_uses_the_code_that_was_edited(checkout):
    for name, jobs in (
        ("figures/tune", {"draw_tune"}),
        ("tables/tune", JOBS - SEARCH),
        ("stores/valkey", JOBS),
    ):
        with (checkout / f"workflow/hyperkv/{name}.py").open("a") as file:
            file.write("CHANGED = True\n")
        assert checkout.planned("tune") == jobs


def test_without_metadata_a_search_says_what_it_is_of(checkout):
    shutil.rmtree(checkout / ".snakemake")
    assert checkout.planned("tune") == JOBS - SEARCH
    for name, edit in [
        ("evidence.json", lambda text: text.replace('"made": "', '"made": "0')),
        ("winner.yaml", lambda text: text[: len(text) // 2]),
    ]:
        path = checkout / f"{FOLDER}/{name}"
        text = path.read_text()
        path.write_text(edit(text))
        assert checkout.planned("tune") == JOBS
        path.write_text(text)
    assert checkout.planned("tune") == JOBS - SEARCH


def test_the_search_is_no_part_of_a_run(complete):
    assert not {job for job in complete[0].planned() if "tune" in job or "search" in job}


def test_more_trials_go_on_with_the_same_study_and_another_space_begins_one(checkout):
    before = lines(checkout, "trials.jsonl")
    searched = f"{FOLDER}/evidence.json"
    checkout.configure(configured(trials=5))
    status, output = checkout.snakemake(searched)
    assert status == 0, output
    assert lines(checkout, "trials.jsonl")[:4] == before
    assert "trial 4" in output
    assert "trial 3" not in output
    space = {**SECTION["space"], "connections": [1, 2, 4, 6]}
    checkout.configure(configured(space=space))
    status, output = checkout.snakemake(searched)
    assert status == 0, output
    assert "trial 0, as it is" in output
    assert lines(checkout, "trials.jsonl") != before


def tune_argv(checkout, **changes) -> list[str]:
    """The command line, after python, of the search. changes: of the scenario's slice."""
    config = checked(merged(*[yaml.safe_load((checkout / name).read_text()) for name in CONFIGS]))
    spec = json.loads(tune_spec(config, "valkey_striped"))
    for key, value in changes.items():
        spec["sweep"][key] |= value
    return ["-m", "workflow.hyperkv.tune.search_settings", "--spec", json.dumps(spec), "--out", FOLDER]


def test_a_killed_search_goes_on(tmp_path):
    checkout = new_checkout(tmp_path / "checkout")
    argv = tune_argv(checkout)
    journal = checkout / f"{FOLDER}/finalists.jsonl.partial"
    with checkout.start(*argv) as process:
        eventually(lambda: journal.exists() and journal.read_text().endswith("\n"))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        eventually(lambda: not checkout.processes())
    kept = journal.read_text().splitlines()
    status, output = checkout.run(*argv)
    assert status == 0, output
    assert "hyperkv tune: trial" not in output
    found = lines(checkout, "finalists.jsonl")
    assert json.loads(kept[0])["record"].items() <= found[0].items()


def test_a_search_that_cannot_be_stops_before_anything_runs(checkout):
    """What else can be wrong with a search is in test_resolve."""
    checkout.configure(configured(scenarios=[]))
    status, output = checkout.snakemake("tune", "--dry-run")
    assert status == 1
    assert "tune.scenarios: none can be measured here (it is empty); name another one" in output


def test_a_search_without_a_complete_trial_fails_and_says_why(tmp_path):
    checkout = new_checkout(tmp_path / "checkout")
    argv = tune_argv(checkout, scenario={"settings": {"no-such-key": "x"}})
    status, output = checkout.run(*argv)
    assert status == 2
    assert (
        "hyperkv tune: error: no trial of valkey_striped was complete; the first: store valkey ended with"
        in output
    )
    assert "delete results/tune/valkey_striped/study.journal" in output
