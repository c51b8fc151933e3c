"""A table, a figure on the page, a claim, a GPU and a model that nobody has, added as CONTRIBUTING.md says: only what is new is made."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow_helpers import TINY, Checkout, changed

MADE_UP = Path(__file__).parent / "made_up"
GPU, MODEL = "config/gpus/abacus.yaml", "config/models/own.json"
COLUMNS = """
  spread:
  - scenario load
  - rps_spread: share | Highest less lowest RPS/GPU of the repeats, over their mean.
"""
RULE = """

rule write_spread:
    input:
        cells=rules.write_cells.output.parquet,
    output:
        "<tables>/spread.csv",
    log:
        "<logs>/tables/spread.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.spread"),
    shell:
        "python -m workflow.hyperkv.tables.spread --cells {input.cells:q} --out {output:q} 2> {log:q}"
"""
CLAIM = """
  - id: valkey_serves_half_of_dram
    statement: Valkey serves half the requests that DRAM does, at least
    source: nobody
    kind: ratio
    table: cells
    column: rps_per_gpu
    where: {chunk_tokens: compared, load: highest}
    of: {scenario: valkey_resp}
    over: {store: dram}
    at_least: 0.5
    unit: ratio
"""
PUBLISHED = """
abacus:
  name: Abacus
  memory_gb: 100
  dense_bf16_tflops: 494.7
  memory_gbps: 1675
  host_link_gbps: 32
  source: nobody
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def put(path: Path, before: str, new: str) -> None:
    """Write `new` into a file ahead of `before`, which must be there."""
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, new + before, 1))


def add_table_and_figure(checkout: Checkout) -> None:
    for room in ("table", "figure"):
        shutil.copy(MADE_UP / f"spread_{room}.py", checkout / f"workflow/hyperkv/{room}s/spread.py")
    with (checkout / "workflow/schemas/derived_columns.yaml").open("a") as columns:
        columns.write(COLUMNS)
    status, text = checkout.run("-m", "workflow.hyperkv.records.columns")
    assert status == 0, text
    (checkout / "workflow/schemas/columns.yaml").write_text(text)
    with (checkout / "workflow/rules/tables.smk").open("a") as rules:
        rules.write(RULE)
    line = '    "spread": rules.write_spread.output[0],\n'
    put(checkout / "workflow/rules/figures.smk", "}\nDRAWN = {", line)
    (checkout / "workflow/report/figures/spread.rst").write_text("The range of the repeats over their mean.")
    place = '    {"spread": "How far repeats lie apart"},\n'
    put(checkout / "workflow/hyperkv/report/make_page.py", ")\nFIGURES = ", place)


def add_claim(checkout: Checkout) -> None:
    with (checkout / "config/claims.yaml").open("a") as claims:
        claims.write(CLAIM)


def add_gpu_and_model(checkout: Checkout) -> None:
    with (checkout / "config/published_gpus.yaml").open("a") as published:
        published.write(PUBLISHED)
    status, text = checkout.run("-m", "workflow.hyperkv.models.derive_gpu", "--gpu", "abacus")
    assert status == 0, text
    model = json.loads((checkout / "config/models/llama-3.2-1b.json").read_text())
    (checkout / MODEL).write_text(json.dumps(model | {"num_hidden_layers": 20}))
    checkout.configure(changed(TINY, {"break_even.gpus": [GPU], "break_even.models": [MODEL]}))


PAGE = {"make_page"}
# In this order nothing that is made anew hides what comes after it.
ADDED = (
    (add_claim, {"write_claims"} | PAGE),
    (
        add_gpu_and_model,
        {
            "predict_break_even",
            "place_stores",
            "write_pays",
            "write_predicted",
            "write_summary",
            "make_summary",
        }
        | {"draw_pays", "draw_break_even"}
        | PAGE,
    ),
    (add_table_and_figure, {"write_spread", "draw_spread", "write_columns"} | PAGE),
)


@pytest.fixture(scope="module")
def ran(complete, tmp_path_factory) -> Checkout:
    """A checkout on which the workflow ran."""
    return complete[0].copy(tmp_path_factory.mktemp("made_up") / "checkout")


@pytest.fixture(scope="module")
def planned(ran) -> list[set[str]]:
    """What is planned on it after one and another was added."""
    found = []
    for add, _ in ADDED:
        add(ran)
        found.append(ran.planned("all"))
    return found


@pytest.fixture(scope="module")
def added(ran, planned) -> Checkout:
    """The same, after it ran again."""
    status, output = ran.snakemake("all")
    assert status == 0, output
    return ran


def test_only_what_is_new_is_made(planned):
    wanted: set[str] = set()
    for found, (_, jobs) in zip(planned, ADDED, strict=True):
        wanted |= jobs
        assert found == wanted


def test_the_figure_is_on_the_page_with_its_title_and_caption(added):
    page = (added / "results/report/index.html").read_text()
    figure = re.search(r'<figure id="figure-spread".*?</figure>', page, re.DOTALL)[0]
    assert "How far repeats lie apart" in page
    assert "<svg" in figure
    assert "The range of the repeats over their mean." in figure


def test_the_claim_is_decided(added):
    claims = pd.read_csv(added / "results/tables/claims.csv", index_col="claim")
    claim = claims.loc["valkey_serves_half_of_dram"]
    assert claim["value"] > 0, claim["reason"]


def test_the_gpu_and_the_model_have_their_row(added):
    pays = pd.read_csv(added / "results/tables/pays.csv")
    assert set(pays["model"]) == {"own"}
    assert pays["gpu"].str.startswith("Abacus").all()
