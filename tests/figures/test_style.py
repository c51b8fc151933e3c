"""What the figures of the sweep share: what they refuse, how they name and mark scenarios, and poor tables."""

import contextlib
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from tests.figures.made import (
    FAMILIES,
    all_text,
    latency_rows,
    legend_of,
    line_called,
    scenario_rows,
    store_rows,
    svg_of,
)
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.figures import looks
from workflow.hyperkv.figures.chunk import draw_chunk
from workflow.hyperkv.figures.latency import draw_latency
from workflow.hyperkv.figures.stores import draw_stores
from workflow.hyperkv.figures.style import label, read_table, save, styles
from workflow.hyperkv.figures.tier_tradeoff import draw_tier_tradeoff
from workflow.hyperkv.figures.transport_medium import draw_transport_medium
from workflow.hyperkv.records.hardware import mixed
from workflow.hyperkv.stores.registry import STORES
from workflow.hyperkv.tables.scenarios import SUMMARISED

SWEEP = {
    "tier_tradeoff": lambda rows, chunk=64: draw_tier_tradeoff(rows, chunk),
    "chunk": draw_chunk,
    "transport_medium": lambda rows, chunk=64: draw_transport_medium(rows, chunk),
}
each = pytest.mark.parametrize("name", SWEEP)


@each
def test_replay_is_named_in_the_title(name):
    text = all_text(SWEEP[name](scenario_rows()))
    assert "engine replay: real stores and bytes; llama-3.2-1b on a modelled H100" in text
    text = all_text(SWEEP[name](scenario_rows().assign(engine="vllm")))
    assert "engine vllm" in text
    assert "modelled" not in text


@each
def test_the_title_names_the_format_of_kv_and_the_workload(name):
    rows = scenario_rows().assign(kv_dtype="fp8", workload="multi_turn, 6 conversations")
    for engine in ("replay", "vllm"):
        text = all_text(SWEEP[name](rows.assign(engine=engine)))
        assert text.count("\nKV fp8; workload multi_turn, 6 conversations") == 1


@each
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
        SWEEP[name](rows)
    assert "files" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tier_none_need_not_share_what_only_caches_have():
    rows = scenario_rows()
    rows.loc[rows["tier"] == "none", ["connections", "chunk_tokens"]] = 7
    assert len(draw_tier_tradeoff(rows, 64).axes) == 3


def test_connections_are_compared_as_those_to_all_processes_together():
    rows = scenario_rows()
    one = rows["scenario"].str.startswith("files")
    rows["processes"] = np.where(one, 4, None)
    rows["connections"] = np.where(one, 2, 8)
    assert len(draw_tier_tradeoff(rows, 64).axes) == 3
    rows["connections"] = 8
    with pytest.raises(UserError, match=r"differ in connections \(8: .*; 32: files-64\)"):
        draw_tier_tradeoff(rows, 64)


@pytest.mark.parametrize(("engine", "refused"), [("vllm", False), ("replay", True)])
def test_only_inside_vllm_a_pool_has_no_connections(engine, refused):
    rows = scenario_rows()
    rows["engine"] = engine
    rows.loc[rows["connector"] == "inprocess", "connections"] = 7
    with pytest.raises(UserError, match="connections") if refused else contextlib.nullcontext():
        draw_tier_tradeoff(rows, 64)


@pytest.mark.parametrize("name", ["tier_tradeoff", "transport_medium"])
@pytest.mark.parametrize("families", [FAMILIES, ("dram", "files")])
def test_a_chunk_that_was_not_measured_is_named(name, families):
    message = re.escape("figures.chunk_tokens: no scenario has chunk 128; there are 16, 64")
    with pytest.raises(UserError, match=f"{message}$"):
        SWEEP[name](scenario_rows(families), 128)


@each
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
    figure = SWEEP[name](read_table(tmp_path / "scenarios.csv"))
    assert svg_of(figure).endswith(b"</svg>\n")
    assert "nan" not in all_text(figure)


def test_two_scenarios_of_one_store_are_told_apart_by_name_line_and_marker():
    figure = draw_stores(store_rows(("files", "kvrocks", "kvrocks_tuned")), pd.DataFrame())
    first, second = (
        line_called(figure.axes[0], f"kvrocks, resp (SSD): {name}") for name in ("kvrocks", "kvrocks_tuned")
    )
    assert to_hex(first.get_color()).upper() == looks.colour_of("kvrocks")
    assert to_hex(second.get_color()) == looks.shade(looks.colour_of("kvrocks"), 1)
    assert first.get_marker() != second.get_marker()
    assert first.get_linestyle() != second.get_linestyle()
    assert to_hex(second.get_markerfacecolor()) != "#ffffff"


def test_six_scenarios_of_one_store_and_connector_look_different():
    names = [f"kvrocks_{number}" for number in range(6)]
    rows = pd.DataFrame({"scenario": names, "store": "kvrocks", "connector": "resp"})
    found = styles(rows)
    assert len({found[name]["marker"] for name in names}) == 6
    assert len({str(found[name]["linestyle"]) for name in names}) == 6
    assert len({found[name]["color"] for name in names}) == 4


