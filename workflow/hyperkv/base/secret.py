"""A password in a file that this project writes."""

from __future__ import annotations

import os
from pathlib import Path


def quoted(text: str) -> str:
    """A value of a configuration file of Valkey or Kvrocks, in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def write_private(path: Path, text: str) -> None:
    """A new file, in place of another, that its owner alone can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
