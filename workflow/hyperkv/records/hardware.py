"""What records were measured on, as columns of the tables, and what a figure says when that was not alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from .scenario import uses_data_dir

COLUMNS = ("node", "hardware", "disk")
_BETWEEN = " | "
_MIXED = {
    "hardware": "on {} different machines",
    "disk": "on {} different disks",
    "pair": "with {} pairs of vLLM and LMCache, each to be compared with its own recompute alone",
}


def columns_of(records: Iterable[Mapping[str, Any]]) -> dict[str, str | None]:
    """The values of COLUMNS for a row that is made of `records`; several different ones are joined by ' | '.

    disk is that of the config's data_dir, and only of a store on it, tier ssd: others do not use it, and a scenario
    with a folder or a place of its own is meant to differ. None where no record tells.
    """
    found: dict[str, list[str]] = {name: [] for name in COLUMNS}
    for record in records:
        environment, spec = (_mapping(record.get(key)) for key in ("environment", "spec"))
        on_disk = uses_data_dir(spec.get("scenario"))
        machines = [each for each in (environment, _mapping(environment.get("store_node"))) if each]
        disk = disk_words(machines[-1].get("disk") or {}) if machines and on_disk else None
        for machine in machines:
            values = (machine.get("node"), hardware_words(machine), disk)
            for name, value in zip(COLUMNS, values, strict=True):
                if value and value not in found[name]:
                    found[name].append(value)
    return {name: _BETWEEN.join(values) or None for name, values in found.items()}


def joined(rows: pd.DataFrame) -> dict[str, str | None]:
    """The values of COLUMNS for a row that is made of `rows`; None for one that they do not have."""
    values = {
        name: [each for text in rows[name].dropna() for each in text.split(_BETWEEN)] if name in rows else []
        for name in COLUMNS
    }
    return {name: _BETWEEN.join(dict.fromkeys(found)) or None for name, found in values.items()}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def hardware_words(environment: Mapping[str, Any]) -> str | None:
    """'16 of 64 x AMD EPYC 7B13, 504 GiB, 2 x NVIDIA L4': cores (those a job may use, if fewer), memory, GPUs.

    The same words are the same hardware. None for a record that does not tell.
    """
    if not {"cores", "ram_bytes"} <= set(environment):
        return None
    cores, usable = environment["cores"], environment.get("usable_cores")
    count = f"{usable} of {cores}" if usable is not None and usable < cores else str(cores)
    gpus = [line.split(",")[0].strip() for line in environment.get("gpu") or []]
    parts = [
        f"{count} x {environment.get('cpu') or 'CPU core'}",
        f"{environment['ram_bytes'] / 2**30:.0f} GiB",
        *(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)),
    ]
    return ", ".join(parts)


def machine_words(environment: Mapping[str, Any]) -> str:
    """'2 x AMD EPYC, 24 GiB, ext4 on vda' of a record's environment; what is unknown is left out."""
    disk = environment.get("disk") or {}
    parts = [
        f"{environment['cores']} x {environment.get('cpu') or 'CPU core'}",
        f"{environment['ram_bytes'] / 2**30:.0f} GiB",
        " on ".join(str(disk[key]) for key in ("file_system", "device") if disk.get(key)),
    ]
    return ", ".join(part for part in parts if part)


def gpu_of(record: Mapping[str, Any]) -> dict[str, str | None]:
    """The modelled GPU and the model its figures were scaled from; of a real engine the GPUs it ran on, or "CPU"."""
    if (modelled := record.get("gpu_model")) is not None:
        return {"gpu": modelled["name"], "gpu_scaled_from": modelled["scaled_from"]}
    names = [line.split(",")[0] for line in record["environment"]["gpu"]]
    device = {**record["spec"]["vllm"], **record["spec"]["scenario"]["vllm"]}["device"]
    return {"gpu": ", ".join(dict.fromkeys(names)) if device == "cuda" else "CPU", "gpu_scaled_from": None}


def gpu_words(rows: pd.DataFrame) -> str | None:
    """'2 x NVIDIA L4': the GPUs of a table's rows with their number where it is not 1, several joined by ', '; None for none.

    rows: with column gpu; a table from before there was the column gpus has one each.
    """
    counts = rows["gpus"] if "gpus" in rows else [1] * len(rows)
    found = {
        f"{int(count)} x {gpu}" if pd.notna(count) and count > 1 else str(gpu): None
        for gpu, count in zip(rows["gpu"], counts, strict=True)
        if pd.notna(gpu)
    }
    return ", ".join(found) or None


def short_gpu(name: str) -> str:
    """'A100 80GB' of 'NVIDIA A100 80GB (derived)', 'MI300X 192GB' of 'AMD Instinct MI300X 192GB (derived)'."""
    for maker in ("NVIDIA ", "AMD Instinct "):
        name = name.removeprefix(maker)
    return name.removesuffix(" (derived)").removesuffix(" HBM3")


def disk_words(disk: Mapping[str, Any]) -> str | None:
    """'ext4, 2 x Samsung PM9A3 (md array, raid0, 512 KiB)': file system, the disks' models and what joins them."""
    if not disk:
        return None
    models = [member.get("model") for member in disk.get("members") or []] or [disk.get("model")]
    names = [f"{models.count(name)} x {name}" for name in dict.fromkeys(models) if name]
    chunk = disk.get("raid_chunk_bytes")
    how = [disk.get("kind"), disk.get("level"), f"{chunk >> 10} KiB" if chunk else None]
    joined = ", ".join(filter(None, how))
    parts = [disk.get("file_system") or "an unknown file system", *names]
    return ", ".join(parts) + (f" ({joined})" if joined else "")


def mixed(tables: Sequence[pd.DataFrame]) -> str:
    """The lines for a figure or summary whose rows do not come from the same hardware or pair of vLLM and LMCache; "" when they do.

    tables: with the columns of COLUMNS (one without them says nothing) and the scenario or limit that a row is of.
    """
    lines = []
    for column, noun in _MIXED.items():
        found: dict[str, list[str]] = {}
        for table in tables:
            if column not in table:
                continue
            names = table["scenario"] if "scenario" in table else table["limit"]
            for name, values in zip(names, table[column], strict=True):
                for value in [] if pd.isna(values) else str(values).split(_BETWEEN):
                    found.setdefault(value, []).append(str(name))
        if len(found) > 1:
            each = "; ".join(f"{value}: {', '.join(dict.fromkeys(names))}" for value, names in found.items())
            lines.append(f"Not alike: measured {noun.format(len(found))}. {each}.")
    return "\n".join(lines)


def measured_on(tables: Sequence[pd.DataFrame]) -> str:
    """One line with the nodes and the hardware that tables were measured on; "" when no row tells."""
    found: dict[str, list[str]] = {name: [] for name in COLUMNS}
    for table in tables:
        for column in set(COLUMNS) & set(table):
            for values in table[column].dropna():
                found[column] += str(values).split(_BETWEEN)
    nodes, hardware, disks = (list(dict.fromkeys(found[name])) for name in COLUMNS)
    if not nodes:
        return ""
    return f"Measured on {', '.join(nodes)}: {'; '.join([*hardware, *disks])}."


def unique_environments(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The different environments the records come from."""
    found = {json.dumps(record["environment"], sort_keys=True): record["environment"] for record in records}
    return list(found.values())
