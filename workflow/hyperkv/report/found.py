"""The tables and JSON documents that a page or a summary is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..records.frames import read_csv, read_json


def read(paths: Sequence[Path], needed: Sequence[str]) -> dict[str, Any]:
    """Tables and JSON files by name. Raises UserError naming one that is needed and missing among them."""
    found = {
        path.stem: read_json(path)
        if path.suffix == ".json"
        else read_csv(path, keep_default_na=False, na_values=[""])
        for path in paths
    }
    if missing := [name for name in needed if name not in found]:
        raise UserError(f"{', '.join(missing)} is not among the files; give its path with --tables")
    return found
