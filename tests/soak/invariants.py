"""What must hold after every run of the workflow, read from the files alone and not with the product's functions."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tests.soak.report import Finding

Cell = tuple[str, int, int]  # scenario, repeat, load
_TRACES = (
    "Traceback (most recent call last)",
    "Exception ignored in",
    "Fatal Python error",
    "terminate called after",
    "AddressSanitizer",
)
_ERROR_LINE = re.compile(
    r"^(hyperkv[\w -]*: (error|interrupted)|config: |\s*\w*(Exception|Error)\b|Error in rule|Error: )",
    re.MULTILINE,
)
_OF_THE_JOB = ("job_started_at", "job_s")


@dataclass(frozen=True)
class Asked:
    """What a configuration asks for. scenarios: each one's own keys. shared: keys of the whole spec, by section. data_dir: None
    for the default one.
    """

    scenarios: Mapping[str, Mapping[str, Any]]
    loads: Sequence[int]
    repeats: int
    shared: Mapping[str, Mapping[str, Any]]
    data_dir: str | None = None

    @property
    def cells(self) -> set[Cell]:
        return {
            (scenario, repeat, load)
            for scenario in self.scenarios
            for repeat in range(1, self.repeats + 1)
            for load in self.loads
        }

    def differs(self, record: Mapping[str, Any]) -> str | None:
        """The first key of a cell's spec that is not as asked, with both values; None when all are."""
        spec = record["spec"]
        if self.data_dir is not None and spec.get("data_dir") != self.data_dir:
            return f"data_dir is {spec.get('data_dir')!r}, asked is {self.data_dir!r}"
        sections = {**self.shared, "scenario": self.scenarios.get(record["scenario"], {})}
        for section, keys in sections.items():
            for key, wanted in keys.items():
                found = spec.get(section, {}).get(key)
                if found != wanted:
                    return f"{section}.{key} is {found!r}, asked is {wanted!r}"
        return None if spec["loads"] == list(self.loads) else f"loads are {spec['loads']}"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file's lines; what is no JSON object is left out, and a file that is not
    there has none."""
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def cells_in(path: Path) -> list[dict[str, Any]]:
    """The cell records of a finished file, or of a partial one, whose lines hold them as `record`."""
    inner = [line["record"] if isinstance(line.get("record"), dict) else line for line in lines_of(path)]
    return [record for record in inner if record.get("record") == "cell"]


def cell_of(record: Mapping[str, Any]) -> Cell:
    """A record's identity."""
    return record["scenario"], record["repeat"], record["load"]


def measured(results: Path, asked: Asked) -> dict[Cell, dict[str, Any]]:
    """Cells on disk that are as asked, finished or kept in a partial file."""
    found = {}
    for path in sorted(results.glob("sweep/*/*.jsonl*")):
        if path.name.endswith((".jsonl", ".jsonl.partial")):
            for record in cells_in(path):
                if asked.differs(record) is None:
                    found[cell_of(record)] = record
    return found


def of_checkout(folder: Path, asked: Asked) -> list[Finding]:
    """All that must hold in a checkout after a run that went well."""
    results = folder / "results"
    return [
        *cells_as_asked(results, asked),
        *no_wrong_bytes(results),
        *tables_as_records(results, asked),
        *figures_are_whole(results),
        *files_left(folder),
        *no_traces_in_logs(folder),
    ]


# Each of these is one invariant; an empty list when it holds.


def cells_as_asked(results: Path, asked: Asked) -> list[Finding]:
    """Every cell that is asked for is in its file once, is of the present spec, and nothing else is in a file asked for."""
    found, stale = [], []
    for scenario in asked.scenarios:
        for repeat in range(1, asked.repeats + 1):
            path = results / "sweep" / scenario / f"{repeat}.jsonl"
            if not path.exists():
                found.append(Finding("cells", f"{path.relative_to(results)} is missing"))
                continue
            records = cells_in(path)
            counts = Counter(map(cell_of, records))
            wanted = {(scenario, repeat, load) for load in asked.loads}
            found += [
                Finding("cells", f"{cell} is in {path.relative_to(results)} {counts[cell]} times")
                for cell in sorted(wanted | set(counts))
                if counts[cell] != (cell in wanted)
            ]
            reasons = [why for record in records if (why := asked.differs(record)) is not None]
            stale += [f"{path.relative_to(results)}: {why}" for why in reasons]
    if stale:
        found.append(Finding("cells", f"{len(stale)} are of another configuration, such as {stale[0]}"))
    return found


