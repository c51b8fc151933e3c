"""Where the baseline lies, and whether it is one of the folder that is measured now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASELINE = Path("results/array/baseline.jsonl")


def baseline_of(data_dir: str, array: Mapping[str, Any] | None, path: Path = BASELINE) -> list[str]:
    """[path] when the file's records are of this data_dir and this array, else []."""
    try:
        with path.open() as file:
            spec = json.loads(file.readline())["spec"]
    except (OSError, ValueError, KeyError):
        return []
    return [str(path)] if (spec["data_dir"], spec.get("array")) == (data_dir, array) else []
