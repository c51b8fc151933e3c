"""Figure stores: each store alone, throughput against value size, beside the machine's limits.

python -m workflow.hyperkv.figures.stores --tables results/tables/stores.csv results/tables/limits.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..base.cli import run_stage
from .axes import log_y, sizes_x
from .command import Picture, TwoTables, draw_tables
from .style import WIDTH, draw_line, empty, labels, legend, styles

_SOCKET = ("limit: raw loopback socket", (0, (1, 1.5)))
_DIRECT = ("limit: device (O_DIRECT)", (0, (6, 2, 1, 2)))
_FIO = ("limit: device (fio, its best)", "-")
_LIMITS = {
    "memcpy": ("limit: memcpy", (0, (6, 3))),
    "loopback_set": _SOCKET,
    "loopback_get": _SOCKET,
    "device_set": _DIRECT,
    "device_get": _DIRECT,
    "fio_write": _FIO,
    "fio_read": _FIO,
}
_PANELS = (
    ("set", "SET", ("memcpy", "loopback_set", "device_set", "fio_write")),
    ("get_warm", "GET, warm (no restart)", ("memcpy", "loopback_get")),
    (
        "get_cold",
        "GET, cold (restart, page cache dropped)",
        ("memcpy", "loopback_get", "device_get", "fio_read"),
    ),
)


def main(*, tables: TwoTables, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: stores.csv and limits.csv.
    """
    draw_tables(draw_stores, tables, picture)


def draw_stores(stores: pd.DataFrame, limits: pd.DataFrame) -> Figure:
    """GB/s against value size for SET, warm GET and cold GET, a row per number of connections, a line per scenario.

    stores, limits: those tables, limits perhaps without rows. Grey lines: the limits at the same connections; the device is
    none for a warm GET.
    """
    if stores.empty:
        return empty("No store was profiled (profile.scenarios is empty)")
    stores = stores.assign(
        value_mib=stores["value_bytes"] / 2**20,
        valid=(stores["operation"] != "get_cold") | stores["cold"].astype(bool),
    )
    counts = sorted(map(int, stores["connections"].unique()))
    names, looks = labels(stores), styles(stores)
    figure, grid = plt.subplots(
        len(counts), 3, figsize=(WIDTH, 1.2 + 3.1 * len(counts)), sharex=True, sharey=True, squeeze=False
    )
    for connections, row in zip(counts, grid, strict=True):
        for axes, (operation, title, wanted) in zip(row, _PANELS, strict=True):
            _draw_limits(axes, limits, connections, wanted, list(stores["value_bytes"]))
            chosen = (stores["connections"] == connections) & (stores["operation"] == operation)
            for scenario, line in stores[chosen].groupby("scenario", sort=False):
                line = line.sort_values("value_bytes")
                draw_line(axes, line, "value_mib", "gbps", names[scenario], looks[scenario])
            axes.set_title(title if connections == counts[0] else "", fontsize=11)
        row[0].set_ylabel(f"{connections} connection{'s' * (connections > 1)}\nGB/s (median)")
    log_y(grid[0, 0])
    sizes_x(grid[0, 0], stores["value_mib"].unique())
    for axes in grid[-1]:
        axes.set_xlabel("value (MiB)")
    figure.suptitle("Each store alone, no engine and no GPU: throughput against value size", fontsize=12)
    figure.tight_layout()
    legend(grid[0, 0], stores, hollow="page cache not dropped", below=figure)
    return figure


def _draw_limits(
    axes: Axes, limits: pd.DataFrame, connections: int, wanted: Sequence[str], sizes: Sequence[int]
) -> None:
    """The wanted limits at those connections, those that were measured, as grey lines without markers.

    Those of fio are its best sequential figure, level over all value sizes.
    """
    for limit in wanted if len(limits) else ():
        line = limits[limits["limit"] == limit]
        if limit.startswith("fio_"):
            ends = [] if line.empty else [min(sizes), max(sizes)]
            line = pd.DataFrame({"value_bytes": ends, "gbps": line["gbps"].max()})
        else:
            line = line[line["connections"] == connections].sort_values("value_bytes")
        text, dashes = _LIMITS[limit]
        if len(line):
            look: dict[str, Any] = {"label": text, "color": "#666666", "linestyle": dashes, "zorder": 1.5}
            axes.plot(line["value_bytes"] / 2**20, line["gbps"], **look)


if __name__ == "__main__":
    sys.exit(run_stage("draw_stores", main))