def no_wrong_bytes(results: Path) -> list[Finding]:
    """No record says that a loaded byte differs from the saved one, or that a request failed."""
    return [
        Finding("bytes", f"{cell_of(record)}: {key} {record['evidence'][key]}")
        for path in sorted(results.glob("sweep/*/*.jsonl"))
        for record in cells_in(path)
        for key in ("corrupt_chunks", "damaged_chunks", "failed_requests")
        if record["evidence"].get(key)
    ]


def tables_as_records(results: Path, asked: Asked) -> list[Finding]:
    """cells (CSV and Parquet), requests, scenarios, ratios, sweep_time, stores and layers, recounted from the records."""
    records = {
        cell_of(record): record
        for scenario, repeat in {cell[:2] for cell in asked.cells}
        for record in cells_in(results / "sweep" / scenario / f"{repeat}.jsonl")
    }
    tables = results / "tables"
    try:
        ratios = _read_csv(tables / "ratios.csv")
        ratios = ratios[
            (ratios["at"] == "load") & (ratios["metric"] == "rps_per_gpu") & ratios["unlike"].isna()
        ]
        layers = _read_csv(tables / "layers.csv").rename(columns={"layer": "rung"})
        requests = pd.read_parquet(tables / "requests.parquet").groupby(list(_CELL), as_index=False)
        counted = requests.agg(rows=("turn", "size"), computed_tokens=("computed_tokens", "sum"))
        return [
            *_unlike("cells.csv", _read_csv(tables / "cells.csv"), _CELL, _cells(records)),
            *_unlike("cells.parquet", pd.read_parquet(tables / "cells.parquet"), _CELL, _cells(records)),
            *_unlike("requests.parquet", counted, _CELL, _requests(records)),
            *_unlike(
                "scenarios.csv",
                _read_csv(tables / "scenarios.csv"),
                ("scenario", "load"),
                _scenarios(records),
            ),
            *_unlike("ratios.csv", ratios, _RATIO, _ratios(ratios, records)),
            *_unlike(
                "sweep_time.csv", _read_csv(tables / "sweep_time.csv"), (), {(): {"cells": len(records)}}
            ),
            *_unlike(
                "stores.csv",
                _read_csv(tables / "stores.csv"),
                _POINT,
                _medians(results.glob("profile/*.jsonl"), _POINT, "gbps"),
            ),
            *_unlike(
                "layers.csv",
                layers[layers["kind"].isin(("rung", "whole")) & layers["s_per_gb"].notna()],
                (*_POINT, "rung"),
                _medians(results.glob("profile/layers/*.jsonl"), (*_POINT, "rung"), "s_per_gb"),
            ),
        ]
    except Exception as error:  # a damaged table raises whatever its reader likes
        return [Finding("tables", f"cannot be read: {type(error).__name__}: {error}")]


Rows = dict[tuple[Any, ...], dict[str, Any]]
_CELL = ("scenario", "repeat", "load")
_RATIO = ("scenario", "baseline", "load")
_POINT = ("scenario", "connections", "value_bytes", "operation")
_OF_A_CELL = ("seed", "spec_digest", "valid", "cell_s", "started_at", "served_from")


