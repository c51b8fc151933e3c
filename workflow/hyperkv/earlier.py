"""Earlier measurements outlive a job that fails: Snakemake removes what a job makes before the job starts.

(Its own flag `update` restores it too, but removes it again under an executor that submits jobs.)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from .record_file import is_whole

_KEPT = Path(".snakemake/hyperkv/earlier")


def keep(files: Iterable[Path]) -> None:
    """Put copies of measured files aside, of those that are there and whole."""
    for path in files:
        if path.is_file() and _is_sound(path):
            kept = _KEPT / path
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept)


def restore() -> list[Path]:
    """Put back what was kept of files that are not there any more; those files."""
    restored = []
    for kept in _KEPT.rglob("*"):
        path = kept.relative_to(_KEPT)
        if kept.is_file() and not path.exists() and _is_sound(kept):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(kept, path)
            restored.append(path)
    return restored


def forget(files: Iterable[str]) -> None:
    """Remove the copies of files."""
    for path in files:
        (_KEPT / path).unlink(missing_ok=True)


def _is_sound(path: Path) -> bool:
    return path.suffix != ".jsonl" or is_whole(path)
