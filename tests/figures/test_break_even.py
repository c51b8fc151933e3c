"""The figure of break-even: a panel per GPU, a line per store, titles that keep clear of each other."""

import re
from itertools import combinations

import pytest

from tests.figures.made import break_even_rows, placed_rows, svg_of
from workflow.hyperkv.figures.break_even import draw_break_even

GPU = "An accelerator with a name that is longer than any panel of this figure is wide, 192 GB"


def test_there_is_a_panel_per_gpu_and_a_line_per_store():
    rows = break_even_rows()
    figure = draw_break_even(rows, placed_rows(rows))
    derived, measured = figure.axes
    assert all(len(axes.lines) == 2 + 3 for axes in figure.axes)
    assert "L4, step times not measured" in derived.get_title()
    assert "H100, step times measured" in measured.get_title()
    assert "break-even at 8,192 tokens: 5.8 GB/s" in measured.get_title()
    assert "alone on 2 x CPU, 4 GiB" in figure.legends[0].get_title().get_text()
    assert measured.get_legend_handles_labels()[1] == [
        "recompute (modelled)",
        "pinned DRAM: no store (modelled)",
        "dram, inprocess (RAM): 2 GB/s, cold, 1 MiB, 2 conn.",
        "files, inprocess (SSD): 3 GB/s, cold, 1 MiB, 2 conn.",
        "rocksdb, resp (SSD): 4 GB/s, cold, 1 MiB, 2 conn.",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"required_gbps": 129.7}, "break-even at 8,192 tokens: 130 GB/s"),
        ({"required_gbps": float("inf")}, "break-even at 8,192 tokens: never"),
        (
            {"gpus_for_weights": 4},
            "4 x H100, step times measured\nbreak-even at 8,192 tokens: 23 GB/s",
        ),
    ],
)
def test_a_panel_says_what_a_store_needs(changes, words):
    rows = break_even_rows(("NVIDIA H100",), **changes)
    assert words in draw_break_even(rows, placed_rows(rows)).axes[0].get_title()


def test_points_lead_to_their_pairs_rows_where_table_pays_has_one():
    rows = break_even_rows()
    links = re.findall(r'xlink:href="#([^"]+)"', svg_of(draw_break_even(rows, placed_rows(rows))).decode())
    pays = [link for link in links if link.startswith("pays-")]
    assert sorted(pays) == sorted(5 * ["pays-m-h100-bfloat16-8192", "pays-m-l4-bfloat16-8192"])


def test_without_stores_it_says_so():
    rows = break_even_rows()
    figure = draw_break_even(rows, placed_rows(rows).head(0))
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "no store was profiled"


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7, 9])
def test_it_is_at_most_10_inches_high_and_names_the_prompts_below_every_column(count):
    rows = break_even_rows([f"NVIDIA G{number} (derived)" for number in range(count)], scaled_from="m")
    figure = draw_break_even(rows, placed_rows(rows))
    figure.canvas.draw()
    whole = figure.get_tightbbox(figure.canvas.get_renderer())
    assert whole.height <= 10
    assert whole.width <= 11.1
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == count
    lowest = {round(axes.get_position().x0, 2): axes for axes in shown}
    assert all(axes.get_xlabel() and axes.get_xticklabels()[0].get_visible() for axes in lowest.values())


@pytest.mark.parametrize("count", [4, 7])
@pytest.mark.parametrize("scaled", [None, "llama-3.1-8b"])
def test_the_titles_of_the_panels_do_not_overlap(scaled, count):
    gpus = [f"{GPU} {number}" for number in range(count)]
    rows = break_even_rows(gpus, gpus_for_weights=4, scaled_from=scaled)
    figure = draw_break_even(rows, placed_rows(rows).head(0))
    figure.canvas.draw()
    titles = [axes.title.get_window_extent() for axes in figure.axes if axes.axison]
    panels = [axes.get_window_extent() for axes in figure.axes if axes.axison]
    pairs = combinations([*titles, figure._suptitle.get_window_extent()], 2)
    assert not [pair for pair in pairs if pair[0].overlaps(pair[1])]
    assert not [1 for title in titles for panel in panels if title.overlaps(panel)]
    words = [" ".join(axes.get_title().split()) for axes in figure.axes[:count]]
    assert all(f"{GPU} {number}" in title for number, title in enumerate(words))
