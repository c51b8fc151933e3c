"""The runs that are kept in the repository, and their records as a run leaves them."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from workflow.hyperkv.records.kept_run import KeptRun, read_run
from workflow.hyperkv.records.record_file import Identity, write_records

KEPT = sorted(path.parent for path in Path("results/reference").glob("*/*/run.yaml"))
LAPTOP = [folder for folder in KEPT if folder.parent.name == "laptop"][-1]
H100 = Path("tests/data/h100/2026-11-28")
MADE = Identity("0" * 12, "1" * 12)


def kept(folder: Path) -> KeptRun:
    """A kept run."""
    return read_run(folder)


def kept_with(kind: str) -> list[Path]:
    """The kept runs that have a kind of records, told without reading them, which takes seconds: for parameters of tests."""
    return [path for path in KEPT if f'"record": "{kind}"' in (path / "records.jsonl").read_text()]


def repeated(
    records: Iterable[Mapping[str, Any]],
    times: Callable[[str, int], float] = lambda scenario, repeat: 1.0,
    repeats: int = 3,
) -> list[dict[str, Any]]:
    """Cells and single requests of one repeat as those of several. times: of a scenario's repeat, what its first tokens take longer and the
    requests that it serves are fewer by."""
    found = []
    for record in records:
        for repeat in range(1, repeats + 1):
            own, factor = (
                json.loads(json.dumps(record)) | {"repeat": repeat},
                times(record["scenario"], repeat),
            )
            if own["record"] == "cell":
                own["values"]["rps_per_gpu"] /= factor
                own["values"]["ttft_p50_ms"] *= factor
            for sample in own["samples"] if own["record"] == "single" else ():
                sample["ttft_s"] *= factor
            found.append(own)
    return found


def spread_out(
    records: Iterable[Mapping[str, Any]], results: Path, made: Callable[[Path], Identity] = lambda path: MADE
) -> list[Path]:
    """Records as files of a results folder: the sweep's by scenario and repeat, a store's points by scenario. made: what each file
    says that it was measured with."""
    files: dict[Path, list[Mapping[str, Any]]] = {}
    for record in records:
        swept = record["record"] in ("cell", "single")
        name = f"sweep/{record['scenario']}/{record['repeat']}" if swept else f"profile/{record['scenario']}"
        files.setdefault(results / f"{name}.jsonl", []).append(record)
    for path, own in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_records(path, [str(number) for number in range(len(own))], own, made(path))
    return list(files)
