"""What figures say of each store, connector and tier: colour, marker, line and medium. A store looks the same everywhere."""

from __future__ import annotations

import pandas as pd

# Okabe and Ito's palette, told apart with every common colour blindness.
COLOURS = {
    "none": "#000000",
    "dram": "#0072B2",
    "files": "#009E73",
    "valkey": "#56B4E9",
    "rocksdb": "#D55E00",
    "kvrocks": "#CC79A7",
}
MARKERS = {"none": "x", "dram": "o", "files": "s", "valkey": "^", "rocksdb": "D", "kvrocks": "P"}
SECOND_MARKERS = {"dram": "8", "files": "p", "valkey": "v", "rocksdb": "d", "kvrocks": "H"}
MEDIUM = {"dram": "RAM", "valkey": "RAM", "files": "SSD", "rocksdb": "SSD", "kvrocks": "SSD"}
TIER_COLOURS = {"hbm": "#E69F00", "dram": COLOURS["dram"], "ssd": COLOURS["rocksdb"]}
LINES = {
    "inprocess": "-",
    "resp": "-",
    "redis": "--",
    "striped": (0, (1, 1)),
    "striped_mp": (0, (3, 1, 1, 1)),
    "": ":",
}
CONNECTOR_MARKERS = {"inprocess": "o", "redis": "v", "resp": "s", "striped": "*", "striped_mp": "P"}


def colour_of(store: str) -> str:
    """A store's colour; "" is tier none."""
    return COLOURS.get(store or "none", "#999999")


def marker_of(store: str) -> str:
    """A store's marker; "" is tier none."""
    return MARKERS.get(store or "none", "v")


def medium_of(row: pd.Series) -> str:
    """Where a scenario's bytes are meant to lie: RAM, SSD, or tmpfs for a store on files in tier dram; '?' of an unknown store."""
    medium = MEDIUM.get(row["store"], "?")
    return "tmpfs" if medium == "SSD" and row["tier"] == "dram" else medium
