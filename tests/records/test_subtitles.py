"""What figures of the sweep say of KV and workload, and that their titles keep clear of each other."""

from itertools import combinations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tests.figures.test_figures import all_text, scenario_rows, tables
from workflow.hyperkv.figures.figures import DRAWINGS
from workflow.hyperkv.figures.predictions import draw_break_even
from workflow.hyperkv.records.subtitles import kept_words, workload_words


@pytest.fixture(autouse=True)
def closed():
    """Figures of a test are closed after it."""
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ({"kind": "multi_turn", "conversations": 1400, "turns": [2, 4]}, "multi_turn, 1,400 conversations"),
        (
            {"kind": "long_documents", "documents": 4, "requests": 40},
            "long_documents, 4 documents, 40 requests",
        ),
        ({"kind": "mooncake", "trace": "results/traces/a.jsonl"}, "mooncake, a.jsonl"),
    ],
)
def test_a_workload_in_words(workload, words):
    assert workload_words(workload) == words


def test_rows_that_are_not_alike_say_so_and_what_is_not_known_is_left_out():
    rows = pd.DataFrame({"kv_dtype": ["bfloat16", "fp8", "bfloat16"], "workload": [None] * 3})
    assert kept_words(rows) == "KV bfloat16 and fp8"
    assert kept_words(rows[["workload"]]) == ""
    assert kept_words(rows.assign(kv_dtype="auto")) == "KV auto (the model's)"


def test_the_title_of_latency_keeps_clear_of_its_panels():
    figure = DRAWINGS["latency"](tables())
    figure.canvas.draw()
    title = figure._suptitle.get_window_extent()
    assert not [axes for axes in figure.axes if axes.title.get_window_extent().overlaps(title)]


@pytest.mark.parametrize("name", ["tier_tradeoff", "chunk", "transport_medium"])
def test_figures_of_the_sweep_name_the_format_of_kv_and_the_workload(name):
    rows = scenario_rows().assign(kv_dtype="fp8", workload="multi_turn, 6 conversations")
    for engine in ("replay", "vllm"):
        figure = DRAWINGS[name](tables(rows.assign(engine=engine)))
        assert all_text(figure).count("\nKV fp8; workload multi_turn, 6 conversations") == 1


GPU = "An accelerator with a name that is longer than any panel of this figure is wide, 192 GB"


@pytest.mark.parametrize("scaled", [None, "llama-3.1-8b"])
def test_the_titles_of_the_panels_of_break_even_do_not_overlap(scaled):
    rows = pd.DataFrame(
        [
            {
                "model": "qwen3-32b",
                "gpu": f"{GPU} {number}",
                "prompt_tokens": tokens,
                "prefill_s": tokens / 1e4,
                "copy_s": tokens / 1e6,
                "step_s": 0.01,
                "gpus_for_weights": 4,
                "required_gbps": 1.0,
                "required_node_gbps": 4.0,
                "assumption": None,
                "scaled_from": scaled,
            }
            for number in range(4)
            for tokens in (1024, 8192)
        ]
    )
    figure = draw_break_even(
        {
            "break_even": rows,
            "placed_stores": pd.DataFrame(columns=["model", "gpu", "scenario", "tier", "store", "connector"]),
        }
    )
    figure.canvas.draw()
    titles = [axes.title.get_window_extent() for axes in figure.axes]
    panels = [axes.get_window_extent() for axes in figure.axes]
    assert not [
        pair
        for pair in combinations([*titles, figure._suptitle.get_window_extent()], 2)
        if pair[0].overlaps(pair[1])
    ]
    assert not [1 for title in titles for panel in panels if title.overlaps(panel)]
    assert all(
        f"{GPU} {number}" in " ".join(axes.get_title().split()) for number, axes in enumerate(figure.axes)
    )
