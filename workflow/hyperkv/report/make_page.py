"""Stage make_page: one self-contained page of a run, for who decides and for who builds.

python -m workflow.hyperkv.report.make_page --template workflow/report/page.html.j2 --captions workflow/report/figures/*.rst --tables results/tables/*.csv results/tables/environment.json --recommended results/recommended/recommendation.json results/recommended/check.json --figures results/figures/*.svg --records results/sweep/*/*.jsonl results/profile/*.jsonl --out results/report/index.html
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Files
from ..recommend.recommendation_text import objective_words
from ..records.frames import Asked, read_named
from ..records.templates import environment
from ..tables.methods.pays_text import answer, caveat
from ..tables.methods.predicted_text import counts_words
from ..tables.methods.substitution import WORDS
from ..tables.methods.told_apart import told_apart
from . import facts, rows
from .answer import price_of_ssd
from .inline import inlined
from .run_rows import predicted_rows
from .sources import Sources, cell_rows, pays_rows, single_rows, sources_of, sweep_rows

# The page's figures in order, with their titles; of several at one place the first that is there is shown.
PLACES = (
    {"pays": "For which models and GPUs this machine's storage pays"},
    {"sharing": "What sharing one store among engines buys"},
    {"tier_tradeoff": "What each tier serves: requests per GPU against speed for each user"},
    {
        "latency": "How long a single prompt waits, computed or loaded",
        "transport_medium": "What is lost to the way (in process, from files that a server names, RESP) and what to the medium (RAM, SSD)",
    },
    {"chunk": "What the chunk size does to hits and to throughput"},
    {"cost": "What it costs", "break_even": "When loading beats computing"},
)
FIGURES = {name: title for titles in PLACES for name, title in titles.items()}
NEEDED = ("cells", "scenarios", "ratios", "environment", "recommendation")


@dataclass(frozen=True)
class Picture:
    """A figure of the page. source: an SVG element, or of a Markdown page the address of its file."""

    name: str
    title: str
    source: str
    caption: str


def main(
    *,
    template: Path,
    captions: Files = (),
    tables: Files,
    recommended: Files,
    figures: Files = (),
    records: Files = (),
    asked: Asked = None,
    out: Path,
) -> None:
    """Write the page.

    Args:
        template: the page's Jinja template.
        captions: the figures' captions, .rst.
        tables: cells, scenarios, ratios .csv and environment.json; pays, latency, predicted, layers, claims and cost .csv where they are.
        recommended: recommendation.json, check.json.
        figures: SVG files.
        records: JSONL files of the sweep and of the stores alone, which the page leads to.
        out: HTML file.
    """
    found, shown = read_named([*tables, *recommended], NEEDED), pictures(figures, captions)
    out.write_text(page(found, shown, template, sources_of(records, out, asked)))


def pictures(figures: Sequence[Path], captions: Sequence[Path]) -> list[Picture]:
    """For each place of the page its first figure that is there, if any, with its caption.

    Raises UserError for one without a caption.
    """
    there = {path.stem: path for path in figures}
    told = {path.stem: path.read_text() for path in captions}
    found = []
    for names in PLACES:
        for name in [name for name in names if name in there][:1]:
            if not (caption := paragraph(told.get(name, ""))):
                raise UserError(f"figure {name} has no caption; give {name}.rst with --captions")
            first = caption.replace("`", "").split(". ")[0].strip(".")
            about = f"{FIGURES[name]}. {first}. The numbers are in the tables below."
            found.append(Picture(name, FIGURES[name], inlined(there[name], about), caption))
    return found


def paragraph(caption: str) -> str:
    """A caption in reStructuredText as one paragraph of Markdown: `code` is all the markup that captions have."""
    return " ".join(caption.replace("``", "`").split())


def page(found: Mapping[str, Any], shown: Sequence[Picture], template: Path, sources: Sources) -> str:
    """The page's HTML. found: see found.read."""
    found_in = environment(template.parent, html=True)
    return found_in.get_template(template.name).render(**contents(found, sources), pictures=shown)


def contents(found: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    """Everything that the template shows beside the pictures."""
    cells, scenarios, recommendation = found["cells"], found["scenarios"], found["recommendation"]
    environments, ratios = found["environment"], found["ratios"].dropna(subset=["baseline"])
    optional = ("claims", "cost", "latency", "layers", "pays", "predicted")
    claims, cost, latency, layers, pays, predicted = (_filled(found.get(name)) for name in optional)
    return {
        "answer": [] if pays is None else [*answer(pays), caveat(pays)],
        "pays": None if pays is None else pays_rows(pays, sources.stores),
        "titles": FIGURES,
        "sweep": sweep_rows(scenarios),
        "told_apart": told_apart(scenarios),
        "price_of_ssd": price_of_ssd(scenarios, ratios),
        "recommendation": recommendation,
        "objective": objective_words(recommendation["objective"]),
        "ranking": rows.ranking_rows(recommendation),
        "left_out": rows.left_out_rows(recommendation),
        "checks": found.get("check", []),
        "baseline": rows.baseline_words(ratios) or None,
        "ratios": rows.ratios_rows(ratios),
        "scenarios": cell_rows(scenarios, cells, sources.cells),
        "latency": None if latency is None else single_rows(latency, sources.singles),
        "predicted": None if predicted is None else predicted_rows(predicted),
        "predicted_counts": "" if predicted is None else counts_words(predicted),
        "layers": None if layers is None else rows.layers_rows(layers, WORDS),
        "claims": None if claims is None else rows.claims_rows(claims),
        "verdicts": None if claims is None else claims["verdict"].value_counts().to_dict(),
        "cost": None if cost is None else rows.cost_rows(cost),
        "evidence": facts.evidence_items(cells),
        "invalid": rows.invalid_rows(cells),
        "bounds": facts.bounds(cells),
        "environments": environments,
        "commit": facts.commit_of(environments),
        "measured": facts.measured_words(cells),
    }


def _filled(table: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if table is None or table.empty else table


if __name__ == "__main__":
    sys.exit(run_stage("make_page", main))
