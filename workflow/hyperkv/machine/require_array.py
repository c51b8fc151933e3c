"""The array under a measurement, looked at before it begins; what looks is loaded only where a configuration has one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

VERIFY = "array.verify"


def require_array(spec: Mapping[str, Any]) -> str | None:
    """The md UUID of the array that a stage's spec puts its data on, None without one.

    Raises ArrayError when it is not there as provisioned.
    """
    if spec.get("array") is None:
        return None
    return import_module(f"workflow.hyperkv.{VERIFY}").verified(spec["array"])["md_uuid"]


def modules_of(spec: Mapping[str, Any]) -> list[str]:
    """The modules that looking takes, by their names below workflow.hyperkv, for base.sources."""
    return [] if spec.get("array") is None else [VERIFY]
