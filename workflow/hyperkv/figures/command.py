"""What every figure's command line has: tables in, SVG and PNG out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclopts import Parameter
from matplotlib.figure import Figure

from ..base.options import Spec
from ..records.hardware import mixed
from . import looks
from .style import read_table, save

Table = tuple[Path]
TwoTables = tuple[Path, Path]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Picture:
    """Where a figure goes, and how stores look in it.

    Args:
        stores: JSON: medium, colour and markers of every store.
    """

    stores: Spec = field(default_factory=dict)
    svg: Path
    png: Path

    def save(self, draw: Callable[[], Figure], note: str = "") -> None:
        """Write what `draw` makes. note: what is not alike about its rows."""
        looks.know(self.stores)
        save(draw, self.svg, self.png, note)


def draw_tables(
    draw: Callable[..., Figure], tables: Sequence[Path], picture: Picture, *compared: Any
) -> None:
    """Read the tables and save what `draw` makes of them. compared: what it takes after them."""
    found = [read_table(path) for path in tables]
    picture.save(lambda: draw(*found, *compared), mixed(found))
