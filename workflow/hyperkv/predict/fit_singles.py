"""Step times of a GPU from the single requests of kept runs, and what vLLM spends on a request beside them.

    python -m workflow.hyperkv.predict.fit_singles --runs results/reference/h200/2026-11-29-newest --gpu config/gpus/h200.yaml --out config/gpus/mine.yaml

Without --gpu it prints REQUEST_S and HIT_S_PER_PIECE of request_time.py, fitted to these runs. With it, it writes that GPU's file with
`prefill_tokens_per_s` and `prefill_attention_s_per_token2` of the model that was measured; what else is in the file stays, and its
`assumption` says so.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from scipy.optimize import nnls

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Files
from ..models.gpu import GpuModel, document_of
from ..records.kept_run import KeptRun, read_run
from .request_time import REQUEST_S
from .single_requests import Request, gpu_file, model_of, requests_of

GPUS = Path("config/gpus")
_HEAD = "# Written by `python -m workflow.hyperkv.predict.fit_singles` from {runs}.\n"


@dataclass(frozen=True)
class Length:
    """Requests of one prompt length that were served alike. request: the first of them; ttft_s: their median."""

    model: str
    kv_dtype: str
    gpu: GpuModel
    request: Request
    ttft_s: float


def main(*, runs: Files, gpu: Path | None = None, out: Path | None = None) -> None:
    """Fit, and print or write.

    Args:
        runs: folders of kept runs: results/reference/MACHINE/DATE.
        gpu: file of config/gpus to write anew; without it what a request takes is printed.
        out: the file to write; --gpu itself.
    """
    kept = [read_run(run) for run in runs]
    if gpu is None:
        found = lengths_of(kept, sorted(GPUS.glob("*.yaml")))
        request_s, per_piece_s = fit_requests(found)
        sys.stdout.write(f"REQUEST_S = {request_s:.2g}\nHIT_S_PER_PIECE = {per_piece_s:.3g}\n")
        return
    head = _HEAD.format(runs=" ".join(map(str, runs)))
    document = measured_document(document_of(gpu), lengths_of(kept, [gpu]), [str(run) for run in runs])
    (out or gpu).write_text(head + yaml.safe_dump(document, sort_keys=False, width=110))


def lengths_of(runs: Sequence[KeptRun], files: Sequence[Path]) -> list[Length]:
    """Every prompt length that a run's recompute computed, and its engine's own pool served.

    Raises UserError for a run without, and for a GPU of which no file is.
    """
    found: dict[tuple[Any, ...], list[tuple[GpuModel, Request]]] = {}
    for run in runs:
        for record in run.of("single"):
            gpu = model_of(record, gpu_file(record, files))
            kv_dtype = record["effective"]["kv_dtype"] or record["asked"]["kv_dtype"]
            for request in requests_of(record):
                if request.faults or (request.scenario["tier"] != "none" and not request.is_of_pool):
                    continue
                key = (run.name, record["model"], kv_dtype, record["scenario"], request.prompt_tokens)
                found.setdefault((*key, request.loaded_tokens), []).append((gpu, request))
    if not found:
        raise UserError(
            f"{', '.join(str(run.folder) for run in runs)}: no single requests (latency.prompt_tokens) that count"
        )
    return [
        Length(model, kv_dtype, own[0][0], own[0][1], median(request.ttft_s for _, request in own))
        for (_, model, kv_dtype, *_), own in found.items()
    ]


def fit_requests(lengths: Sequence[Length]) -> tuple[float, float]:
    """REQUEST_S of what was computed, and then HIT_S_PER_PIECE of what was loaded, >= 0, with the least squared relative error.

    Raises UserError where nothing was computed, or nothing loaded.
    """
    computed = [each for each in lengths if not each.request.loaded_tokens]
    loaded = [each for each in lengths if each.request.loaded_tokens]
    if not computed or not loaded:
        raise UserError(
            "single requests that were computed and that the engine's own pool served: name runs with both"
        )
    rest = [each.ttft_s - each.request.gpu_s(each.gpu) for each in computed]
    request_s = float(_fitted([[1.0]] * len(computed), rest, computed)[0])
    rest = [each.ttft_s - each.request.gpu_s(each.gpu) - request_s for each in loaded]
    pieces = [[float(each.request.loaded_tokens * each.request.pieces)] for each in loaded]
    return request_s, float(_fitted(pieces, rest, loaded)[0])


def fit_prefill(lengths: Sequence[Length]) -> dict[str, float]:
    """prefill_tokens_per_s and prefill_attention_s_per_token2 of the lengths of one model that were computed.

    Raises UserError for fewer than two that are longer than launching a step takes.
    """
    computed = [length for length in lengths if not length.request.loaded_tokens]
    long = [each for each in computed if each.ttft_s - REQUEST_S > each.gpu.prefill_min_s]
    tokens = [each.request.prompt_tokens for each in long]
    if len(set(tokens)) < 2:
        raise UserError(
            f"computed prompts of {sorted(set(tokens))} tokens: measure at least two lengths (latency.prompt_tokens)"
        )
    terms = [[float(count), count * count / 2] for count in tokens]
    per_token_s, attention_s = _fitted(terms, [each.ttft_s - REQUEST_S for each in long], long)
    if not per_token_s:
        raise UserError(
            "the times do not grow with the prompt: measure longer prompts (latency.prompt_tokens)"
        )
    return {
        "prefill_tokens_per_s": float(f"{1 / per_token_s:.5g}"),
        "prefill_attention_s_per_token2": float(f"{attention_s:.5g}"),
    }


def measured_document(
    document: Mapping[str, Any], lengths: Sequence[Length], runs: Sequence[str]
) -> dict[str, Any]:
    """A GPU file's content with the figures that single requests give, of the one model that they are of."""
    (model, *others) = dict.fromkeys(length.model for length in lengths)
    if others or model not in document["models"]:
        raise UserError(
            f"single requests of {', '.join([model, *others])}: the file is of {', '.join(document['models'])}; name runs of one of them"
        )
    fitted = fit_prefill(lengths)
    before = document.get("assumption")
    told = f"{' and '.join(fitted)} of {model} measured with single requests ({', '.join(runs)})"
    rest = f"; the rest {before}" if before else "; the rest as it was"
    models = {**document["models"], model: {**document["models"][model], **fitted}}
    return {
        "name": document["name"],
        "assumption": told + rest,
        **{key: value for key, value in document.items() if key not in ("name", "assumption", "models")},
        "models": models,
    }


def _fitted(
    terms: Sequence[Sequence[float]], seconds: Sequence[float], lengths: Sequence[Length]
) -> np.ndarray:
    """Non-negative factors of terms that give seconds, each as heavy as its share of the TTFT."""
    matrix, whole = np.array(terms), np.array([length.ttft_s for length in lengths])
    scale = matrix.max(axis=0)
    scale[scale == 0] = 1.0
    return nnls(matrix / scale / whole[:, None], np.array(seconds) / whole)[0] / scale


if __name__ == "__main__":
    sys.exit(run_stage("fit_singles", main))
