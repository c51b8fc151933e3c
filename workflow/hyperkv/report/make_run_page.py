"""Rule make_run_page: the page of a kept run for docs, a Markdown file with its tables and a folder with its pictures.

python -m workflow.hyperkv.report.make_run_page --run results/reference/laptop/2026-11-28 --captions workflow/report/figures/*.rst --stores '{...}' --spec '{...}' --predicted results/predict/hit_rates.csv results/predict/break_even.csv --out docs/results/laptop-2026-11-28.md --figures docs/results/laptop-2026-11-28
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Files, Spec
from ..figures import looks
from ..figures.array import draw_array
from ..figures.break_even import draw_break_even
from ..figures.chunk import draw_chunk
from ..figures.cost import draw_cost
from ..figures.hit_rate import draw_hit_rate
from ..figures.latency import draw_latency
from ..figures.layers import draw_layers
from ..figures.pays import draw_pays
from ..figures.sharing import draw_sharing
from ..figures.stores import draw_stores
from ..figures.style import read_table, save
from ..figures.tier_tradeoff import draw_tier_tradeoff
from ..figures.transport_medium import draw_transport_medium
from ..predict.break_even_text import PROMPT_TOKENS
from ..predict.place_stores import machine_of, placed_stores_table
from ..predict.request_time import FITTED
from ..records.frames import read_csv
from ..records.hardware import mixed
from ..records.kept_run import KeptRun, name_before_device, read_about, read_run
from ..records.stats import interval_word
from ..records.templates import filled
from ..tables.array import array_table
from ..tables.cells import cells_table
from ..tables.cost import cost_table, repeats_table, sensitivity_table, values_of
from ..tables.latency import latency_table
from ..tables.layers import layers_table
from ..tables.limits import device_limits, limits_table
from ..tables.methods.layers_text import WORDS
from ..tables.methods.over_recompute import cell_ratios, single_ratios
from ..tables.methods.pays_text import answer, caveat
from ..tables.methods.predicted_text import counts_words
from ..tables.pays import pays_table
from ..tables.predicted import predicted_table
from ..tables.scenarios import scenarios_table
from ..tables.sharing import sharing_table
from ..tables.stores import stores_table
from . import facts, gpu_answer, machines, rows, run_rows
from .make_page import FIGURES, Picture, paragraph

TITLES = FIGURES | {
    "array": "Which device pays",
    "stores": "Every store alone",
    "layers": "Where the time of a SET and a GET goes",
    "hit_rate": "Predicted hit rate against chunk size",
}
DRAWN: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "pays": (draw_pays, ("pays",)),
    "latency": (draw_latency, ("latency",)),
    "tier_tradeoff": (draw_tier_tradeoff, ("scenarios", "chunk_tokens")),
    "array": (draw_array, ("array",)),
    "sharing": (draw_sharing, ("sharing",)),
    "transport_medium": (draw_transport_medium, ("scenarios", "chunk_tokens")),
    "chunk": (draw_chunk, ("scenarios",)),
    "stores": (draw_stores, ("stores", "limits")),
    "layers": (draw_layers, ("layers",)),
    "cost": (draw_cost, ("cost", "cost_sensitivity", "chunk_tokens")),
    "hit_rate": (draw_hit_rate, ("hit_rates", "cells")),
    "break_even": (draw_break_even, ("break_even", "placed_stores")),
}
EXPERIMENTS = Path("config/experiments")
COMPARING = ("scenarios", "cost", "cost_sensitivity")

Tables = dict[str, pd.DataFrame]


def main(
    *,
    run: Path,
    earlier: Files = (),
    captions: Files = (),
    stores: Spec,
    spec: Spec,
    predicted: Files = (),
    gpus: Files = (),
    out: Path,
    figures: Path,
) -> None:
    """Draw the pictures and write the page.

    Args:
        run: folder of results/reference: MACHINE/DATE.
        earlier: other such folders; those of the same experiment are compared with it.
        captions: the figures' captions, .rst.
        stores: JSON: how stores look.
        spec: JSON: {"prices": {...}, "slo": {...}}.
        predicted: hit_rates.csv, break_even.csv.
        gpus: files of the GPUs that the run may have been measured on.
        out: Markdown file.
        figures: folder for the pictures, beside --out.
    """
    looks.know(stores)
    kept = read_run(run)
    tables = tables_of(kept, spec, gpus) | {path.stem: read_csv(path) for path in predicted}
    tables |= placed(kept, tables)
    told = {path.stem: path.read_text() for path in captions}
    pictures = [
        Picture(name, TITLES[name], f"{figures.name}/{name}.svg", brief(told[name]))
        for name in drawn(kept, tables, figures)
    ]
    out.write_text(page(kept, tables, pictures, same(kept, earlier)))


def same(run: KeptRun, earlier: Sequence[Path]) -> list[machines.Measured]:
    """The run after the earlier ones of the same experiment; nothing without any."""
    own = machines.measured_of(run)
    told = {key: run.about.configuration.get(key) for key in ("engine", "model", "workload")}
    found = []
    for folder in earlier:
        about = read_about(folder)
        if own.records and told.items() <= about.configuration.items():
            other = machines.read(folder)
            found += [] if machines.different(own, other) else [other]
    return [*found, own] if found else []


def brief(caption: str) -> str:
    """The first two sentences of a caption: what is drawn, and how to read it."""
    return " ".join(re.split(r"(?<=\.) ", paragraph(caption))[:2])


def tables_of(run: KeptRun, spec: Mapping[str, Any], gpus: Sequence[Path] = ()) -> Tables:
    """Every table that a run's records give. spec: prices and SLO, as of rule write_cost. gpus: their files."""
    found: Tables = {}
    if cells := run.of("cell"):
        table = cells_table(cells)
        repeats = repeats_table(cells, values_of(spec["prices"]), spec["slo"])
        found |= {
            "cells": table,
            "scenarios": scenarios_table(table),
            "ratios": cell_ratios(table),
            "sharing": sharing_table(cells),
        }
        found |= {"cost": cost_table(repeats), "cost_sensitivity": sensitivity_table(repeats, spec["prices"])}
        found["array"] = array_table(behind_devices(cells), cells, found["cost"])
    if singles := run.of("single"):
        found |= {"latency": latency_table(singles), "singles": single_ratios(singles)}
    if points := run.of("point"):
        found["stores"] = stores_table(points)
        found["limits"] = limits_table([*run.of("limit"), *device_limits(run.of("baseline"))])
    if swept := run.of("cell", "single"):
        found["predicted"] = predicted_table(swept, found.get("stores", pd.DataFrame()), gpus)
    if rungs := run.of("rung"):
        found["layers"] = layers_table(rungs)
    return found


