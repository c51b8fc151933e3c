"""What records depend on: a stage's spec, the files that it names, and the code that the stage runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..base.digests import canonical_digest, sha256_of
from .record_file import Identity

BY_HAND = "by hand"
FETCHED_TRACE = "results/traces/mooncake_conversation.jsonl"
"""What rule fetch_trace downloads, by a pinned checksum."""


def identity_of(spec: Mapping[str, Any], code: str) -> Identity:
    """What records of a stage depend on: its spec, what the files say that the spec names, and the code by its digest."""
    files = {path: _contents_digest(path) for path in files_of(spec)}
    return Identity(canonical_digest([spec, files]), code)


def files_of(spec: Mapping[str, Any]) -> list[str]:
    """The files of a configuration that a stage's spec names and that are there: model, GPU, trace and texts.

    Not what a run makes meanwhile, the published trace and tokens of texts: an identity is the same before and afterwards.
    """
    told = spec.get("sweep", spec)
    workload = told.get("workload", {})
    named = [told.get("model"), told.get("gpu"), *(workload.get(key) for key in ("trace", "file"))]
    return [path for path in named if path and path != FETCHED_TRACE and Path(path).is_file()]


def _contents_digest(path: str) -> str:
    """12 hex digits that name the contents of a file."""
    found = os.stat(path)
    return _digest_of(path, found.st_mtime_ns, found.st_size)


@cache
def _digest_of(path: str, mtime_ns: int, size: int) -> str:
    return sha256_of(Path(path))[:12]
