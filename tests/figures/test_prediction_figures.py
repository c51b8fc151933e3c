"""The figures of predictions from real predicted tables and synthetic measured ones."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tests.figures.test_figures import store_rows, svg_of
from tests.predict.specs import BREAK_EVEN, spec
from workflow.hyperkv.figures import predictions as prediction_figures
from workflow.hyperkv.figures.predictions import ALONE, draw_break_even, draw_hit_rate
from workflow.hyperkv.predict.place_stores import placed_stores_table
from workflow.hyperkv.predict.predict_break_even import break_even_table
from workflow.hyperkv.predict.predict_hit_rates import hit_rates_table

WORKLOAD = {"kind": "multi_turn", "conversations": 6, "turns": [2, 8]}
TIERS = {
    "hbm": {"hbm_bytes": 256 << 20},
    "dram": {"hbm_bytes": 256 << 20, "dram_bytes": 256 << 20},
    "dram_large": {"hbm_bytes": 256 << 20, "dram_bytes": 512 << 20},
    "ssd": {"hbm_bytes": 256 << 20, "ssd_bytes": None},
}


@pytest.fixture(autouse=True)
def closed():
    """Figures of a test are closed after it."""
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def hit_rates() -> pd.DataFrame:
    """Two cases, one of them as measured."""
    given = spec(TIERS, WORKLOAD, [16, 64, 256], 2, (3,), 1)
    given["cases"]["experiment"] = {**given["cases"]["reference"], "counted": "window", "lookup": "rest"}
    return hit_rates_table(given)


def cell_rows() -> pd.DataFrame:
    """Two repeats of a store at two loads and two chunk sizes, its last cell invalid, and of HBM alone."""
    rows = [
        {
            "scenario": f"files-{chunk}",
            "store": "files",
            "chunk_tokens": chunk,
            "load": load,
            "repeat": repeat,
        }
        for chunk in (16, 64)
        for load in (1, 4)
        for repeat in (1, 2)
    ]
    rows += [{"scenario": "none", "store": "", "chunk_tokens": 64, "load": 4, "repeat": 1}]
    table = pd.DataFrame(rows).assign(save_decode_cache=True, dram_pool_bytes=None, valid=True)
    table["hit_rate"] = 0.1 * table["load"] + 0.1 * table["repeat"]
    table.loc[7, "valid"] = False
    return table


@pytest.fixture(scope="module")
def break_even() -> dict[str, pd.DataFrame]:
    rows = break_even_table(BREAK_EVEN)
    return {"break_even": rows, "placed_stores": placed_stores_table(rows, store_rows(), "2 x CPU, 4 GiB")}


def texts(axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def test_hit_rate_has_a_row_per_case_and_a_column_per_saved(hit_rates):
    figure = draw_hit_rate({"hit_rates": hit_rates, "cells": cell_rows()})
    assert len(figure.axes) == 4
    reference, _, measured, other = figure.axes
    assert texts(reference) == [
        "HBM 256 MiB",
        "HBM 256 MiB + DRAM 256 MiB",
        "HBM 256 MiB + DRAM 512 MiB",
        "HBM 256 MiB + SSD unbounded",
        ALONE,
    ]
    assert texts(measured)[-2:] == ["measured: files", "measured: HBM alone"]
    assert not any(text.startswith("measured") for text in texts(other))
    looks = [(line.get_color(), line.get_linestyle()) for line in reference.lines]
    assert len(set(looks)) == len(looks)
    assert [axes.texts[0].get_text().split("\n")[0] for axes in (reference, measured)] == [
        "Case reference",
        "What the sweep measures; markers: engine replay, mean of its repeats",
    ]
    assert reference.get_ylim() == (0, 1)


def test_lines_are_the_tables(hit_rates):
    axes = draw_hit_rate({"hit_rates": hit_rates}).axes[0]
    chosen = hit_rates[(hit_rates["case"] == "reference") & hit_rates["save_decode_cache"]]
    for line, tiers in zip(axes.lines, ("hbm", "dram", "dram_large", "ssd"), strict=False):
        assert list(line.get_ydata()) == list(chosen[chosen["tiers"] == tiers]["hit_rate"])


@pytest.mark.parametrize("named", ["files-64", "another"])
def test_markers_are_of_scenarios_that_were_predicted(hit_rates, named):
    told = hit_rates.assign(scenarios=named)
    axes = draw_hit_rate({"hit_rates": told, "cells": cell_rows()}).axes[2]
    markers = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
    assert [list(line.get_xdata()) for line in markers] == ([[64]] if named == "files-64" else [])


def test_markers_are_means_of_valid_repeats_at_the_highest_load(hit_rates):
    axes = draw_hit_rate({"hit_rates": hit_rates, "cells": cell_rows()}).axes[2]
    files, alone = axes.lines[-2:]
    assert list(files.get_xdata()) == [16, 64]
    assert list(files.get_ydata()) == pytest.approx([0.55, 0.5])
    assert (list(alone.get_xdata()), list(alone.get_ydata())) == ([64], [pytest.approx(0.5)])


def test_sets_of_tiers_that_hit_alike_share_a_line():
    tiers = {"ssd": {"ssd_bytes": None}, "large": {"dram_bytes": None}, "small": {"dram_bytes": 1 << 20}}
    figure = draw_hit_rate({"hit_rates": hit_rates_table(spec(tiers, WORKLOAD, [16, 64], 1, (3,), 1))})
    assert texts(figure.axes[0]) == ["DRAM 1 MiB", "DRAM unbounded\n= SSD unbounded", ALONE]


def test_break_even_has_a_panel_per_gpu_and_a_line_per_store(break_even):
    figure = draw_break_even(break_even)
    assert len(figure.axes) == 4
    assert all(len(axes.lines) == 2 + 3 for axes in figure.axes)
    assert "5.8 GB/s" in figure.axes[2].get_title()
    assert "NVIDIA L4 24GB, step times not measured" in figure.axes[0].get_title()
    assert "step times measured" in figure.axes[2].get_title()
    assert "alone on 2 x CPU, 4 GiB" in figure.legends[0].get_title().get_text()
    assert texts(figure.axes[0])[:2] == [
        "recompute (modelled)",
        "pinned DRAM: copy to the GPU only (modelled)",
    ]


def test_break_even_without_stores_says_so(break_even):
    figure = draw_break_even({**break_even, "placed_stores": break_even["placed_stores"].head(0)})
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "no store was profiled"


def draw(folder: Path, monkeypatch, figure: str, tables: dict[str, pd.DataFrame]) -> tuple[bytes, bytes]:
    folder.mkdir()
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    files = [folder / f"{name}.csv" for name in tables]
    arguments = ["--figure", figure, "--tables", *files, "--svg", folder / "f.svg", "--png", folder / "f.png"]
    monkeypatch.setattr(sys, "argv", ["prediction_figures", *map(str, arguments)])
    with plt.rc_context():
        prediction_figures.main()
    return (folder / "f.svg").read_bytes(), (folder / "f.png").read_bytes()


@pytest.mark.parametrize("figure", ["hit_rate", "break_even"])
def test_the_same_tables_give_the_same_files(figure, tmp_path, monkeypatch, hit_rates, break_even):
    given = {"hit_rates": hit_rates, "cells": cell_rows()} if figure == "hit_rate" else break_even
    first, second = (draw(tmp_path / name, monkeypatch, figure, given) for name in "ab")
    assert first == second
    assert first[0].rstrip().endswith(b"</svg>")
    assert first[1].startswith(b"\x89PNG")


def test_drawing_leaves_the_tables_alone(hit_rates):
    before = hit_rates.copy()
    svg_of(draw_hit_rate({"hit_rates": hit_rates}))
    pd.testing.assert_frame_equal(hit_rates, before)
