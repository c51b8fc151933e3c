"""Digests of files and of JSON values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_digest(value: Any) -> str:
    """12 hex digits that name a JSON value, whatever the order of its keys."""
    return short_digest(json.dumps(value, sort_keys=True, separators=(",", ":")))


def short_digest(text: str) -> str:
    """12 hex digits that name a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
