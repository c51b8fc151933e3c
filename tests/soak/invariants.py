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
        for scenario in asked.scenarios
        for repeat in range(1, asked.repeats + 1)
        for record in cells_in(results / "sweep" / scenario / f"{repeat}.jsonl")
    }
    tables = results / "tables"
    try:
        return [
            *_cells_table(_read_csv(tables / "cells.csv"), records, "cells.csv"),
            *_cells_table(pd.read_parquet(tables / "cells.parquet"), records, "cells.parquet"),
            *_requests_table(pd.read_parquet(tables / "requests.parquet"), records),
            *_scenarios_table(_read_csv(tables / "scenarios.csv"), records),
            *_ratios_table(_read_csv(tables / "ratios.csv"), records),
            *_counted("sweep_time.csv", int(_read_csv(tables / "sweep_time.csv")["cells"][0]), len(records)),
            *_stores_table(_read_csv(tables / "stores.csv"), results),
            *_layers_table(_read_csv(tables / "layers.csv"), results),
        ]
    except Exception as error:  # a damaged table raises whatever its reader likes
        return [Finding("tables", f"cannot be read: {type(error).__name__}: {error}")]


def _read_csv(path: Path) -> pd.DataFrame:
    """A table as it was written: the rung `null` is a word."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def _counted(table: str, found: int, wanted: int) -> list[Finding]:
    return [] if found == wanted else [Finding("tables", f"{table} counts {found}, the records {wanted}")]


def _same(left: Any, right: Any) -> bool:
    if pd.isna(left) or right is None or pd.isna(right):
        return bool(pd.isna(left)) and (right is None or bool(pd.isna(right)))
    if isinstance(right, str):
        return str(left) == right
    return abs(float(left) - float(right)) <= 1e-12 * max(abs(float(left)), abs(float(right)))


def _cells_table(table: pd.DataFrame, records: Mapping[Cell, dict[str, Any]], name: str) -> list[Finding]:
    rows: dict[Cell, Any] = {}
    found = _counted(name, len(table), len(records))
    for _, row in table.iterrows():
        rows[(str(row["scenario"]), int(row["repeat"]), int(row["load"]))] = row
    for cell in sorted(set(rows) ^ set(records)):
        found.append(
            Finding("tables", f"{name}: {cell} is in {'it' if cell in rows else 'the records'} alone")
        )
    for cell in sorted(set(rows) & set(records)):
        record = records[cell]
        own = {
            key: record[key]
            for key in ("seed", "spec_digest", "valid", "cell_s", "started_at", "served_from")
        }
        for key, value in {**own, **record["values"], **record["evidence"]}.items():
            if not _same(rows[cell][key], value):
                found.append(
                    Finding("tables", f"{name}: {cell} {key} is {rows[cell][key]}, the record says {value}")
                )
    return found


def _requests_table(table: pd.DataFrame, records: Mapping[Cell, dict[str, Any]]) -> list[Finding]:
    rows = Counter(zip(table["scenario"], table["repeat"], table["load"], strict=True))
    wanted = {cell: len(record["requests"]["turn"]) for cell, record in records.items()}
    found = _counted("requests.parquet", len(table), sum(wanted.values()))
    found += [
        Finding(
            "tables", f"requests.parquet has {rows[cell]} rows of {cell}, the record {wanted.get(cell, 0)}"
        )
        for cell in sorted(set(rows) | set(wanted))
        if rows[cell] != wanted.get(cell, 0)
    ]
    total = sum(sum(record["requests"]["computed_tokens"]) for record in records.values())
    return found + _counted("requests.parquet: computed_tokens", int(table["computed_tokens"].sum()), total)


def _scenarios_table(table: pd.DataFrame, records: Mapping[Cell, dict[str, Any]]) -> list[Finding]:
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for (scenario, _, load), record in records.items():
        groups.setdefault((scenario, load), []).append(record)
    found = _counted("scenarios.csv", len(table), len(groups))
    for _, row in table.iterrows():
        group = groups.get((str(row["scenario"]), int(row["load"])), [])
        valid = [record for record in group if record["valid"]] or group
        found += _counted(f"scenarios.csv: repeats of {row['scenario']}", int(row["repeats"]), len(group))
        for name in ("rps_per_gpu", "ttft_p50_ms", "hit_rate"):
            values = [record["values"][name] for record in valid if record["values"][name] is not None]
            wanted = statistics.median(values) if values else None
            if not _same(row[name], wanted):
                found.append(
                    Finding(
                        "tables",
                        f"scenarios.csv: {name} of {row['scenario']} at {row['load']} is {row[name]}, the records' median "
                        f"{wanted}",
                    )
                )
    return found


def _ratios_table(table: pd.DataFrame, records: Mapping[Cell, dict[str, Any]]) -> list[Finding]:
    found = []
    rows = table[(table["at"] == "load") & (table["metric"] == "rps_per_gpu") & table["unlike"].isna()]
    for _, row in rows.iterrows():
        quotients = []
        for (scenario, repeat, load), record in records.items():
            base = records.get((str(row["baseline"]), repeat, load))
            if (
                scenario == row["scenario"]
                and load == int(row["load"])
                and base
                and base["valid"]
                and record["valid"]
            ):
                quotients.append(base["values"]["rps_per_gpu"] / record["values"]["rps_per_gpu"])
        wanted = statistics.median(quotients) if quotients else None
        if not _same(row["ratio"], wanted):
            found.append(
                Finding(
                    "tables",
                    f"ratios.csv: {row['scenario']} at {row['load']} is {row['ratio']}, recounted {wanted}",
                )
            )
    return found


def _medians(paths: Iterable[Path], keys: Sequence[str], value: str) -> dict[tuple[Any, ...], float]:
    groups: dict[tuple[Any, ...], list[float]] = {}
    for path in paths:
        for record in lines_of(path):
            if all(key in record for key in (*keys, value)) and record[value] is not None:
                groups.setdefault(tuple(record[key] for key in keys), []).append(record[value])
    return {key: statistics.median(values) for key, values in groups.items()}


def _stores_table(table: pd.DataFrame, results: Path) -> list[Finding]:
    keys = ("scenario", "connections", "value_bytes", "operation")
    wanted = _medians(sorted(results.glob("profile/*.jsonl")), keys, "gbps")
    found = _counted("stores.csv", len(table), len(wanted))
    for _, row in table.iterrows():
        if not _same(row["gbps"], wanted.get(tuple(row[key] for key in keys))):
            found.append(
                Finding("tables", f"stores.csv: {[row[key] for key in keys]} is not the records' median")
            )
    return found


def _layers_table(table: pd.DataFrame, results: Path) -> list[Finding]:
    keys = ("scenario", "connections", "value_bytes", "operation", "rung")
    wanted = _medians(sorted(results.glob("profile/layers/*.jsonl")), keys, "s_per_gb")
    rungs = table[table["kind"].isin(("rung", "whole")) & table["s_per_gb"].notna()]
    found = _counted("layers.csv: rungs", len(rungs), len(wanted))
    for _, row in rungs.iterrows():
        name = tuple(row["layer" if key == "rung" else key] for key in keys)
        if not _same(row["s_per_gb"], wanted.get(name)):
            found.append(Finding("tables", f"layers.csv: {name} is not the records' median"))
    return found


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
