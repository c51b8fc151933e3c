"""Axes whose ticks are what was measured."""

from matplotlib.figure import Figure

from workflow.hyperkv.figures.axes import sizes_x


def test_a_single_size_stands_in_the_middle_of_its_axis():
    axes = Figure().subplots()
    sizes_x(axes, [8200])
    low, high = axes.get_xlim()
    assert low * high == 8200**2
    assert low < 8200 < high


def test_several_sizes_have_a_tick_each():
    axes = Figure().subplots()
    axes.plot([1024, 4096], [1, 2])
    sizes_x(axes, [4096, 1024])
    assert list(axes.get_xticks()) == [1024, 4096]
