"""Earlier measurements outlive a job that fails: Snakemake removes what a job makes before the job starts.

(Its own flag `update` restores it too, but removes it again under an executor that submits jobs.)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..records.record_file import is_whole

_KEPT = Path(".snakemake/hyperkv/earlier")


def keep(files: Iterable[Path]) -> None:
    """Put copies of measured files aside, of those that are there and whole."""
    for path in files:
        if path.is_file() and _is_sound(path):
            _copy_whole(path, _KEPT / path)


def restore() -> list[Path]:
    """Put back what was kept of files that are not there any more; those files. A copy is put back once.

    So that a file that somebody deletes later, to measure it again, stays away.
    """
    restored = []
    for kept in [path for path in _KEPT.rglob("[!.]*") if path.is_file()]:
        path = kept.relative_to(_KEPT)
        if not path.exists() and _is_sound(kept):
            _copy_whole(kept, path)
            restored.append(path)
        if path.exists() and _is_sound(path):
            kept.unlink()
    return restored


def _copy_whole(path: Path, to: Path) -> None:
    """Copy a file, to be whole there or not at all."""
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.tmp")
    shutil.copy2(path, temporary)
    os.replace(temporary, to)


def _is_sound(path: Path) -> bool:
    return path.suffix != ".jsonl" or is_whole(path)