def _read_csv(path: Path) -> pd.DataFrame:
    """A table as it was written: the rung `null` is a word."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def _unlike(name: str, table: pd.DataFrame, keys: Sequence[str], wanted: Rows) -> list[Finding]:
    """Where a table differs from the rows, by their keys, that the records make."""
    rows: Rows = {tuple(row[key] for key in keys): row for row in table.to_dict("records")}
    said = [] if len(table) == len(wanted) else [f"{len(table)} rows, the records make {len(wanted)}"]
    said += [
        f"{key} is in the table or the records alone" for key in sorted(set(rows) ^ set(wanted), key=str)
    ]
    said += [
        f"{key}: {column} is {rows[key][column]}, the records make {value}"
        for key in wanted
        if key in rows
        for column, value in wanted[key].items()
        if not _same(rows[key][column], value)
    ]
    return [Finding("tables", f"{name}: {text}") for text in said]


def _same(left: Any, right: Any) -> bool:
    if pd.isna(left) or right is None or pd.isna(right):
        return bool(pd.isna(left)) and (right is None or bool(pd.isna(right)))
    if isinstance(right, str):
        return str(left) == right
    return abs(float(left) - float(right)) <= 1e-12 * max(abs(float(left)), abs(float(right)))


def _cells(records: Mapping[Cell, dict[str, Any]]) -> Rows:
    return {
        cell: {**{key: record[key] for key in _OF_A_CELL}, **record["values"], **record["evidence"]}
        for cell, record in records.items()
    }


def _requests(records: Mapping[Cell, dict[str, Any]]) -> Rows:
    return {
        cell: {"rows": len(found["turn"]), "computed_tokens": sum(found["computed_tokens"])}
        for cell, found in ((cell, record["requests"]) for cell, record in records.items())
    }


def _median(values: Iterable[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _scenarios(records: Mapping[Cell, dict[str, Any]]) -> Rows:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for (scenario, _, load), record in records.items():
        groups.setdefault((scenario, load), []).append(record)
    rows: Rows = {}
    for key, group in groups.items():
        valid = [record for record in group if record["valid"]] or group
        medians = ("rps_per_gpu", "ttft_p50_ms", "hit_rate")
        rows[key] = {name: _median(record["values"][name] for record in valid) for name in medians}
        rows[key]["repeats"] = len(group)
    return rows


def _ratios(table: pd.DataFrame, records: Mapping[Cell, dict[str, Any]]) -> Rows:
    """The ratios that the table has, of valid pairs."""
    rows: Rows = {}
    for scenario, baseline, load in zip(*(table[key] for key in _RATIO), strict=True):
        pairs = [
            (records.get((baseline, repeat, load)), record)
            for (name, repeat, at), record in records.items()
            if (name, at) == (scenario, load)
        ]
        ratio = _median(
            base["values"]["rps_per_gpu"] / record["values"]["rps_per_gpu"]
            for base, record in pairs
            if base and base["valid"] and record["valid"]
        )
        rows[scenario, baseline, load] = {"ratio": ratio}
    return rows


def _medians(paths: Iterable[Path], keys: Sequence[str], value: str) -> Rows:
    groups: dict[tuple[Any, ...], list[float]] = {}
    for path in sorted(paths):
        for record in lines_of(path):
            if all(key in record for key in (*keys, value)) and record[value] is not None:
                groups.setdefault(tuple(record[key] for key in keys), []).append(record[value])
    return {key: {value: statistics.median(values)} for key, values in groups.items()}


def kept(before: Mapping[Cell, dict[str, Any]], after: Mapping[Cell, dict[str, Any]]) -> list[Finding]:
    """What was measured before is what is there now: not lost, not measured again, not changed."""
    found = []
    for cell, record in sorted(before.items()):
        now = after.get(cell)
        if now is None:
            found.append(Finding("kept", f"{cell} was measured, and is lost"))
        elif now.get("measured_in_job") != record.get("measured_in_job"):
            found.append(Finding("kept", f"{cell} was measured, and was measured again"))
        elif _without(now, _OF_THE_JOB) != _without(record, _OF_THE_JOB):
            changed = [key for key in {*now, *record} if now.get(key) != record.get(key)]
            found.append(
                Finding("kept", f"{cell} is another one than was measured, in {', '.join(sorted(changed))}")
            )
    return found


def _without(record: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def traces_in(text: str, where: str) -> list[Finding]:
    """No traceback, and nothing else that only a programmer reads."""
    return [
        Finding("error_lines", f"{where} has {trace!r}: {_around(text, trace)}")
        for trace in _TRACES
        if trace in text
    ]


def noticed(damaged: Mapping[Path, bytes | None]) -> list[Finding]:
    """No file is still as it was damaged by hand (None: deleted): it was made again."""
    found = []
    for path, content in damaged.items():
        if (path.read_bytes() if path.exists() else None) == content:
            found.append(Finding("noticed", f"the damage of {'/'.join(path.parts[-3:])} was not noticed"))
    return found


def errors_are_lines(output: str, status: int, killed: bool) -> list[Finding]:
    """No traceback, and a failed run that was not killed itself says why on a line that begins as errors do."""
    found = traces_in(output, "the terminal")
    if status != 0 and not killed and not _ERROR_LINE.search(output):
        found.append(Finding("error_lines", f"status {status} without a line that says why: {output[-200:]}"))
    return found


def no_traces_in_logs(folder: Path) -> list[Finding]:
    """No traceback in any log of a checkout; one finding for all logs that have the same."""
    paths = sorted([*folder.glob("results/logs/**/*.log"), *folder.glob(".snakemake/log/*.log")])
    found: dict[str, list[str]] = {}
    for path in paths:
        for finding in traces_in(path.read_text(errors="replace"), ""):
            found.setdefault(finding.text, []).append(str(path.relative_to(folder)))
    return [
        Finding("error_lines", f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}{text}")
        for text, names in found.items()
    ]


def _around(text: str, trace: str) -> str:
    """The last line of the traceback, which says what it was."""
    lines = text[text.index(trace) :].splitlines()[1:]
    ends = [line for line in lines if line and not line[0].isspace() and ":" in line]
    return ends[0] if ends else ""


def files_left(folder: Path) -> list[Finding]:
    """After a run that went well: no lock, no mark of an incomplete file, nothing half written, no store's folder."""
    patterns = {
        "lock": [
            ".snakemake/locks/*",
            *(f"results/{stage}/**/*.lock" for stage in ("sweep", "profile", "tune")),
        ],
        "incomplete mark": [".snakemake/incomplete/*"],
        "half-written file": ["results/**/*.partial", "results/**/*.tmp"],
    }
    found = [
        Finding("left", f"a {what}: {path.relative_to(folder)}")
        for what, names in patterns.items()
        for name in names
        for path in sorted(folder.glob(name))
        if "reference" not in path.parts
    ]
    return found + folders_left(folder / "results" / "data")


