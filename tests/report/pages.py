"""Pages of the committed reference runs, and of variations of their tables, by the stages themselves."""

import atexit
import json
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pandas as pd
import yaml

from tests.helpers import command
from tests.kept import H100, LAPTOP, kept, spread_out
from tests.tables.pays_rows import pair, table_of
from tests.workflow_helpers import merged
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import cost_spec, recommend_spec
from workflow.hyperkv.figures import looks
from workflow.hyperkv.figures.latency import draw_latency
from workflow.hyperkv.figures.pays import draw_pays
from workflow.hyperkv.figures.style import save
from workflow.hyperkv.recommend import choose_scenario
from workflow.hyperkv.report import make_page, make_run_page
from workflow.hyperkv.stores import registry
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.latency import latency_table
from workflow.hyperkv.tables.ratios import ratios_table
from workflow.hyperkv.tables.scenarios import scenarios_table

PICTURES = Path("docs/results")
SECTIONS = (
    "answer",
    "sweep",
    "pictures",
    "recommendation",
    "ratios",
    "scenarios",
    "evidence",
    "limits",
    "environment",
    "reproduce",
)
FEW = ("none", "dram", "valkey_chunks-256", "files", "valkey_resp", "rocksdb_resp")
HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'text'"

PAYS = table_of(
    [
        pair(model, gpu, tokens)
        for model in ("llama-3.1-8b", "m & <n>")
        for gpu in ("NVIDIA H100 80GB HBM3", "NVIDIA L4 24GB (derived)")
        for tokens in (8192, 32768)
    ]
)
CLAIMS = pd.DataFrame(
    {
        "claim": ["one", "two", "three"],
        "statement": ["DRAM serves 2.5 times the requests", HOSTILE, "Chunks of 1,024 lose 8 points"],
        "source": ["the reference project", "ours", "ours"],
        "verdict": ["refuted", "confirmed", "undecided"],
        "value": [1.03, 4.2, None],
        "low": [1.02, 4.1, None],
        "high": [1.16, 4.4, None],
        "unit": ["ratio", "ratio", "share"],
        "condition": ["2 <= value <= 3", "value > 1", "0.06 <= value"],
        "reason": ["dram over files", HOSTILE, "nothing was measured at chunk 1024"],
        "cells": [6, 6, 0],
        "machine": ["2 x AMD EPYC", "2 x AMD EPYC", ""],
        "run": ["replay", "replay", ""],
    }
)
COST = pd.DataFrame(
    {
        "scenario": ["none", "dram", "none"],
        "at": ["slo", "slo", "load"],
        "load": [None, None, 4.0],
        "valid": [True, False, True],
        "slo_tps_per_user": [427.0, 427.0, None],
        "slo_ttft_p95_ms": [None, 500.0, None],
        "users_at_least": [True, False, False],
        "users_per_gpu": [4.0, 3.5, 4.0],
        "users_per_gpu_low": [3.9, None, None],
        "users_per_gpu_high": [4.1, None, None],
        "usd_per_million_tokens": [0.123, 0.125, 9.0],
        "usd_per_million_tokens_low": [0.12, None, None],
        "usd_per_million_tokens_high": [0.13, None, None],
        "usd_per_hour": [2.5, 2.6, 2.5],
        "endurance_years": [None, 12.0, None],
    }
)


def cells_of(reference: Path) -> pd.DataFrame:
    """A kept run's cells."""
    return cells_table(kept(reference).of("cell")).fillna({"reasons": "", "notes": ""})


def few_cells() -> pd.DataFrame:
    """The reference run's cells with the replay engine, of six scenarios."""
    cells = cells_of(LAPTOP)
    return cells[cells["scenario"].isin(FEW)]


def spoiled(cells: pd.DataFrame, scenario: str, reason: str = HOSTILE) -> pd.DataFrame:
    """The cells with those of a scenario invalid, for that reason."""
    copy = cells.copy()
    copy.loc[copy["scenario"] == scenario, ["valid", "reasons", "served_from"]] = [False, reason, "ram"]
    return copy


