"""Where the baseline lies, and whether it is one of the folder that is measured now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .record import RECORD, recorded_uuid

BASELINE = Path("results/array/baseline.jsonl")


def baseline_of(spec: Mapping[str, Any], path: Path = BASELINE, array_record: Path = RECORD) -> list[str]:
    """[path] when the file's records are what the configuration asks for, of this data_dir and this array, else [].

    spec: baseline_spec; with an array in it, the md UUID of the array's record must be the baseline's, too.
    """
    try:
        with path.open() as file:
            first = json.loads(file.readline())
        measured, md_uuid = first["spec"], first.get("md_uuid")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    if "array" not in spec:
        return [str(path)] if (measured, md_uuid) == (spec, None) else []
    there = recorded_uuid(array_record)
    return [str(path)] if there is not None and (measured, md_uuid) == (spec, there) else []