def behind_devices(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The scenarios that were put behind a device, each with its own name before: 'files' of 'files-2gbps'."""
    shaped = [each["scenario"] for each in records if each["spec"]["scenario"].get("shape")]
    return {name: name_before_device(name) for name in shaped}


def placed(run: KeptRun, tables: Tables) -> Tables:
    """Where the stores that a run measured alone lie against break-even, and where they pay; nothing without such stores."""
    if not {"stores", "break_even"} <= tables.keys():
        return {}
    machine = machine_of(run.environments[0], tables["stores"])
    stores = placed_stores_table(tables["break_even"], tables["stores"], machine)
    return {"placed_stores": stores, "pays": pays_table(tables["break_even"], stores)}


def drawn(run: KeptRun, tables: Tables, folder: Path) -> list[str]:
    """Draw the figures that run.yaml names into a folder, and say which they are. Raises UserError for one that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in DRAWN if name in run.about.figures]
    if unknown := sorted({*run.about.figures} - {*names}):
        raise UserError(
            f"{run.folder}: figures: {', '.join(unknown)}: not drawn; there are {', '.join(DRAWN)}"
        )
    with TemporaryDirectory() as scratch:
        read = {name: _as_read(table, Path(scratch)) for name, table in tables.items()}
        for name in names:
            draw, needed = DRAWN[name]
            given = [_given(run, read, each) for each in needed]
            used = [each for each in given if isinstance(each, pd.DataFrame)]
            save(partial(draw, *given), folder / f"{name}.svg", note=mixed(used))
    return names


def page(
    run: KeptRun, tables: Tables, pictures: Sequence[Picture], same: Sequence[machines.Measured] = ()
) -> str:
    """The page as Markdown. same: it and the other runs of its experiment, if any."""
    return filled(
        __file__,
        folder=run.folder,
        run=run.about,
        answer=gpu_answer.quoted(
            [*answer(tables["pays"]), caveat(tables["pays"])]
            if "pays" in tables
            else gpu_answer.answer([run])
        ),
        facts=list(_facts(run, tables)),
        pictures=pictures,
        tables=[
            (heading, told, rows.markdown(found)) for heading, told, found in _shown(run, tables) if found
        ],
        others=[each.name for each in same[:-1]],
        same=machines.text(same) if same else "",
    )