def drawn_pays(folder: Path) -> Path:
    """The figure of table PAYS."""
    folder.mkdir(exist_ok=True)
    save(lambda: draw_pays(PAYS), folder / "pays.svg")
    return folder / "pays.svg"


def drawn_latency(folder: Path, reference: Path = H100) -> tuple[pd.DataFrame, Path]:
    """Table and figure of a kept run's single requests."""
    folder.mkdir(exist_ok=True)
    table = latency_table(kept(reference).of("single"))
    table[["store", "connector"]] = table[["store", "connector"]].fillna("")
    save(lambda: draw_latency(table), folder / "latency.svg")
    return table, folder / "latency.svg"


def kept_cost() -> pd.DataFrame:
    """The table that the picture of the laptop's cost is drawn of."""
    spec = json.loads(cost_spec(default_configuration()))
    return make_run_page.tables_of(kept(LAPTOP), spec)["cost"]


def default_configuration() -> dict:
    """What `make run` runs."""
    names = ("config/scenarios.yaml", "config/config.yaml")
    return checked(merged(*(yaml.safe_load(Path(name).read_text()) for name in names)))


def kept_pictures(reference: Path = LAPTOP) -> list[Path]:
    """The pictures of a kept run's page: those in docs, or drawn."""
    run = kept(reference)
    return sorted((PICTURES / run.name).glob("*.svg")) or drawn_pictures(reference)


@cache
def drawn_pictures(reference: Path) -> list[Path]:
    """The pictures that a kept run's page would have."""
    run, folder = kept(reference), Path(mkdtemp())
    atexit.register(rmtree, folder)
    looks.know(registry.looks())
    make_run_page.drawn(
        run, make_run_page.tables_of(run, json.loads(cost_spec(default_configuration()))), folder
    )
    return sorted(folder.glob("*.svg"))


def page_of(
    folder: Path,
    cells: pd.DataFrame,
    reference: Path = LAPTOP,
    environments: list[dict] | None = None,
    extra: dict[str, pd.DataFrame] | None = None,
    figures: list[Path] | None = None,
    checks: list[dict] | None = None,
    baseline: str | None = "dram",
) -> Path:
    """The page of cells, in a folder that is made; tables and recommendation are worked out from them."""
    folder.mkdir()
    run_ = kept(reference)
    scenarios = scenarios_table(cells)
    there = baseline if baseline in set(cells["scenario"]) else None
    found = {"cells": cells, "scenarios": scenarios, "ratios": ratios_table(cells, there), **(extra or {})}
    for name, table in found.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    recommended = [folder / "recommendation.json"]
    records = spread_out([*run_.of("cell"), *run_.of("single")], folder / "records")
    command(
        choose_scenario,
        "--spec",
        recommend_spec(default_configuration()),
        "--table",
        folder / "cells.csv",
        "--cells",
        *records,
        "--out",
        recommended[0],
        "--readme",
        folder / "README.txt",
        "--files",
        folder / "files",
    )
    if checks is not None:
        recommended.append(folder / "check.json")
        recommended[1].write_text(json.dumps(checks))
    told = run_.environments if environments is None else environments
    (folder / "environment.json").write_text(json.dumps(told))
    predicted = PICTURES / kept(LAPTOP).name / "break_even.svg"
    pictures = dict.fromkeys([*kept_pictures(reference), predicted])
    command(
        make_page,
        "--template",
        "workflow/report/page.html.j2",
        "--captions",
        *sorted(Path("workflow/report/figures").glob("*.rst")),
        "--tables",
        *(folder / f"{name}.csv" for name in found),
        folder / "environment.json",
        "--recommended",
        *recommended,
        "--figures",
        *(pictures if figures is None else figures),
        "--records",
        *records,
        "--out",
        folder / "index.html",
    )
    return folder / "index.html"
