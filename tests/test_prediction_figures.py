"""The figures of predictions from real predicted tables and synthetic measured ones."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tests.test_breakeven import SPEC
from tests.test_figures import scenario_rows, store_rows, svg_of
from tests.test_predict import spec
from workflow.hyperkv import prediction_figures
from workflow.hyperkv.breakeven import break_even_table
from workflow.hyperkv.place_stores import placed_stores_table
from workflow.hyperkv.predict import hit_rates_table
from workflow.hyperkv.prediction_figures import draw_break_even, draw_hit_rate

WORKLOAD = {"kind": "multi_turn", "conversations": 6, "turns": [2, 8]}
TIERS = {
    "hbm": {"hbm_bytes": 1 << 30},
    "dram": {"hbm_bytes": 1 << 30, "dram_bytes": 512 << 20},
    "dram_large": {"hbm_bytes": 1 << 30, "dram_bytes": 1 << 30},
    "ssd": {"hbm_bytes": 1 << 30, "ssd_bytes": None},
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
    given["cases"]["experiment"] = {**given["cases"]["reference"], "counted": "window"}
    return hit_rates_table(given)


@pytest.fixture(scope="module")
def break_even() -> dict[str, pd.DataFrame]:
    rows = break_even_table(SPEC)
    return {"break_even": rows, "placed_stores": placed_stores_table(rows, store_rows())}


def texts(axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def test_hit_rate_has_a_row_per_case_and_a_column_per_saved(hit_rates):
    figure = draw_hit_rate({"hit_rates": hit_rates, "scenarios": scenario_rows()})
    assert len(figure.axes) == 4
    reference, _, measured, other = figure.axes
    assert texts(reference) == [
        "HBM 1 GiB",
        "HBM 1 GiB + DRAM 512 MiB",
        "HBM 1 GiB + DRAM 1 GiB",
        "HBM 1 GiB + SSD unbounded",
        "ceiling: one unbounded store, no HBM",
    ]
    assert any(text.startswith("measured: files") for text in texts(measured))
    assert not any(text.startswith("measured") for text in texts(other))
    looks = [(line.get_color(), line.get_linestyle()) for line in reference.lines]
    assert len(set(looks)) == len(looks)
    assert "as measured by the sweep" in measured.get_title()
    assert reference.get_ylim() == (0, 1)


def test_lines_are_the_tables(hit_rates):
    axes = draw_hit_rate({"hit_rates": hit_rates}).axes[0]
    chosen = hit_rates[(hit_rates["case"] == "reference") & hit_rates["save_decode_cache"]]
    for line, tiers in zip(axes.lines, TIERS, strict=False):
        assert list(line.get_ydata()) == list(chosen[chosen["tiers"] == tiers]["hit_rate"])


def test_break_even_has_a_panel_per_gpu_and_a_line_per_store(break_even):
    figure = draw_break_even(break_even)
    assert len(figure.axes) == 4
    assert all(len(axes.lines) == 2 + 3 for axes in figure.axes)
    assert "5.8 GB/s" in figure.axes[2].get_title()
    assert "(derived)" in figure.axes[0].get_title()
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
    given = {"hit_rates": hit_rates, "scenarios": scenario_rows()} if figure == "hit_rate" else break_even
    first, second = (draw(tmp_path / name, monkeypatch, figure, given) for name in "ab")
    assert first == second
    assert first[0].rstrip().endswith(b"</svg>")
    assert first[1].startswith(b"\x89PNG")


def test_drawing_leaves_the_tables_alone(hit_rates):
    before = hit_rates.copy()
    svg_of(draw_hit_rate({"hit_rates": hit_rates}))
    pd.testing.assert_frame_equal(hit_rates, before)
