"""Stage html_report: one self-contained page of a run, for who decides and for who builds.

python -m workflow.hyperkv.report.write_page --template workflow/report/page.html.j2 --captions workflow/report --tables results/tables/*.csv results/tables/environment.json --recommended results/recommended/recommendation.json results/recommended/check.json --figures results/figures/*.svg --out results/report/index.html
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..base.cli import run_stage
from ..base.errors import UserError
from ..recommend.recommendation_text import objective_words
from ..records.frames import read_csv, read_json
from ..tables.methods.layers_text import WORDS
from . import content

FIGURES = {
    "tier_tradeoff": "What each tier serves: requests per GPU against speed for each user",
    "latency": "How long a single prompt waits, computed or loaded",
    "transport_medium": "What is lost to the way (in process, RESP) and what to the medium (RAM, SSD)",
    "chunk": "What the chunk size does to hits and to throughput",
    "cost": "What it costs",
    "break_even": "When loading beats computing",
}
PLACES = (("tier_tradeoff",), ("latency", "transport_medium"), ("chunk",), ("cost", "break_even"))
NEEDED = ("cells", "scenarios", "ratios", "environment", "recommendation")


@dataclass(frozen=True)
class Picture:
    """A figure of the page. source: a data URI."""

    name: str
    title: str
    source: str
    caption: str


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.report.write_page", description=__doc__)
    parser.add_argument("--template", required=True, type=Path, help="the page's Jinja template")
    parser.add_argument("--captions", required=True, type=Path, help="folder of the figures' captions")
    parser.add_argument(
        "--tables",
        required=True,
        nargs="+",
        type=Path,
        help="cells, scenarios, ratios .csv and environment.json; layers, claims and cost .csv where they are",
    )
    parser.add_argument(
        "--recommended", required=True, nargs="+", type=Path, help="recommendation.json, check.json"
    )
    parser.add_argument("--figures", nargs="*", default=[], type=Path, help="SVG files")
    parser.add_argument("--out", required=True, type=Path, help="HTML file")
    arguments = parser.parse_args()
    found = read(arguments.tables + arguments.recommended)
    chosen = chosen_figures(arguments.figures)
    pictures = [picture(path, arguments.captions) for path in chosen]
    arguments.out.write_text(page(found, pictures, arguments.template))


def read(paths: Sequence[Path]) -> dict[str, Any]:
    """Tables and JSON files by name. Raises UserError naming one that is missing among them."""
    found = {
        path.stem: read_json(path)
        if path.suffix == ".json"
        else read_csv(path, keep_default_na=False, na_values=[""])
        for path in paths
    }
    if missing := [name for name in NEEDED if name not in found]:
        raise UserError(
            f"html_report: {', '.join(missing)} is not among the files; give its path with --tables"
        )
    return found


def chosen_figures(paths: Sequence[Path]) -> list[Path]:
    """At most one figure for each place of the page, the first that is there."""
    there = {path.stem: path for path in paths}
    firsts = (next((there[name] for name in names if name in there), None) for names in PLACES)
    return [path for path in firsts if path is not None]


def picture(path: Path, captions: Path) -> Picture:
    """A figure with its title and caption, as a data URI."""
    name = path.stem
    encoded = base64.b64encode(path.read_bytes()).decode()
    return Picture(name, FIGURES[name], f"data:image/svg+xml;base64,{encoded}", caption_of(name, captions))


def caption_of(name: str, folder: Path) -> str:
    """A figure's caption of figure.rst, else of its own file, as one paragraph without markup. Raises UserError without one."""
    snakemake = SimpleNamespace(wildcards=SimpleNamespace(figure=name))
    for path in (folder / "figure.rst", folder / f"{name}.rst"):
        if path.exists():
            template = Environment(undefined=StrictUndefined).from_string(path.read_text())
            if text := re.sub(r"\s+", " ", template.render(snakemake=snakemake).replace("``", "")).strip():
                return text
    raise UserError(f"html_report: {folder} has no caption for figure {name}")


def page(found: Mapping[str, Any], pictures: Sequence[Picture], template: Path) -> str:
    """The page's HTML. found: see read."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**texts(found), pictures=pictures)


def texts(found: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template shows beside the pictures."""
    cells, scenarios, recommendation = found["cells"], found["scenarios"], found["recommendation"]
    environments, ratios = found["environment"], found["ratios"].dropna(subset=["baseline"])
    claims, cost, layers = (_rows(found.get(name)) for name in ("claims", "cost", "layers"))
    return {
        "question": content.QUESTION,
        "answer": [recommendation["answer"], content.price_of_ssd(scenarios, ratios)],
        "verdicts": None if claims is None else content.verdicts_sentence(claims),
        "run": run_words(recommendation),
        "recommendation": recommendation,
        "objective": objective_words(recommendation["objective"]),
        "ranking": content.ranking_rows(recommendation),
        "left_out": content.left_out_rows(recommendation),
        "checks": found.get("check", []),
        "baseline": None if ratios.empty else ratios.iloc[0]["baseline"],
        "ratios": content.ratios_rows(ratios),
        "scenarios": content.scenario_rows(scenarios),
        "layers": None if layers is None else content.layers_rows(layers, WORDS),
        "claims": None if claims is None else content.claims_rows(claims),
        "cost": None if cost is None else content.cost_rows(cost),
        "evidence": content.evidence_items(cells),
        "invalid": content.invalid_rows(cells),
        "limits": content.limits(cells, environments),
        "environments": [content.environment_items(environment) for environment in environments],
        "commit": content.commit_of(environments),
        "measured": measured_words(cells),
    }


def _rows(table: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if table is None or table.empty else table


def run_words(recommendation: Mapping[str, Any]) -> str:
    """'Engine replay, model llama-3.2-1b, GPU NVIDIA H100 (modelled)'."""
    gpu = recommendation["gpu"] or "not told"
    modelled = " (modelled)" if "replay" in (recommendation["engine"] or "") else ""
    return f"Engine {recommendation['engine']}, model {recommendation['model']}, GPU {gpu}{modelled}"


def measured_words(cells: pd.DataFrame) -> str:
    """'24 November 2026', or the first and the last day of the cells."""
    days = pd.to_datetime(cells["started_at"], utc=True).dt.date
    first, last = (f"{day.day} {day:%B %Y}" for day in (days.min(), days.max()))
    return first if first == last else f"{first} to {last}"


if __name__ == "__main__":
    sys.exit(run_stage("html_report", main))
