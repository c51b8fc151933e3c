"""The figure of chunk sizes: a line per family, the trade of hits against throughput, and where it is left out."""

import pandas as pd

from tests.figures.made import all_text, legend_of, points, scenario_rows
from workflow.hyperkv.figures.chunk import draw_chunk


def test_invalid_cells_are_hollow():
    rows = scenario_rows()
    bad = (rows["scenario"] == "files-16") & (rows["load"] == 4)
    rows.loc[bad, "valid"] = False
    row = rows[bad].iloc[0]
    left, right, trade = draw_chunk(rows).axes
    assert points(left, hollow=True) == {(16, row["hit_rate"])}
    assert points(right, hollow=True) == {(16, row["rps_per_gpu"])}
    assert points(trade, hollow=True) == {(row["hit_rate"], row["load_gbps"])}


def test_the_trade_of_hits_against_throughput_names_every_chunk_and_tells_connectors_apart():
    _, _, trade = draw_chunk(scenario_rows(("rocksdb_resp", "rocksdb_redis"))).axes
    assert sorted(text.get_text() for text in trade.texts) == ["16", "16", "64", "64"]
    markers = {line.get_label(): line.get_marker() for line in trade.lines if "rocksdb" in line.get_label()}
    assert len(set(markers.values())) == 2


def test_where_no_engine_timed_its_loads_the_trade_is_left_out():
    left, right = draw_chunk(scenario_rows().assign(load_gbps=float("nan"))).axes
    assert (left.get_title(), right.get_title()) == ("What larger chunks lose", "What they do to throughput")
    assert all(axes.lines and axes.get_xlabel() == "chunk (tokens)" for axes in (left, right))


def test_a_single_chunk_size_is_said_in_words():
    assert "more than one chunk size" in all_text(draw_chunk(scenario_rows(chunks=(64,))))


def test_two_families_of_one_store_are_two_lines():
    twin = scenario_rows(("files",)).assign(rps_per_gpu=9.0)
    twin["scenario"] = twin["scenario"].str.replace("files", "files_direct")
    _, right, _ = draw_chunk(pd.concat([scenario_rows(("files",)), twin], ignore_index=True)).axes
    named = [line for line in right.lines if str(line.get_label()).startswith("files")]
    assert [len(line.get_xdata()) for line in named] == [2, 2]
    assert [set(line.get_ydata()) for line in named].count({9.0}) == 1


def test_every_family_stands_at_the_highest_load_that_all_have():
    rows = scenario_rows()
    figure = draw_chunk(rows[(rows["store"] != "files") | (rows["load"] == 1)])
    assert any(text.startswith("files") for text in legend_of(figure))
    assert "1 client" in figure.get_suptitle()
