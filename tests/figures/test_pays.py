"""The figure of pays: a panel per KV format and prompt, a cell per pair in the colour of the cheapest tier that pays."""

from matplotlib.colors import to_hex

from tests.tables.pays_rows import GB, pair, table_of
from workflow.hyperkv.figures.pays import COLOURS, NOTHING, TOO_MANY, draw_pays

B200 = "NVIDIA B200 180GB (derived)"


def cells(axes) -> list[tuple[str, str]]:
    """Words and colour of every cell of a panel."""
    return [
        (text.get_text(), to_hex(patch.get_facecolor()).upper())
        for text, patch in zip(axes.texts, axes.patches, strict=True)
    ]


def test_a_cell_is_the_cheapest_tier_that_pays_and_how_many_times():
    pairs = [
        pair(),
        pair(gpu=B200, prefill_s=0.4),
        pair("n", prefill_s=0.05),
        pair("n", B200, gpus_for_weights=16),
    ]
    (axes,) = draw_pays(table_of(pairs)).axes
    assert cells(axes) == [
        ("1.7 x", COLOURS["ssd"].upper()),
        ("1.3 x", COLOURS["ram_over_resp"].upper()),
        ("-", to_hex(NOTHING).upper()),
        ("16 GPUs", TOO_MANY),
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["H100\n80GB", "B200\n180GB *"]


def test_an_undecided_ssd_has_a_question_mark_and_the_legend_says_why():
    figure = draw_pays(table_of([pair()], ssd=(1.2, 1.0, 1.3)))
    assert cells(figure.axes[0]) == [("3.3 x ?", COLOURS["ram_over_resp"].upper())]
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "? the SSD's interval holds 1: undecided" in told
    assert "SSD of 2 x CPU: files, 1.2 GB/s measured alone" in told
    assert not [text for text in told if text.startswith(("*", "-"))]


def test_there_is_a_panel_per_format_and_prompt():
    pairs = [
        pair(kv_dtype=kv_dtype, kv_bytes=size, tokens=tokens)
        for kv_dtype, size in (("bfloat16", GB), ("fp8", GB / 2))
        for tokens in (8192, 32768)
    ]
    titles = [axes.get_title() for axes in draw_pays(table_of(pairs)).axes]
    assert titles == [
        f"prompt of {tokens} tokens, KV in {kv}"
        for kv in ("bfloat16", "fp8")
        for tokens in ("8,192", "32,768")
    ]
    assert draw_pays(table_of(pairs).head(0)).axes[0].texts[0].get_text().startswith("no model")