def folders_left(data_dir: Path) -> list[Finding]:
    """What stores left in a data_dir, or in any folder that is to be empty; a small file that begins with a dot may stay,
    and Snakemake's own temporary folder, which only it could delete when it is killed."""
    if not data_dir.exists():
        return []
    return [
        Finding("left", f"in {data_dir.name}: {path.name}")
        for path in sorted(data_dir.iterdir())
        if not (path.name.startswith(".") and path.is_file() and path.stat().st_size <= 4096)
        and not path.name.startswith("snakemake")
    ]


def figures_are_whole(results: Path) -> list[Finding]:
    """Every figure is there as SVG and PNG, and the page and the summary, each whole as far as its ends tell."""
    ends = {".svg": b"</svg>", ".png": b"IEND", ".html": b"</html>"}
    paths = [*sorted(results.glob("figures/*")), results / "report" / "index.html"]
    found = [] if len(paths) > 10 else [Finding("figures", f"there are {len(paths) - 1} files in figures")]
    for path in paths:
        if not path.exists():
            found.append(Finding("figures", f"{path.name} is missing"))
        elif ends.get(path.suffix, b"") not in path.read_bytes()[-64:]:
            found.append(Finding("figures", f"{path.name} is not whole"))
    summary = results / "tables" / "summary.txt"
    if not summary.exists() or not summary.read_text(errors="replace").strip():
        found.append(Finding("figures", "summary.txt is missing or empty"))
    return found
