"""A search's parameters in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def worded(values: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """What differs from the base, in words: 'stripe_bytes 4 MiB, connections 8'; 'as it is' for nothing."""
    differing = [f"{name} {_word(name, value)}" for name, value in values.items() if value != base.get(name)]
    return ", ".join(differing) or "as it is"


def _word(name: str, value: Any) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**20:g} MiB" if value >= 2**20 else f"{value / 2**10:g} KiB"
    return "not set" if value is None else str(value)
