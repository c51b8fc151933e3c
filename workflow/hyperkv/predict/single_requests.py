"""Single requests that were measured: what a GPU, vLLM and a store are predicted to take for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..cells.cell import CellSpec
from ..models.gpu import GpuModel, document_of, load_gpu
from ..models.gpus import kv_pieces
from ..records.hardware import gpu_of
from ..records.repeats import pass_of
from ..records.scenario import gated
from ..stores.registry import has_store
from .request_time import REQUEST_S, hit_ttft_s, rest_s, times_of

BY_GATE = "a gate decides how much is loaded"


@dataclass(frozen=True)
class Request:
    """A single request: computed where there is no tier, else loaded. loaded_tokens: that were not computed; loaded_bytes: of them, as stored. pieces: in
    which a block of them is copied (gpus.kv_pieces).

    ttft_s: measured. faults: why it does not count.
    """

    scenario: Mapping[str, Any]
    prompt_tokens: int
    loaded_tokens: int
    loaded_bytes: int
    pieces: int
    ttft_s: float
    faults: tuple[str, ...] = ()

    @property
    def is_of_pool(self) -> bool:
        """Whether the engine's own host memory served it: no store had a part in it."""
        return of_pool(self.scenario)

    def times(self, gpu: GpuModel) -> dict[str, Any]:
        """As request_time.times_of has them."""
        return times_of(gpu, self.prompt_tokens, self.loaded_tokens, self.loaded_bytes, self.pieces)

    def gpu_s(self, gpu: GpuModel) -> float:
        """Seconds that a GPU takes for it: copying what was loaded, computing the rest."""
        times = self.times(gpu)
        return times["step_s"] + times["copy_s"]

    def ttft_at(self, gpu: GpuModel, gbps: float | None) -> float:
        """Its predicted TTFT. gbps: of the store; None where it has no part in it."""
        times = self.times(gpu)
        return REQUEST_S + (rest_s(times) if gbps is None else hit_ttft_s(times, gbps))


def requests_of(record: Mapping[str, Any]) -> Iterator[Request]:
    """The requests of a record of single requests, less those that were computed and saved at once."""
    scenario = record["spec"]["scenario"]
    cell = _cell_of(record)
    pieces = kv_pieces(cell.geometry, cell.share.ranks)
    by_gate = [BY_GATE] if gated(scenario) else []
    for sample, loaded_tokens, loaded_bytes in loads_of(record):
        if pass_of(record, sample) == "saved":
            continue
        yield Request(
            scenario,
            sample["prompt_tokens"],
            loaded_tokens,
            loaded_bytes,
            pieces,
            sample["ttft_s"],
            (*by_gate, *sample["faults"]),
        )


def of_pool(scenario: Mapping[str, Any]) -> bool:
    """Whether a scenario, or a row with its tier and store, has its KV in the engine's own host memory."""
    return scenario["tier"] != "none" and not has_store(scenario)


def loads_of(record: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int, int]]:
    """The samples of a record of single requests, each with the tokens that a tier served and their bytes, as stored."""
    tiered, token_bytes = (
        record["spec"]["scenario"]["tier"] != "none",
        _cell_of(record).stored_bytes_per_token,
    )
    for sample in record["samples"]:
        loaded = sample["cached_tokens"] if tiered else 0
        yield sample, loaded, loaded * token_bytes


def gpu_file(record: Mapping[str, Any], files: Sequence[Path]) -> Path:
    """The file of the GPU that a record's engine ran on. Raises UserError where none is of it."""
    reported = str(gpu_of(record)["gpu"])  # of several kinds they are all in it, and no file is of that
    for path in files:
        if _is_of(str(document_of(path)["name"]), reported):
            return path
    raise UserError(f"no file of break_even.gpus is of {reported}")


def _is_of(name: str, reported: str) -> bool:
    """Whether a GPU file's name, 'NVIDIA H200 141GB (derived)', is of what nvidia-smi calls a GPU, 'NVIDIA H200'.

    Words that only one of them has may be the memory that nvidia-smi leaves out at the end, or the socket that the file does.
    """
    own, other = (re.findall(r"\w+", text.upper().removesuffix("(DERIVED)")) for text in (name, reported))
    return own[: len(other)] == other or ("," not in reported and set(own) <= set(other))


def model_of(record: Mapping[str, Any], file: Path) -> GpuModel:
    """The step times of a record's model on its GPUs."""
    cell = _cell_of(record)
    return load_gpu(file, cell.geometry, cell.share.ranks)


def _cell_of(record: Mapping[str, Any]) -> CellSpec:
    return CellSpec(dict(record["spec"]), 0, record["repeat"], Path())


def origin(file: Path, gpu: GpuModel) -> str:
    """Where step times come from: measured, derived (of another GPU), scaled (of another model), or both."""
    words = ["derived"] * bool(document_of(file).get("assumption")) + ["scaled"] * bool(gpu.scaled_from)
    return ", ".join(words) or "measured"
