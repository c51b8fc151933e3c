"""Rule write_layers: from the rungs' records to one row per layer, a sentence per scenario and the verdict.

python -m workflow.hyperkv.tables.layers --rungs results/profile/layers/*.jsonl --table results/tables/layers.csv --text results/tables/layers.txt
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Files
from ..records import hardware
from ..records.frames import Asked, read_jsonl, write_table
from ..records.repeats import said_once
from ..records.stats import Interval, median, median_interval, spread
from .methods import substitution
from .methods.dictionary import table_of
from .methods.layers_text import layers_text
from .methods.substitution import COPIES, NETWORK, UNEXPLAINED, WHOLE, Layer, layers_of, left_out_of

_PER_GB = {
    "server_cpu_s_per_gb": "server_cpu_s",
    "client_cpu_s_per_gb": "client_cpu_s",
    "server_faults_per_gb": "server_page_faults",
    "client_faults_per_gb": "client_page_faults",
}
_IDENTITY = ("scenario", "operation", "value_bytes", "connections")
_NOTHING = Interval(None, None, None)

Rungs = dict[str, dict[str, Any]]


def main(*, rungs: Files = (), asked: Asked = None, table: Path, text: Path) -> None:
    """Write the table and the text.

    Args:
        rungs: JSONL files of the layers.
        table: CSV file.
        text: text file.
    """
    found = layers_table(read_jsonl(rungs, asked))
    write_table(found, [table])
    text.write_text(layers_text(found))


def layers_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of every point: its rungs, its layers, the whole and the rest, what was sampled, and the claim's shares."""
    points: dict[tuple, dict[int, Rungs]] = {}
    for record in records:
        repeats = points.setdefault(tuple(record[key] for key in _IDENTITY), {})
        repeats.setdefault(record["repeat"], {})[record["rung"]] = dict(record)
    rows = [row for repeats in points.values() for row in point_rows(list(repeats.values()))]
    return table_of("layers", rows)


def point_rows(repeats: Sequence[Rungs]) -> Iterator[dict[str, Any]]:
    """The rows of one scenario, operation, value size and number of connections. repeats: rung -> record, of each."""
    first = next(iter(repeats[0].values()))
    scenario = first["spec"]["scenario"]
    identity = {key: first[key] for key in _IDENTITY} | {
        key: scenario[key] for key in ("tier", "store", "connector")
    }
    layers = layers_of(scenario, first["operation"])
    found = [substitution.seconds_by_layer(layers, _seconds(rungs)) for rungs in repeats]
    wholes = [rungs[WHOLE]["s_per_gb"] for rungs in repeats]
    measured_on = hardware.columns_of(record for rungs in repeats for record in rungs.values())

    def row(kind: str, layer: str, seconds: Sequence[float | None], **values: Any) -> dict[str, Any]:
        interval = median_interval(seconds)
        known = substitution.distinguishable(interval)
        share = substitution.share_interval(seconds, wholes) if known and kind != "rung" else _NOTHING
        return {
            **identity,
            "kind": kind,
            "layer": layer,
            **spread("s_per_gb", interval),
            **spread("share", share),
            "distinguishable": known,
            "repeats": len(repeats),
            **measured_on,
            **values,
        }

    for rung in repeats[0]:
        values = _medians(repeats, Layer(rung, rung, None))
        seconds = [rungs[rung]["s_per_gb"] for rungs in repeats]
        kind = WHOLE if rung == WHOLE else "rung"
        if rung == WHOLE:
            values["copies_per_byte"] = _copies_per_byte(repeats, COPIES)
        notes = said_once(note for rungs in repeats for note in rungs[rung]["notes"])
        yield row(kind, rung, seconds, definition=rung, notes=notes, **values)
    for layer in layers:
        values = _medians(repeats, layer) | (
            _checked(repeats, layer, NETWORK) if layer.name == "wire" else {}
        )
        seconds = [layers_s[layer.name] for layers_s in found]
        yield row("layer", layer.name, seconds, definition=layer.definition, **values)
    rest = [layers_s[UNEXPLAINED] for layers_s in found]
    yield row("layer", UNEXPLAINED, rest, definition="whole - the sum of the layers")
    for layer in left_out_of(scenario, first["operation"]):
        seconds = [layer.of(_seconds(rungs)) for rungs in repeats]
        yield row("left_out", layer.name, seconds, definition=layer.definition, **_medians(repeats, layer))
    yield from _claim_rows(row, found, wholes, {layer.name for layer in layers})
    yield from _sampled_rows(row, repeats)


