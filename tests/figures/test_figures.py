"""The figures from synthetic tables: what they draw, what they refuse, and the same bytes every time."""

import contextlib
import io
import json
import sys
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tests.figures.test_latency_figure import latency_rows
from tests.record_factory import rungs
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.figures import figures
from workflow.hyperkv.figures.figures import DRAWINGS, Tables
from workflow.hyperkv.tables.layers import layers_table
from workflow.hyperkv.tables.scenarios import SUMMARISED

WAYS = {
    "none": ("none", "", ""),
    "dram": ("dram", "dram", "inprocess"),
    "files": ("ssd", "files", "inprocess"),
    "valkey_resp": ("dram", "valkey", "resp"),
    "rocksdb_resp": ("ssd", "rocksdb", "resp"),
    "rocksdb_redis": ("ssd", "rocksdb", "redis"),
    "kvrocks": ("ssd", "kvrocks", "resp"),
    "kvrocks_tuned": ("ssd", "kvrocks", "resp"),
}
FAMILIES = tuple(WAYS)[:6]


@pytest.fixture(autouse=True)
def closed():
    """Figures of a test are closed after it."""
    yield
    plt.close("all")


def scenario_rows(families=FAMILIES, chunks=(16, 64), loads=(1, 4), interval=True) -> pd.DataFrame:
    """Rows of scenarios.csv; every value differs from row to row."""
    rows = []
    for family in families:
        tier, store, connector = WAYS[family]
        for chunk, load in product(chunks if tier != "none" else (64,), loads):
            row = {
                "engine": "replay",
                "model": "llama-3.2-1b",
                "gpu": "H100",
                "gpu_scaled_from": "llama-3.1-8b",
                "scenario": family if tier == "none" else f"{family}-{chunk}",
                "tier": tier,
                "store": store,
                "connector": connector,
                "chunk_tokens": chunk,
                "connections": 2,
                "dram_pool_bytes": None,
                "save_decode_cache": None if tier == "none" else True,
                "kv_dtype": "bfloat16",
                "gpus": 1,
                "versions": None,
                "chunk_bytes": chunk << 15,
                "comparable_digest": "abc",
                "load": load,
                "repeats": 3,
                "valid_repeats": 3,
                "valid": True,
                "served_from": "ram",
                "reasons": "",
            }
            for name in SUMMARISED:
                value = 0.5 + len(rows) / 100
                ends = (value - 0.1, value + 0.1) if interval else (None, None)
                row |= {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
            rows.append(row)
    return pd.DataFrame(rows)


def store_rows(scenarios=("dram", "files", "rocksdb_resp"), cold=True, connections=(2,)) -> pd.DataFrame:
    """Rows of stores.csv; every value differs from row to row."""
    rows = []
    for scenario, count, operation, size in product(
        scenarios, connections, ("set", "get_warm", "get_cold"), (1 << 18, 1 << 20)
    ):
        tier, store, connector = WAYS[scenario]
        if tier == "dram" and operation == "get_cold":
            continue
        gbps = 1 + len(rows) / 10
        row = {
            "scenario": scenario,
            "tier": tier,
            "store": store,
            "connector": connector,
            "connections": count,
        }
        row |= {"value_bytes": size, "operation": operation, "cold": cold and operation == "get_cold"}
        rows.append(row | {"gbps": gbps, "gbps_low": gbps - 0.1, "gbps_high": gbps + 0.1, "repeats": 3})
    return pd.DataFrame(rows) if rows else store_rows().head(0)


def limit_rows(connections=(2,)) -> pd.DataFrame:
    """Rows of limits.csv: 10 and more GB/s in memory, 20 and more of SET, 30 and more of GET on the socket; 1, 2 on the device."""
    gbps = {"memcpy": 10, "loopback_set": 20, "loopback_get": 30, "device_set": 1, "device_get": 2}
    return pd.DataFrame(
        {"limit": limit, "connections": count, "value_bytes": size, "gbps": value + count}
        for (limit, value), count, size in product(gbps.items(), connections, (1 << 18, 1 << 20))
    )


def tables(scenarios=None, stores=None, limits=None, chunk=64, layers=None, latency=None) -> Tables:
    """Tables as figures.main reads them."""
    return Tables(
        scenarios=scenario_rows() if scenarios is None else scenarios,
        stores=store_rows() if stores is None else stores,
        limits=limit_rows() if limits is None else limits,
        chunk_tokens=chunk,
        layers=layers_table(rungs()) if layers is None else layers,
        latency=latency_rows() if latency is None else latency,
    )


def draw_files(folder: Path, monkeypatch, figure: str, **changes) -> tuple:
    """Run the stage's main from the CSV files that the figure is drawn from; the bytes of the SVG and the PNG."""
    folder.mkdir()
    made = tables(**changes)
    names = {"stores": ("stores", "limits"), "layers": ("layers",), "latency": ("latency",)}.get(
        figure, ("scenarios",)
    )
    files = [folder / f"{name}.csv" for name in names]
    for name, file in zip(names, files, strict=True):
        getattr(made, name).to_csv(file, index=False)
    spec = (
        {}
        if figure in ("stores", "layers", "latency")
        else {"figures": {"chunk_tokens": made.chunk_tokens, "baseline": None}}
    )
    arguments = ["--figure", figure, "--tables", *files, "--spec", json.dumps(spec)]
    arguments += ["--svg", folder / "f.svg", "--png", folder / "f.png"]
    monkeypatch.setattr(sys, "argv", ["figures", *map(str, arguments)])
    with plt.rc_context():
        figures.main()
    return (folder / "f.svg").read_bytes(), (folder / "f.png").read_bytes()


def svg_of(figure) -> bytes:
    """A figure as SVG, without what changes from run to run."""
    buffer = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "test"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def points(axes: Axes, hollow: bool) -> set[tuple[float, float]]:
    """Points drawn with hollow or with filled markers, the line of markers only or not."""
    return {
        (float(x), float(y))
        for line in axes.lines
        if line.get_marker() not in ("None", "none", "", None)
        if (to_hex(line.get_markerfacecolor()) == "#ffffff") == hollow
        for x, y in line.get_xydata()
    }


def legend_of(owner: Axes | Figure) -> list[str]:
    """The texts of an axes' legend, or of a figure's own."""
    legend = owner.legends[0] if isinstance(owner, Figure) else owner.get_legend()
    return [text.get_text() for text in legend.get_texts()]


def line_called(axes: Axes, label: str) -> Line2D:
    """The one line with that label."""
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def all_text(figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(plt.Text))


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_figure_is_written_as_svg_and_png_and_twice_the_same(tmp_path, monkeypatch, name):
    svg, png = draw_files(tmp_path / "1", monkeypatch, name)
    assert b"<svg" in svg[:600]
    assert png.startswith(b"\x89PNG")
    assert draw_files(tmp_path / "2", monkeypatch, name)[0] == svg


@pytest.mark.parametrize("name", DRAWINGS)
def test_what_changes_in_the_tables_changes_the_picture(name):
    scenarios, stores = scenario_rows(), store_rows()
    scenarios["rps_per_gpu"] *= 1 + scenarios.index / 50
    stores["gbps"] *= 1 + stores.index / 50
    first = svg_of(DRAWINGS[name](tables()))
    layers, latency = layers_table(rungs(wire=2.0)), latency_rows()
    latency.loc[latency["tier"] == "none", "ttft_s"] *= 2
    assert svg_of(DRAWINGS[name](tables(scenarios, stores, layers=layers, latency=latency))) != first


@pytest.mark.parametrize("name", ["tier_tradeoff", "chunk", "transport_medium"])
def test_replay_is_named_in_the_title(name):
    text = all_text(DRAWINGS[name](tables()))
    assert "engine replay: real stores and bytes; llama-3.2-1b on a modelled H100" in text
    vllm = scenario_rows().assign(engine="vllm")
    text = all_text(DRAWINGS[name](tables(vllm)))
    assert "engine vllm" in text
    assert "modelled" not in text


def test_tier_tradeoff_draws_every_valid_cell_once_at_the_chunk():
    rows = scenario_rows()
    axes = figures.draw_tier_tradeoff(tables(rows)).axes[0]
    wanted = rows[(rows["tier"] == "none") | (rows["chunk_tokens"] == 64)]
    assert points(axes, hollow=False) == set(zip(wanted["tps_per_user"], wanted["rps_per_gpu"], strict=True))
    assert points(axes, hollow=True) == set()
    assert not any("hollow" in text for text in legend_of(axes))


def invalid_at(rows: pd.DataFrame, scenario: str, load: int) -> pd.Series:
    """Make one row invalid in place; that row."""
    chosen = (rows["scenario"] == scenario) & (rows["load"] == load)
    rows.loc[chosen, "valid"] = False
    return rows[chosen].iloc[0]


def test_invalid_cells_are_hollow_in_tier_tradeoff():
    rows = scenario_rows()
    row = invalid_at(rows, "files-64", 4)
    axes = figures.draw_tier_tradeoff(tables(rows)).axes[0]
    assert points(axes, hollow=True) == {(row["tps_per_user"], row["rps_per_gpu"])}
    assert "hollow: invalid, see cells.csv" in legend_of(axes)


def test_invalid_cells_are_hollow_in_chunk():
    rows = scenario_rows()
    row = invalid_at(rows, "files-16", 4)
    left, right, trade = figures.draw_chunk(tables(rows)).axes
    assert points(left, hollow=True) == {(16, row["hit_rate"])}
    assert points(right, hollow=True) == {(16, row["rps_per_gpu"])}
    assert points(trade, hollow=True) == {(row["hit_rate"], row["load_gbps"])}


def test_the_trade_of_hits_against_throughput_names_every_chunk_and_tells_connectors_apart():
    _, _, trade = figures.draw_chunk(tables(scenario_rows(("rocksdb_resp", "rocksdb_redis")))).axes
    assert sorted(text.get_text() for text in trade.texts) == ["16", "16", "64", "64"]
    markers = {line.get_label(): line.get_marker() for line in trade.lines if "rocksdb" in line.get_label()}
    assert len(set(markers.values())) == 2


def test_where_no_engine_timed_its_loads_the_trade_is_left_out():
    left, right = figures.draw_chunk(tables(scenario_rows().assign(load_gbps=float("nan")))).axes
    assert (left.get_title(), right.get_title()) == ("What larger chunks lose", "What they do to throughput")
    assert all(axes.lines and axes.get_xlabel() == "chunk (tokens)" for axes in (left, right))


def test_invalid_cells_are_hollow_in_transport_medium():
    rows = scenario_rows()
    row = invalid_at(rows, "files-64", 4)
    for axes, column in zip(
        figures.draw_transport_medium(tables(rows)).axes, ("ttft_p50_ms", "rps_per_gpu"), strict=True
    ):
        bars = {bar.get_height(): bar.get_facecolor()[3] for bar in axes.patches}
        assert len(bars) == 4
        assert [height for height, alpha in bars.items() if alpha == 0] == [row[column]]


@pytest.mark.parametrize("cold", [True, False])
def test_a_get_that_was_not_cold_is_hollow(cold):
    stores = store_rows(cold=cold)
    figure = figures.draw_stores(tables(stores=stores))
    *warm, last = figure.axes
    assert all(points(axes, hollow=True) == set() for axes in warm)
    expected = stores[stores["operation"] == "get_cold"]
    drawn = set(zip(expected["value_bytes"] / 2**20, expected["gbps"], strict=True))
    assert points(last, hollow=False) == drawn
    assert points(last, hollow=True) == (set() if cold else drawn)
    assert ("hollow: page cache not dropped" in legend_of(figure)) == (not cold)


def test_stores_has_a_row_per_number_of_connections_and_a_column_per_operation():
    stores = store_rows(connections=(8, 1, 4))
    figure = figures.draw_stores(tables(stores=stores, limits=limit_rows((1, 4, 8))))
    places = product((1, 4, 8), ("set", "get_warm", "get_cold"))
    for axes, (connections, operation) in zip(figure.axes, places, strict=True):
        rows = stores[(stores["connections"] == connections) & (stores["operation"] == operation)]
        drawn = points(axes, hollow=False)
        assert drawn == set(zip(rows["value_bytes"] / 2**20, rows["gbps"], strict=True))
        limits = [line.get_ydata()[0] for line in axes.lines if str(line.get_label()).startswith("limit")]
        device = {"set": [1], "get_warm": [], "get_cold": [2]}[operation]
        assert limits == [gbps + connections for gbps in (10, 20 if operation == "set" else 30, *device)]
    heads = [axes.get_ylabel().splitlines()[0] for axes in figure.axes[::3]]
    assert heads == ["1 connection", "4 connections", "8 connections"]
    assert [bool(axes.get_title()) for axes in figure.axes] == [True] * 3 + [False] * 6
    assert "no engine and no GPU" in all_text(figure)


def test_stores_shows_the_best_that_fio_got_from_the_device():
    sizes = (1 << 12, 1 << 20)
    fio = [
        {"limit": f"fio_{operation}", "connections": depth, "value_bytes": size, "gbps": best + depth}
        for (operation, best), size, depth in product({"write": 3, "read": 5}.items(), sizes, (1, 32))
    ]
    figure = figures.draw_stores(tables(limits=pd.concat([limit_rows(), pd.DataFrame(fio)])))
    mebibytes = store_rows()["value_bytes"] / 2**20
    for axes, gbps in zip(figure.axes, (35, None, 37), strict=True):
        lines = [line for line in axes.lines if "fio" in str(line.get_label())]
        assert [list(line.get_ydata()) for line in lines] == ([[gbps, gbps]] if gbps else [])
        assert all(list(line.get_xdata()) == [mebibytes.min(), mebibytes.max()] for line in lines)
    assert "limit: device (fio, its best)" in legend_of(figure)


@pytest.mark.parametrize(
    "limits", [pd.DataFrame(), limit_rows().head(0), limit_rows((7,))], ids=["absent", "empty", "others"]
)
def test_stores_is_drawn_without_limits(limits):
    figure = figures.draw_stores(tables(limits=limits))
    assert not any("limit" in text for text in legend_of(figure))
    assert points(figure.axes[0], hollow=False)


def test_two_scenarios_of_one_store_are_told_apart_by_name_line_and_marker():
    figure = figures.draw_stores(tables(stores=store_rows(("files", "kvrocks", "kvrocks_tuned"))))
    first, second = (
        line_called(figure.axes[0], f"kvrocks, resp (SSD): {name}") for name in ("kvrocks", "kvrocks_tuned")
    )
    assert to_hex(first.get_color()) == to_hex(second.get_color()) == "#cc79a7"
    assert first.get_marker() == "P"
    assert second.get_marker() != "P"
    assert first.get_linestyle() != second.get_linestyle()
    assert to_hex(second.get_markerfacecolor()) != "#ffffff"


def test_six_scenarios_of_one_store_and_connector_look_different():
    names = [f"kvrocks_{number}" for number in range(6)]
    rows = pd.DataFrame({"scenario": names, "store": "kvrocks", "connector": "resp"})
    found = figures.styles(rows)
    assert len({found[name]["marker"] for name in names}) == 6
    assert len({str(found[name]["linestyle"]) for name in names}) == 6


def test_every_store_has_a_colour_a_marker_and_a_medium_of_its_own():
    names = {"dram", "files", "valkey", "rocksdb", "kvrocks"}
    for known in (figures.COLOURS, figures.MARKERS):
        assert names <= set(known)
        assert len(set(known.values())) == len(known)
    assert set(figures.SECOND_MARKERS) == names == set(figures.MEDIUM)
    assert not set(figures.SECOND_MARKERS.values()) & set(figures.MARKERS.values())


def test_transport_medium_names_the_scenario_where_a_store_is_there_twice():
    rows = scenario_rows(("dram", "kvrocks", "kvrocks_tuned"))
    text = all_text(figures.draw_transport_medium(tables(rows)))
    assert "RESP\nSSD\n(kvrocks_tuned-64)" in text
    assert "in process\nRAM\n(dram)" in text


@pytest.mark.parametrize("name", ["tier_tradeoff", "chunk", "transport_medium"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("comparable_digest", "other"),
        ("engine", "vllm"),
        ("connections", 8),
        ("save_decode_cache", False),
        ("save_decode_cache", None),
        ("kv_dtype", "fp8"),
        ("gpus", 2),
        ("versions", "vllm 0.33.0, lmcache 0.5.6"),
    ],
)
def test_scenarios_that_are_not_alike_are_refused_by_column(name, column, value):
    rows = scenario_rows()
    rows[column] = rows[column].astype(object).where(~rows["scenario"].str.startswith("files"), value)
    with pytest.raises(UserError, match=f"differ in {column}.*like with like") as caught:
        DRAWINGS[name](tables(rows))
    assert "files-64" in str(caught.value) or "files" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tier_none_need_not_share_what_only_caches_have():
    rows = scenario_rows()
    rows.loc[rows["tier"] == "none", ["connections", "chunk_tokens"]] = 7
    assert len(figures.draw_tier_tradeoff(tables(rows)).axes) == 1


def test_connections_are_compared_as_those_to_all_processes_together():
    rows = scenario_rows()
    one = rows["scenario"].str.startswith("files")
    rows["processes"] = np.where(one, 4, None)
    rows["connections"] = np.where(one, 2, 8)
    assert len(figures.draw_tier_tradeoff(tables(rows)).axes) == 1
    rows["connections"] = 8
    with pytest.raises(UserError, match=r"differ in connections \(8: .*; 32: files-64\)"):
        figures.draw_tier_tradeoff(tables(rows))


def test_a_line_that_turns_back_has_its_clients_at_its_points():
    rows = scenario_rows(("dram", "files"), chunks=(64,), loads=(1, 4))
    rows["tps_per_user"] = 50 - rows["load"]
    assert "points: 1, 4 clients, right to left;" in all_text(figures.draw_tier_tradeoff(tables(rows)))
    line = rows["scenario"] == "files-64"
    rows.loc[line, "tps_per_user"] = 40 + rows["load"]
    figure = figures.draw_tier_tradeoff(tables(rows))
    assert "right to left where not numbered;" in all_text(figure)
    drawn = sorted(float(text.get_text()) for text in figure.axes[0].texts)
    assert drawn == sorted(rows.loc[line, "load"])


@pytest.mark.parametrize(("engine", "refused"), [("vllm", False), ("replay", True)])
def test_only_inside_vllm_a_pool_has_no_connections(engine, refused):
    rows = scenario_rows()
    rows["engine"] = engine
    rows.loc[rows["connector"] == "inprocess", "connections"] = 7
    with pytest.raises(UserError, match="connections") if refused else contextlib.nullcontext():
        figures.draw_tier_tradeoff(tables(rows))


@pytest.mark.parametrize("name", ["tier_tradeoff", "transport_medium"])
@pytest.mark.parametrize("families", [FAMILIES, ("dram", "files")])
def test_a_chunk_that_was_not_measured_is_named(name, families):
    with pytest.raises(
        UserError, match=r"figures\.chunk_tokens: no scenario has chunk 128; there are 16, 64$"
    ):
        DRAWINGS[name](tables(scenario_rows(families), chunk=128))


@pytest.mark.parametrize("name", ["tier_tradeoff", "chunk", "transport_medium"])
@pytest.mark.parametrize(
    "scenarios",
    [
        scenario_rows(("none",)),
        scenario_rows(("dram",), chunks=(64,)),
        scenario_rows(("rocksdb_redis",)),
        scenario_rows(loads=(1,)),
        scenario_rows(interval=False),
        scenario_rows(("none", "dram"), loads=(1,), interval=False),
        scenario_rows().assign(valid=False),
        scenario_rows().assign(**dict.fromkeys(SUMMARISED)),
    ],
    ids=["none", "one", "redis", "one load", "no interval", "least", "all invalid", "all unknown"],
)
def test_poor_tables_still_draw(tmp_path, name, scenarios):
    scenarios.to_csv(tmp_path / "scenarios.csv", index=False)
    figure = DRAWINGS[name](tables(figures.read_table(tmp_path / "scenarios.csv")))
    assert svg_of(figure).endswith(b"</svg>\n")
    assert "nan" not in all_text(figure)


def test_no_profile_and_a_single_chunk_are_said_in_words(tmp_path, monkeypatch):
    assert "No store was profiled" in all_text(figures.draw_stores(tables(stores=pd.DataFrame())))
    svg, _ = draw_files(tmp_path / "1", monkeypatch, "stores", stores=store_rows(()))
    assert b"No store was profiled" in svg
    assert "more than one chunk size" in all_text(figures.draw_chunk(tables(scenario_rows(chunks=(64,)))))


def test_unknown_hit_rates_and_bars_are_dashes():
    rows = scenario_rows()
    rows.loc[rows["scenario"] == "files-64", ["hit_rate", "rps_per_gpu"]] = None
    text = all_text(figures.draw_tier_tradeoff(tables(rows))) + all_text(
        figures.draw_transport_medium(tables(rows))
    )
    assert "nan" not in text
    assert "hit rate -" in text


def test_the_legend_names_an_interval_only_where_there_is_one():
    bars = [
        figures.draw_tier_tradeoff(tables(scenario_rows(interval=flag))).axes[0] for flag in (True, False)
    ]
    assert ["95 % interval over repeats" in legend_of(axes) for axes in bars] == [True, False]


@pytest.mark.parametrize("name", ["tier_tradeoff", "chunk", "stores"])
def test_no_legend_has_a_label_twice(name):
    twin = scenario_rows(("rocksdb_resp",))
    twin["scenario"] = twin["scenario"].str.replace("rocksdb_resp", "tuned")
    rows = pd.concat([scenario_rows(), twin], ignore_index=True)
    stores = pd.concat(
        [store_rows(), store_rows(("rocksdb_resp",)).assign(scenario="tuned")], ignore_index=True
    )
    figure = DRAWINGS[name](tables(rows, stores))
    owners = [*([figure] if figure.legends else []), *(axes for axes in figure.axes if axes.get_legend())]
    legends = [legend_of(owner) for owner in owners]
    assert legends
    for texts in legends:
        assert len(texts) == len(set(texts))
        assert any("tuned" in text for text in texts)


def test_two_families_of_one_store_are_two_lines_in_chunk():
    twin = scenario_rows(("files",)).assign(rps_per_gpu=9.0)
    twin["scenario"] = twin["scenario"].str.replace("files", "files_direct")
    rows = pd.concat([scenario_rows(("files",)), twin], ignore_index=True)
    _, right, _ = figures.draw_chunk(tables(rows)).axes
    lines = [
        line for line in right.lines if line.get_linestyle() != "None" and line.get_marker() in ("s", "p")
    ]
    assert sorted(len(line.get_xdata()) for line in lines) == [2, 2]
    assert [set(line.get_ydata()) for line in lines].count({9.0}) == 1


def test_a_store_keeps_its_colour_in_every_figure():
    made = tables()
    tradeoff = figures.draw_tier_tradeoff(made).axes[0]
    bars = figures.draw_transport_medium(made).axes[0]
    assert {figures.COLOURS[store] for store in ("dram", "files", "valkey", "rocksdb", "none")} <= {
        to_hex(line.get_color()).upper() for line in tradeoff.lines
    }
    assert {to_hex(bar.get_facecolor()).upper() for bar in bars.patches} == {
        figures.COLOURS[store] for store in ("dram", "files", "valkey", "rocksdb")
    }
