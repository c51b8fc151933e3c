"""Figure bits: quality lost and speed gained."""

from tests.figures.made import bits_rows
from workflow.hyperkv.figures.bits import draw_bits


def test_what_is_not_known_is_hollow_and_controls_have_no_speed():
    figure = draw_bits(bits_rows())
    left, middle, right = figure.axes
    for axes in (middle, right):
        lines = [line for line in axes.lines if len(line.get_xdata()) > 2 or line.get_marker() != "None"]
        assert len(lines) == 3
        assert [line.get_markerfacecolor() == "white" for line in lines] == [False, False, True]
    assert len(left.lines) == 4
    (legend,) = figure.legends
    told = " ".join(text.get_text() for text in legend.texts)
    assert "fp8 (serde): perplexity +1.0%" in told
    assert "2 bits, a control: perplexity x 2.8" in told
    assert "not known" in told


def test_no_difference_has_its_place_on_the_axis():
    left = draw_bits(bits_rows()).axes[0]
    places = [line.get_ydata()[0] for line in left.lines]
    low, high = left.get_ylim()
    assert all(low < place < high for place in places)


def test_without_a_model_with_weights_it_says_so():
    figure = draw_bits(bits_rows().assign(agreement=None))
    assert "model with weights" in figure.axes[0].texts[0].get_text()
