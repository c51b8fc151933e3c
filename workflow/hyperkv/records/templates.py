"""Text that people read: Jinja templates, each beside the module that fills it and of the same name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def filled(module: str, part: str | None = None, **contents: Any) -> str:
    """The template `stage.j2` of the module `stage.py`, filled; part: of a template that is macros, the one to fill.

    module: the module's __file__. contents: what the template, or the macro, names.
    """
    template = _template(Path(module).with_suffix(".j2"))
    return template.render(contents) if part is None else getattr(template.module, part)(**contents)


def number(value: float | None) -> str:
    """Three significant digits; "unknown" for None."""
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def size_words(size_bytes: float) -> str:
    """'8 GiB', or '512 MiB' where it is less than one."""
    return f"{size_bytes / 2**30:g} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:g} MiB"


@cache
def _template(path: Path) -> Template:
    return environment(path.parent).get_template(path.name)


def environment(folder: Path, html: bool = False) -> Environment:
    """Where templates of a folder are filled: a line of a tag alone leaves none, and a name without a value is an error.

    Beside Jinja's own there are the test `known` (neither None nor NaN) and the filter `lines(width, first, rest, most)`, which
    breaks a paragraph into lines, and leaves out what is past the most of them. html: whether values are escaped.
    """
    found = Environment(
        loader=FileSystemLoader(folder),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.tests["known"] = pd.notna
    found.filters["lines"] = _lines
    return found


def _lines(text: str, width: int, first: str = "", rest: str = "", most: int | None = None) -> str:
    return fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        max_lines=most,
        placeholder=" …",
    )
