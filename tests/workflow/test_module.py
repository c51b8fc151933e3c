"""The workflow as a module of another one, on this machine: what is planned, made, and said where it cannot run."""

import re
from pathlib import Path

import pytest

from tests.workflow_helpers import Checkout

pytestmark = pytest.mark.slow

MODELS = '{"break_even": {"models": ["config/models/llama-3.2-1b.json"], "gpus": ["config/gpus/l4.yaml"]}}'
OTHER = """
{workdir}

module hyperkv:
    snakefile: "{checkout}/Snakefile"
    config: {config}

use rule * from hyperkv as hyperkv_*

rule mine:
    default_target: True
    input: "results/predict/break_even.csv"
    output: "{folder}/mine.csv"
    shell: "cp {{input}} {{output}}"

onstart: hyperkv.onstart()
onsuccess: hyperkv.onsuccess()
onerror: hyperkv.onerror()
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    return Checkout.new(tmp_path_factory.mktemp("module") / "checkout", {})


def other(folder: Path, checkout: Checkout, config: str = MODELS, workdir: str | None = None) -> Checkout:
    """A folder with a workflow of somebody else's. workdir: its directive, by default of the checkout."""
    folder.mkdir()
    placed = f'workdir: "{checkout.folder}"' if workdir is None else workdir
    text = OTHER.format(workdir=placed, checkout=checkout.folder, config=config, folder=folder)
    (folder / "Snakefile").write_text(text)
    return Checkout(folder)


def snakemake(workflow: Checkout, *words: str) -> tuple[int, str]:
    return workflow.forked("--cores", "2", *words)


def test_what_it_needs_is_planned_with_its_rules_renamed(checkout, tmp_path):
    workflow = other(tmp_path / "other", checkout)
    status, output = snakemake(workflow, "--dry-run")
    assert status == 0, output
    assert set(re.findall(r"^\w*rule (\w+):$", output, re.MULTILINE)) == {
        "hyperkv_predict_break_even",
        "mine",
    }
    status, output = snakemake(workflow, "hyperkv_all", "--dry-run")
    assert status == 0, output
    assert {"hyperkv_measure_scenario", "hyperkv_make_page", "hyperkv_make_summary"} <= set(
        re.findall(r"^\w*rule (\w+):$", output, re.MULTILINE)
    )


def test_its_results_are_made_once_with_the_given_configuration_on_top_of_the_shipped_one(checkout, tmp_path):
    workflow = other(tmp_path / "other", checkout)
    status, output = snakemake(workflow, "--quiet", "rules")
    assert status == 0, output
    assert "hyperkv: 0 of 2 steps" in output
    made = (workflow / "mine.csv").read_text()
    assert made == (checkout / "results/predict/break_even.csv").read_text()
    assert {line.split(",")[0] for line in made.splitlines()[1:]} == {"llama-3.2-1b"}
    status, output = snakemake(workflow)
    assert status == 0, output
    assert "Nothing to be done" in output
    assert "made again" not in output


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": '{"break_evn": {}}'}, "WorkflowError.*config: .*break_evn"),
        (
            {"workdir": ""},
            'HyperKV runs in its own folder and this is .*/other: .*as a module `workdir: "{}"`',
        ),
    ],
    ids=["a key that is not known", "another working directory"],
)
def test_what_is_wrong_is_said_in_a_line(checkout, tmp_path, changes, said):
    status, output = snakemake(other(tmp_path / "other", checkout, **changes), "--dry-run")
    assert status == 1
    assert re.search(said.format(checkout.folder), output.replace("\n", " ")), output
    assert "Traceback" not in output


def test_what_is_made_where_snakemake_runs_is_so_under_its_new_name(checkout, tmp_path):
    workflow = other(tmp_path / "other", checkout)
    nowhere = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", "false", "--jobs", "1"]
    status, output = workflow.forked("hyperkv_write_columns", *nowhere)
    assert status == 0, output
    assert (checkout / "results/tables/columns.csv").exists()
