"""Figure spread: how far the repeats of a cell lie apart."""

import sys

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from workflow.hyperkv.base.cli import run_stage
from workflow.hyperkv.figures.command import Picture, Table, draw_tables
from workflow.hyperkv.figures.style import WIDTH


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure."""
    draw_tables(draw_spread, tables, picture)


def draw_spread(spread: pd.DataFrame) -> Figure:
    """A bar per scenario and load."""
    figure, axes = plt.subplots(figsize=(WIDTH, 4))
    spread.pivot(index="scenario", columns="load", values="rps_spread").plot.barh(ax=axes)
    axes.set_xlabel("spread of RPS/GPU over repeats")
    return figure


if __name__ == "__main__":
    sys.exit(run_stage("draw_spread", main))
