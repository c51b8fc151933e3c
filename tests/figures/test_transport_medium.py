"""The figure of transport and medium: a bar per corner, hollow where invalid."""

from tests.figures.made import all_text, scenario_rows
from workflow.hyperkv.figures.transport_medium import draw_transport_medium


def test_invalid_cells_are_hollow():
    rows = scenario_rows()
    bad = (rows["scenario"] == "files-64") & (rows["load"] == 4)
    rows.loc[bad, "valid"] = False
    figure = draw_transport_medium(rows, 64)
    for axes, column in zip(figure.axes, ("ttft_p50_ms", "rps_per_gpu"), strict=True):
        bars = {bar.get_height(): bar.get_facecolor()[3] for bar in axes.patches}
        assert len(bars) == 4
        assert [height for height, alpha in bars.items() if alpha == 0] == [rows[bad].iloc[0][column]]


def test_a_bar_names_the_scenario_where_a_store_is_there_twice():
    text = all_text(draw_transport_medium(scenario_rows(("dram", "kvrocks", "kvrocks_tuned")), 64))
    assert "RESP\nSSD\n(kvrocks_tuned-64)" in text
    assert "in process\nRAM\n(dram)" in text


def test_a_store_on_files_in_memory_is_on_a_tmpfs():
    rows = scenario_rows(("dram", "kvrocks"))
    rows.loc[rows["store"] == "kvrocks", "tier"] = "dram"
    assert "RESP\ntmpfs\n(kvrocks)" in all_text(draw_transport_medium(rows, 64))


def test_bars_are_at_the_highest_load_that_all_have():
    rows = scenario_rows()
    rows = rows[(rows["scenario"] != "files-64") | (rows["load"] == 1)]
    figure = draw_transport_medium(rows, 64)
    assert len(figure.axes[0].patches) == 4
    assert "1 client" in figure.get_suptitle()


def test_numbers_have_three_digits_and_no_exponent():
    rows = scenario_rows()
    rows.loc[rows["scenario"] == "files-64", "ttft_p50_ms"] = 57.0
    rows.loc[rows["scenario"] == "dram-64", "ttft_p50_ms"] = 2131.4
    shown = {text.get_text() for text in draw_transport_medium(rows, 64).axes[0].texts}
    assert {"57.0", "2,131"} <= shown


def test_an_unknown_bar_is_a_dash():
    rows = scenario_rows()
    rows.loc[rows["scenario"] == "files-64", "rps_per_gpu"] = None
    axes = draw_transport_medium(rows, 64).axes[1]
    assert "-" in [text.get_text() for text in axes.texts]
    assert "nan" not in all_text(axes)


def test_ways_stand_in_order_whatever_the_table_s():
    rows = scenario_rows(("valkey_resp", "dram", "kvrocks"))
    rows.loc[rows["store"] == "kvrocks", "connector"] = "direct"
    labels = [
        tick.get_text().split("\n")[0] for tick in draw_transport_medium(rows, 64).axes[0].get_xticklabels()
    ]
    assert labels == ["in process", "direct", "RESP"]
