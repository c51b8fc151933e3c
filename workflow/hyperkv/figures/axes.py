"""Logarithmic axes with plain numbers at what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

_COARSE, _FINE = (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)


def plain(value: float, _: int = 0) -> str:
    """A tick's number without a power of ten."""
    return f"{value:g}"


def log_y(axes: Axes) -> None:
    """A logarithmic y axis, with more ticks to a power of ten where all that is drawn lies within one."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=_FINE if high < 10 * low else _COARSE))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_formatter(NullFormatter())


def sizes_x(axes: Axes, sizes: Sequence[float], words: Callable[[float, int], str] = plain) -> None:
    """An x axis in powers of 2 with a tick at each of the sizes and no others, on y neither; a single size is in its middle."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(sizes))
    if min(sizes) == max(sizes):
        axes.set_xlim(min(sizes) / 2, max(sizes) * 2)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(words))
