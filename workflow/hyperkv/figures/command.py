"""The command line of a figure: tables in, SVG and PNG out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from ..records.hardware import mixed
from . import looks
from .style import read_table, save


def figure_parser(document: str | None) -> argparse.ArgumentParser:
    """The options that every figure has. document: its module's docstring."""
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", type=looks.know, help="JSON: medium, colour and markers of every store")
    parser.add_argument("--svg", required=True, type=Path)
    parser.add_argument("--png", required=True, type=Path)
    return parser


def draw_tables(
    draw: Callable[..., Figure], document: str | None, *names: str, compared: bool = False
) -> None:
    """Parse the command line, read the tables and save what `draw` makes of them.

    names: of the tables, in the order in which `draw` takes them. compared: it takes the chunk size of --spec after them.
    """
    parser = figure_parser(document)
    files = ", ".join(f"{name}.csv" for name in names)
    parser.add_argument("--tables", required=True, nargs=len(names), type=Path, help=files)
    if compared:
        parser.add_argument("--spec", required=True, help='JSON: {"chunk_tokens": size that is compared}')
    arguments = parser.parse_args()
    tables = [read_table(path) for path in arguments.tables]
    chunk = [json.loads(arguments.spec)["chunk_tokens"]] if compared else []
    save(lambda: draw(*tables, *chunk), arguments.svg, arguments.png, mixed(tables))
