"""The prices that a cost is worked out with: a dated table, each figure with its range and its source."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.config_files import read_mapping
from ..base.errors import UserError

KEYS = ("value", "low", "high", "date", "source")
OWN_SOURCE = "the configuration"
_OWN_RANGE = 0.5
_DATE = re.compile(r"\d{4}-\d{2}")


def resolved_prices(
    path: Path, own: Mapping[str, float | None], rules: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Every price by name: value, low, high, unit, date, source.

    path: the table. own: prices of the configuration, None for the table's; they range over +-50 %. rules: the schema's
    entry of every price. Raises UserError naming file, price and key.
    """
    table = _read(path, rules)
    found = {}
    for name, rule in rules.items():
        price = _checked(path, name, table[name], "exclusiveMinimum" in rule["anyOf"][0])
        if own[name] is not None:
            value = own[name]
            spread = {"low": value * (1 - _OWN_RANGE), "high": value * (1 + _OWN_RANGE)}
            price = {"value": value, **spread, "date": None, "source": OWN_SOURCE}
        found[name] = {**price, "unit": rule["unit"]}
    return found


def _read(path: Path, rules: Mapping[str, Any]) -> Mapping[str, Any]:
    table = read_mapping(path, "cost.prices", "config/prices.yaml is one")
    for name in table:
        if name not in rules:
            raise UserError(f"{path}: {name} is not a price; allowed are {', '.join(rules)}")
    for name in rules:
        if name not in table:
            raise UserError(f"{path}: {name} is missing; config/prices.yaml has all of them")
    return table


def _checked(path: Path, name: str, price: Any, positive: bool) -> dict[str, Any]:
    if not isinstance(price, Mapping) or set(price) != set(KEYS):
        raise UserError(f"{path}: {name} must have exactly the keys {', '.join(KEYS)}")
    numbers = [price[key] for key in ("low", "value", "high")]
    for key, number in zip(("low", "value", "high"), numbers, strict=True):
        known = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        if not known or number < 0 or (positive and not number):
            least = "more than 0" if positive else "at least 0"
            raise UserError(f"{path}: {name}.{key}: {number!r} is wrong; it must be a number, {least}")
    if numbers != sorted(numbers):
        raise UserError(f"{path}: {name}: low, value and high must not fall, they are {numbers}")
    if not _DATE.fullmatch(str(price["date"])):
        raise UserError(
            f"{path}: {name}.date: {price['date']!r} is wrong; it must be a month such as 2026-11"
        )
    if not isinstance(price["source"], str) or not price["source"].strip():
        raise UserError(f"{path}: {name}.source is empty; say where the figure is from, or: assumption")
    return {**{key: price[key] for key in KEYS}, "source": " ".join(price["source"].split())}
