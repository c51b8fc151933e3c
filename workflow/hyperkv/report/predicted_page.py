"""What docs/predict.md shows of all kept runs of a real engine: how far predictions were from what was measured, a row per run.

python -m workflow.hyperkv.report.predicted_page
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..base.cli import run_stage
from ..records.hardware import short_gpu
from ..records.kept_run import KeptRun, read_run
from ..tables.methods.predicted_text import BREAK_EVEN, HIT_RATE, TTFT_COMPUTED, TTFT_LOADED, WITHIN
from ..tables.predicted import predicted_table
from .front import write_between

KEPT, GPUS, PAGE = Path("results/reference"), Path("config/gpus"), Path("docs/predict.md")
HEAD = "| run | GPU | model, KV | TTFT computed | loaded from the engine's pool | loaded from a store | break-even | hit rate |"


def main(*, kept: Path = KEPT, gpus: Path = GPUS, page: Path = PAGE) -> None:
    """Write the table between the two comments of the page.

    Args:
        kept: folder of kept runs.
        gpus: folder with files of GPUs.
        page: the file.
    """
    runs = [read_run(path.parent) for path in sorted(kept.glob("*/*/run.yaml"))]
    found = table(runs, sorted(gpus.glob("*.yaml")))
    write_between(page, "predicted", found)


def table(runs: Sequence[KeptRun], gpus: Sequence[Path]) -> str:
    """A table in Markdown, in the order of the runs; those that compare nothing, and those of engine replay, are left out. Last all of them."""
    lines, tables = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)], []
    for run in runs:
        records = [record for record in run.of("single", "cell") if record["engine"] == "vllm"]
        compared = predicted_table(records, pd.DataFrame(), gpus).dropna(subset=["verdict"])
        if compared.empty:
            continue
        tables.append(compared)
        models = compared[["model", "kv_dtype"]].drop_duplicates()
        what = "; ".join(f"{row['model']}, {row['kv_dtype']}" for _, row in models.iterrows())
        gpu = ", ".join(map(short_gpu, compared["gpu"].unique()))
        lines.append(_line(f"[{run.name}](results/{run.name}.md)", gpu, what, compared))
    if tables:
        lines.append(_line("all", "", "", pd.concat(tables)))
    return "\n".join([*lines, ""])


def _line(name: str, gpu: str, what: str, compared: pd.DataFrame) -> str:
    by = {
        word: compared[compared["quantity"] == word]
        for word in (TTFT_COMPUTED, TTFT_LOADED, BREAK_EVEN, HIT_RATE)
    }
    loaded = by[TTFT_LOADED]
    of_store = loaded["gbps"].notna()
    parts = [by[TTFT_COMPUTED], loaded[~of_store], loaded[of_store], by[BREAK_EVEN], by[HIT_RATE]]
    return f"| {' | '.join([name, gpu, what, *map(_told, parts)])} |"


def _told(rows: pd.DataFrame) -> str:
    """'3 of 4, -14 to +4 %': how many are within, and the errors' range; "" for no row."""
    if rows.empty:
        return ""
    low, high = (f"{100 * error:+.0f}" for error in (rows["error"].min(), rows["error"].max()))
    errors = low if low == high else f"{low} to {high}"
    return f"{(rows['verdict'] == WITHIN).sum()} of {len(rows)}, {errors} %"


if __name__ == "__main__":
    sys.exit(run_stage("predicted_page", main))
