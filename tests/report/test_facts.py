"""What the page says of a run as a whole."""

import pandas as pd

from workflow.hyperkv.report.facts import evidence_items


def cells(**columns) -> pd.DataFrame:
    rows = {"valid": True, "repeat": 1, "tier": "ssd", "served_from": "ssd", "device_share": 1.0}
    return pd.DataFrame(
        rows | {"dropped_chunks": [300, 0, 88], "notes": [None, "4 processes", None]} | columns
    )


def test_chunks_that_had_no_room_say_where():
    title = "Chunks not saved for want of room"
    assert dict(evidence_items(cells()))[title] == "388"
    notes = [
        "4 processes; 200 chunks were not saved: the pool is full, raise it; 100 chunks were not saved: saves are behind",
        None,
        "88 chunks were not saved: the pool is full, raise it",
    ]
    found = dict(evidence_items(cells(notes=notes)))[title]
    assert found == "388; 288: the pool is full, raise it; 100: saves are behind"
    assert dict(evidence_items(cells(dropped_chunks=None)))[title] == "not counted"
