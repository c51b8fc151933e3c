"""Where the baseline lies, and whether it is one of the folder that is measured now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .record import RECORD, recorded_uuid

BASELINE = Path("results/array/baseline.jsonl")


def baseline_of(
    data_dir: str, array: Mapping[str, Any] | None, path: Path = BASELINE, array_record: Path = RECORD
) -> list[str]:
    """[path] when the file's records are of this data_dir and this array, else [].

    array: ArraySettings.identity(), None without an array; with one, the md UUID of its record must be the baseline's, too.
    """
    try:
        with path.open() as file:
            first = json.loads(file.readline())
        measured = first["spec"]["data_dir"], first["spec"].get("array"), first.get("md_uuid")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    md_uuid = None if array is None else recorded_uuid(array_record)
    if array is not None and md_uuid is None:
        return []
    return [str(path)] if measured == (data_dir, array, md_uuid) else []