def test_a_pool_s_size_is_named_alone_and_before_a_store():
    row = pd.Series({"tier": "ssd", "store": "kvrocks", "connector": "direct_mp", "gate": "ttft"})
    assert label(row) == "kvrocks, direct_mp (SSD), gate ttft"
    pooled = dict(row) | {"dram_pool_bytes": 8 * 2**30}
    assert label(pd.Series(pooled)) == "kvrocks, direct_mp (SSD) behind DRAM of 8 GiB, gate ttft"
    dram = dict(row) | {"tier": "dram", "store": "dram", "dram_pool_bytes": 2**29, "gate": None}
    assert label(pd.Series(dram)) == "dram, direct_mp (RAM) of 512 MiB"


def test_every_store_has_a_colour_a_marker_and_a_medium_of_its_own():
    for look_of in (looks.colour_of, looks.marker_of):
        found = [look_of(store) for store in ("", *STORES)]
        assert len(set(found)) == len(found)
    first = {looks.marker_of(store) for store in ("", *STORES)}
    second = {looks.marker_of(store, second=True) for store in STORES}
    assert len(second) == len(STORES)
    assert not second & first
    rows = pd.DataFrame({"store": [*STORES], "tier": "ssd"})
    assert {looks.medium_of(row) for _, row in rows.iterrows()} == {"RAM", "SSD"}


def test_a_store_keeps_its_colour_in_every_figure():
    rows = scenario_rows()
    lines = {to_hex(line.get_color()).upper() for line in draw_tier_tradeoff(rows, 64).axes[0].lines}
    bars = {to_hex(bar.get_facecolor()).upper() for bar in draw_transport_medium(rows, 64).axes[0].patches}
    colours = {store: looks.colour_of(store) for store in ("", "dram", "files", "valkey", "rocksdb")}
    assert set(colours.values()) <= lines
    assert bars == set(colours.values()) - {colours[""]}


@pytest.mark.parametrize("name", ["tier_tradeoff", "chunk", "stores"])
def test_no_legend_has_a_label_twice(name):
    if name == "stores":
        twin = store_rows(("rocksdb_resp",)).assign(scenario="tuned")
        figure = draw_stores(pd.concat([store_rows(), twin], ignore_index=True), pd.DataFrame())
    else:
        twin = scenario_rows(("rocksdb_resp",))
        twin["scenario"] = twin["scenario"].str.replace("rocksdb_resp", "tuned")
        figure = SWEEP[name](pd.concat([scenario_rows(), twin], ignore_index=True))
    owners = [*([figure] if figure.legends else []), *(axes for axes in figure.axes if axes.get_legend())]
    assert owners
    for texts in map(legend_of, owners):
        assert len(texts) == len(set(texts))
        assert any("tuned" in text for text in texts)


def test_the_legend_names_an_interval_only_where_there_is_one():
    figures = [draw_tier_tradeoff(scenario_rows(interval=flag), 64) for flag in (True, False)]
    assert ["range over repeats" in legend_of(figure) for figure in figures] == [True, False]


def test_a_name_with_dollars_is_no_formula(tmp_path):
    def draw():
        figure, axes = plt.subplots()
        axes.set_title(r"H100 ($2/h, \frac$ spot)")
        axes.set_yscale("log")
        axes.set_ylim(1, 3)
        return figure

    save(draw, tmp_path / "a.svg", tmp_path / "a.png")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def of_two_pairs(rows):
    """The rows, those without a cache of pair current, and each pair of its own versions."""
    pairs = np.where(rows["tier"] == "none", "current", "reference")
    return rows.assign(engine="vllm", pair=pairs, versions=pairs)


@each
def test_pairs_in_one_figure_are_named(name):
    one = all_text(SWEEP[name](scenario_rows().assign(engine="vllm", pair="current", versions="v")))
    assert ", pair " not in one
    several = of_two_pairs(scenario_rows())
    several.loc[several["scenario"].str.startswith("files"), ["pair", "versions"]] = "current"
    assert ", pair current" in all_text(SWEEP[name](several))
    assert ", pair reference" in all_text(SWEEP[name](several))


def test_a_figure_of_several_pairs_says_so_below():
    assert mixed([scenario_rows()]) == ""
    text = mixed([of_two_pairs(scenario_rows(chunks=(64,)))])
    assert text.startswith(
        "Not alike: measured with 2 pairs of vLLM and LMCache, each to be compared with its own"
    )
    assert "current: none; reference: dram-64" in text


def test_single_requests_of_several_pairs_are_named():
    rows = latency_rows()
    rows["pair"] = np.where(rows["scenario"] == "valkey", "reference", "current")
    names = legend_of(draw_latency(rows))
    assert sum(", pair current" in name for name in names) == 2
    assert sum(", pair reference" in name for name in names) == 1
