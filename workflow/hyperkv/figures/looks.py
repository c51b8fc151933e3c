"""What figures say of each store, connector and tier: colour, marker, line and medium. A store looks the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.colors import to_hex, to_rgb
from matplotlib.typing import LineStyleType

TIER_COLOURS = {"hbm": "#E69F00", "dram": "#0072B2", "ssd": "#D55E00"}
LINES: dict[str, LineStyleType] = {
    "inprocess": "-",
    "resp": "-",
    "redis": "--",
    "striped": (0, (1, 1)),
    "direct": (0, (5, 1)),
    "direct_mp": (0, (5, 1, 1, 1)),
    "striped_mp": (0, (3, 1, 1, 1)),
    "striped_tier": (0, (5, 1, 1, 1, 1, 1)),
    "": ":",
}
CONNECTOR_MARKERS = {
    "inprocess": "o",
    "redis": "v",
    "resp": "s",
    "striped": "*",
    "striped_mp": "P",
    "striped_tier": "X",
}


_SHADES = (("black", 0.0), ("black", 0.35), ("white", 0.4), ("black", 0.6))
_MEDIA = {"ram": "RAM", "ssd": "SSD"}
_NO_STORE = {"colour": "#000000", "marker": "x"}  # tier none
_known: dict[str, dict[str, str]] = {}


def know(stores: Mapping[str, dict[str, str]]) -> None:
    """Take over what stores say of themselves: by store its medium, colour, marker and second_marker.

    Colours are of Okabe and Ito's palette, told apart with every common colour blindness.
    """
    _known.update(stores)


def colour_of(store: str) -> str:
    """A store's colour; "" is tier none."""
    return _look(store).get("colour", "#999999")


def shade(colour: str, number: int) -> str:
    """A colour for the further scenarios of a store: itself (0), darker, lighter, and darker still, by turns."""
    end, share = _SHADES[number % len(_SHADES)]
    pairs = zip(to_rgb(colour), to_rgb(end), strict=True)
    red, green, blue = ((1 - share) * own + share * other for own, other in pairs)
    return to_hex((red, green, blue))


def marker_of(store: str, second: bool = False) -> str:
    """A store's marker, or that of its second scenario; "" is tier none."""
    return _look(store).get("second_marker" if second else "marker", "v")


def medium_of(row: pd.Series) -> str:
    """Where a scenario's bytes are meant to lie: RAM, SSD, or tmpfs for a store on files in tier dram; '?' of an unknown store."""
    medium = _MEDIA.get(_look(row["store"]).get("medium", ""), "?")
    return "tmpfs" if medium == "SSD" and row["tier"] == "dram" else medium


def _look(store: str) -> dict[str, str]:
    return _known.get(store, {}) if store else _NO_STORE
