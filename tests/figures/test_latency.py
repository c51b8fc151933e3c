"""The figure of single requests: what it shows and how it marks what is not proved."""

import re

import pandas as pd
from matplotlib.colors import to_hex

from tests.figures.made import latency_rows, svg_of
from workflow.hyperkv.figures.latency import draw_latency
from workflow.hyperkv.figures.looks import colour_of


def test_both_panels_have_recompute_and_every_tier_and_units():
    figure = draw_latency(latency_rows())
    loaded, saved = figure.axes
    for axes in (loaded, saved):
        assert axes.get_xlabel() == "prompt (tokens)"
        assert len(axes.containers) == 3
    assert loaded.get_ylabel().endswith("(s)")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "recompute, no tier",
        "valkey (RAM), resp, chunk 256",
        "kvrocks (tmpfs), resp, chunk 256",
    ]
    assert "NVIDIA H100" in figure.get_suptitle()


def test_lines_that_would_be_called_the_same_have_their_scenarios_names():
    rows = latency_rows()
    other = rows[rows["scenario"] == "valkey"].assign(scenario="valkey_ahead")
    figure = draw_latency(pd.concat([rows, other]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == [
        "kvrocks (tmpfs), resp, chunk 256",
        "recompute, no tier",
        "valkey (RAM), resp, chunk 256 (valkey)",
        "valkey (RAM), resp, chunk 256 (valkey_ahead)",
    ]


def test_twelve_scenarios_of_one_store_look_different():
    rows = latency_rows()
    others = [rows[rows["scenario"] == "valkey"].assign(scenario=f"valkey_{number}") for number in range(11)]
    figure = draw_latency(pd.concat([rows, *others]))
    looks = [
        (line.get_color(), line.get_marker(), line.get_linestyle(), str(line._unscaled_dash_pattern))
        for line in (container[0] for container in figure.axes[0].containers)
    ]
    assert len(set(looks)) == len(looks) == 14
    assert len({marker for _, marker, *_ in looks[-3:]}) == 3


def test_what_is_not_proved_is_hollow_and_said():
    figure = draw_latency(latency_rows())
    faces = [to_hex(container.lines[0].get_markerfacecolor()) for container in figure.axes[0].containers]
    assert faces == ["#000000", colour_of("valkey").lower(), "#ffffff"]
    assert "hollow: not proved" in figure.get_suptitle()


def test_one_length_that_is_not_proved_is_hollow_on_a_filled_line():
    rows = latency_rows()
    rows.loc[(rows["scenario"] == "valkey") & (rows["prompt_tokens"] == 8192), "valid"] = False
    axes = draw_latency(rows).axes[0]
    face = to_hex(axes.containers[1].lines[0].get_markerfacecolor())
    assert face == colour_of("valkey").lower()
    hollow = [
        line for line in axes.lines if line.get_linestyle() == "None" and to_hex(line.get_color()) == face
    ]
    assert [list(line.get_xdata()) for line in hollow if to_hex(line.get_markerfacecolor()) == "#ffffff"] == [
        [8192]
    ]


def test_every_point_leads_to_the_row_of_its_length():
    links = re.findall(r'xlink:href="#(single-[^"]+)"', svg_of(draw_latency(latency_rows())).decode())
    lengths = (1024, 8192)
    wanted = [f"single-{name}-{tokens}" for name in ("none", "valkey", "kvrocks") for tokens in lengths]
    assert sorted(links) == sorted(2 * wanted)


def test_nothing_measured_says_so():
    figure = draw_latency(latency_rows().head(0))
    assert "latency.prompt_tokens is empty" in figure.axes[0].texts[0].get_text()


def test_the_title_keeps_clear_of_the_panels():
    figure = draw_latency(latency_rows())
    figure.canvas.draw()
    title = figure._suptitle.get_window_extent()
    assert not [axes for axes in figure.axes if axes.title.get_window_extent().overlaps(title)]