def _seconds(rungs: Rungs) -> dict[str, float | None]:
    return {name: record["s_per_gb"] for name, record in rungs.items()}


def _claim_rows(row: Any, found: Sequence[Mapping], wholes: Sequence, names: set[str]) -> Iterator[dict]:
    """The groups of layers that the claim compares, for a scenario with a device behind a wire; their shares stand
    even where they cannot be told from 0."""
    if not {"wire", "device"} <= names:
        return
    for group, members in (
        ("serialization", substitution.SERIALIZATION),
        ("device", ("device",)),
        ("server_side", substitution.SERVER_SIDE),
    ):
        there = [name for name in members if name in names]
        seconds = [substitution.together(layers, there) for layers in found]
        made = row("group", group, seconds, definition=" + ".join(there))
        yield made | spread("share", substitution.share_interval(seconds, wholes))


def _sampled_rows(row: Any, repeats: Sequence[Rungs]) -> Iterator[dict]:
    """What perf saw of the whole's server, a row per category, and whether the part beyond the wire agrees."""
    categories = next((list(rungs[WHOLE]["sampled"]) for rungs in repeats if rungs[WHOLE]["sampled"]), None)
    if categories is None:
        return
    nothing = [None] * len(repeats)
    for category in categories:
        copies = _copies_per_byte(repeats, (category,)) if category in COPIES else None
        sampled = _sampled(repeats, (category,))
        yield row("sample", category, nothing, sampled_cpu_s_per_gb=sampled, copies_per_byte=copies)
    beyond = Layer("beyond_wire", WHOLE, "loopback")
    checked = _checked(repeats, beyond, [name for name in categories if name not in NETWORK])
    yield row("check", beyond.name, nothing, definition=beyond.definition, **checked)


def _checked(repeats: Sequence[Rungs], layer: Layer, categories: Sequence[str]) -> dict[str, Any]:
    """The server's CPU of a layer, what was sampled of it in the categories that the layer is of, and whether the two agree."""
    told, sampled = _median(repeats, layer, "server_cpu_s"), _sampled(repeats, categories)
    agrees = substitution.agree(told, sampled)
    return {"server_cpu_s_per_gb": told, "sampled_cpu_s_per_gb": sampled, "agrees": agrees}


def _sampled(repeats: Sequence[Rungs], categories: Sequence[str]) -> float | None:
    """Median over repeats of the server's CPU s/GB in categories: their share of the samples times its CPU clock."""
    return median([_sampled_cpu(rungs[WHOLE], categories) for rungs in repeats])


def _copies_per_byte(repeats: Sequence[Rungs], categories: Sequence[str]) -> float | None:
    """Median over repeats of the copies in memory that the server's sampled CPU in categories would have made."""
    values = []
    for rungs in repeats:
        copying = _sampled_cpu(rungs[WHOLE], categories)
        once = _per_gb(rungs.get("memcpy"), "client_cpu_s")
        values.append(None if copying is None or not once else copying / once)
    return median(values)


def _sampled_cpu(whole: Mapping[str, Any], categories: Sequence[str]) -> float | None:
    cpu, shares = _per_gb(whole, "server_cpu_s"), whole["sampled"]
    return None if cpu is None or not shares else cpu * sum(shares[name] for name in categories)


def _per_gb(record: Mapping[str, Any] | None, field: str) -> float | None:
    """A field per 10^9 bytes; None where it was not measured: CPU time of 0 is less than its clock's step."""
    if record is None or record[field] is None or not record["moved_bytes"]:
        return None
    if field.endswith("cpu_s") and not record[field]:
        return None
    return record[field] / record["moved_bytes"] * 1e9


def _medians(repeats: Sequence[Rungs], layer: Layer) -> dict[str, float | None]:
    return {name: _median(repeats, layer, field) for name, field in _PER_GB.items()}


def _median(repeats: Sequence[Rungs], layer: Layer, field: str) -> float | None:
    """Median over repeats of a layer's own part of a field, per 10^9 bytes."""
    by_rung = ({name: _per_gb(record, field) for name, record in rungs.items()} for rungs in repeats)
    return median([layer.of(values) for values in by_rung])


if __name__ == "__main__":
    sys.exit(run_stage("layers", main))