def moved(command: str) -> Iterator[str]:
    """'(`config/h100.yaml` is now `config/experiments/gpu.yaml`)' for each file of a run's command that was moved there since."""
    for name in re.findall(r"\bconfig/[\w./-]+\.yaml", command):
        stem = re.sub("^h100", "gpu", Path(name).stem)
        now = EXPERIMENTS / f"{stem.replace('_', '/', 1)}.yaml"
        if not Path(name).exists() and now.exists():
            yield f"(`{name}` is now `{now}`)"


def _facts(run: KeptRun, tables: Tables) -> Iterator[tuple[str, str]]:
    yield "command", " ".join([f"`{run.about.command}`", *moved(run.about.command)])
    yield "code", ", ".join(commit[:7] for commit in run.about.code)
    yield "records", f"`{run.folder}`"
    yield from run_rows.machine_rows(run.environments)
    if "cells" in tables:
        yield "measured", facts.measured_words(tables["cells"])
        yield "cells", run_rows.cells_words(tables["cells"])


def _shown(run: KeptRun, tables: Tables) -> Iterator[tuple[str, str, rows.Table | None]]:
    """Heading, a sentence and the table itself, of every table of the page."""
    cells, singles = tables.get("cells"), tables.get("singles")
    if cells is not None:
        repeats = tables["scenarios"]["repeats"].max()
        several = f"Medians with the {interval_word(repeats)} over repeats, ratios paired by repeat. "
        told = (several if repeats > 1 else "") + (
            "○: not valid. From: shares of hits that HBM and DRAM had, "
            "then the store's medium; read: from the device, of bytes loaded."
        )
        yield "Under load", told, run_rows.main_rows(tables["scenarios"], tables["ratios"], cells)
    if singles is not None:
        told = "Medians. First: computed, with a tier saved, too. Ratio: from the tier over computed without one."
        yield "Single requests", told, run_rows.single_rows(singles)
    if "predicted" in tables:
        told = f"Within 15 % (hit rates 10 %): {counts_words(tables['predicted'])}; ○: further off."
        fitted = " Times beside the GPU's were fitted to this run." if str(run.folder) in FITTED else ""
        yield "Predicted and measured", told + fitted, run_rows.predicted_rows(tables["predicted"])
    yield "What is not valid, and why", "", run_rows.invalid_rows(cells, singles)
    if "cost" in run.about.figures:
        yield "Cost", "Prices: `config/prices.yaml`, of an H100 SXM.", rows.cost_rows(tables["cost"])
    if "stores" in tables:
        yield "Stores alone", "Medians over repeats.", run_rows.store_rows(tables["stores"])
        limits = run_rows.limit_rows(tables["limits"]) if len(tables["limits"]) else None
        yield "What the machine allows", "", limits
    if "placed_stores" in tables:
        told = (
            f"GB/s at which loading {PROMPT_TOKENS:,} tokens takes as long as computing them: what one store must deliver to all GPUs of an "
            "engine together. Predicted, for one prompt on an idle engine; the number of GPUs is the least that hold the weights."
        )
        yield (
            "What a store must deliver",
            told,
            run_rows.break_even_rows(tables["break_even"], PROMPT_TOKENS),
        )
    if "layers" in tables:
        yield "Layers", "", rows.layers_rows(tables["layers"], WORDS)
    if calibrations := run.of("calibration"):
        told = "Times in seconds; what they mean: `workflow/hyperkv/models/gpu.py`."
        yield "Step times, fitted", told, run_rows.calibration_rows(calibrations)


def _given(run: KeptRun, tables: Tables, name: str) -> Any:
    """What a figure takes: a table, of those that compare scenarios the rows of the compared ones; or the chunk size."""
    if name == "chunk_tokens":
        return run.about.configuration["figures"]["chunk_tokens"]
    if name not in tables:
        raise UserError(
            f"{run.folder}: a figure that run.yaml names needs table {name}, and no record is of it"
        )
    table = tables[name]
    chosen = run.about.compared if name in COMPARING else []
    return table[table["scenario"].isin(chosen)] if chosen else table


def _as_read(table: pd.DataFrame, scratch: Path) -> pd.DataFrame:
    """A table as a figure reads it from its file."""
    table.to_csv(scratch / "table.csv", index=False)
    return read_table(scratch / "table.csv")


if __name__ == "__main__":
    sys.exit(run_stage("make_run_page", main))
