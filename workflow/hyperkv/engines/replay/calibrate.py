"""Measure on a GPU the step times that the replay engine models, and fit its coefficients.

    python -m workflow.hyperkv.engines.replay.calibrate --model config/models/llama-3.1-8b.json --out FILE.json [--eager]

Needs vllm (CUDA), no weights and no tokenizer: both weights and prompts are random. Engine steps of three
kinds are timed: prefill (one prompt, idle engine), decode, and mixed (prompts admitted while others decode).
"""

import argparse
import itertools
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from ...base.cli import run_stage
from ...base.errors import UserError
from ...build.make_model import served_config
from ...machine.environment import cpu_model, nvidia_smi
from ...models.geometry import load_geometry
from ...models.gpu import GpuModel

PROMPTS = (512, 1024, 2048, 4096, 8192, 16384)
DECODE = tuple(itertools.product((1, 2, 4, 8, 16, 32), (512, 2048, 8192)))  # (sequences, context tokens)
MIXED_DECODE = ((1, 2048), (16, 2048), (16, 8192))
MIXED_PREFILL = ((1, 128), (1, 512), (1, 2048), (1, 8192), (4, 1024), (8, 1024))  # (prompts, tokens each)
COPIES = tuple(itertools.product(("host_to_device", "device_to_host"), (2**21, 2**25, 2**30)))  # bytes


Row = dict[str, Any]  # a step's or a copy's: what it held, and its times


def quality(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float | None]:
    """Rows, R2 (null where nothing varies) and relative errors of predictions."""
    spread, relative = np.sum((measured - measured.mean()) ** 2), np.abs(predicted / measured - 1)
    r2 = 1 - float(np.sum((predicted - measured) ** 2) / spread) if spread > 0 else None
    errors = {
        "median_relative_error": np.median(relative).item(),
        "max_relative_error": relative.max().item(),
    }
    return {"rows": len(measured), "r2": r2} | errors


def fit_step_model(rows: list[Row]) -> dict[str, Any]:
    """Fit GpuModel's figures to rows as `step_row` makes them; every figure is >= 0.

    Short prompts cost prefill_min_s whatever their length: the split between them and those bound by compute is
    the one with the smallest error. prefill_min_s is the median over all such short steps, mixed ones less their
    decode terms, since a serving engine is seldom idle; otherwise mixed steps only test the sum. Errors count
    relative to the measured time. Returns the figures (coefficients) and the quality per kind. Raises UserError for too few rows.
    """
    prefills = sorted((r for r in rows if r["kind"] == "prefill"), key=lambda r: r["prefill_tokens"])
    decodes = [row for row in rows if row["kind"] == "decode"]
    if len(prefills) < 3 or len(decodes) < 3:
        raise UserError(
            f"{len(prefills)} prefill and {len(decodes)} decode steps cannot fix the figures: measure at least 3 of each"
        )
    terms = [
        [row["prefill_tokens"], row["prefill_tokens"] * row["prefill_mean_context_tokens"]]
        for row in prefills
    ]
    splits = [_split_fit(terms, _seconds(prefills), short) for short in range(1, len(prefills) - 1)]
    _, short, (per_token_s, attention_s) = min(splits, key=lambda split: split[0])
    decode = _relative_fit(
        [[1, row["decode_seqs"], row["decode_context_tokens"]] for row in decodes], _seconds(decodes)
    )
    if not per_token_s:
        raise UserError("the prefill times do not grow with the prompt: measure longer prompts")
    coefficients: dict[str, Any] = {
        "prefill_tokens_per_s": 1 / float(per_token_s),
        "prefill_attention_s_per_token2": float(attention_s),
        "prefill_min_s": _least_prefill_s(rows, prefills[short - 1]["prefill_tokens"], decode),
        "decode_base_s": float(decode[0]),
        "decode_per_sequence_s": float(decode[1]),
        "decode_per_context_token_s": float(decode[2]),
    }
    model = GpuModel("fit", host_device_gbps=1, **coefficients)
    kinds = dict.fromkeys(row["kind"] for row in rows)
    groups = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds} | {"all": rows}
    fits = {
        name: quality(np.array([predicted_s(model, row) for row in group]), _seconds(group))
        for name, group in groups.items()
    }
    return {"coefficients": coefficients, "quality": fits}


def predicted_s(model: GpuModel, row: Row) -> float:
    """Seconds that the model gives the step of a row."""
    tokens, seqs = row["prefill_tokens"], row["decode_seqs"]
    prefills = [(tokens, row["prefill_mean_context_tokens"] - tokens / 2)] if tokens else []
    return model.step_s(prefills, [row["decode_context_tokens"] / seqs] * seqs if seqs else [])


def _seconds(rows: list[Row]) -> np.ndarray:
    return np.array([row["step_s"] for row in rows])


def _relative_fit(terms: list[list[float]], measured: np.ndarray) -> np.ndarray:
    matrix = np.array(terms, dtype=float)
    scale = np.maximum(matrix.max(axis=0), 1e-30)
    return nnls(matrix / scale / measured[:, None], np.ones(len(measured)))[0] / scale


def _split_fit(terms: list[list[float]], measured: np.ndarray, short: int) -> tuple[float, int, np.ndarray]:
    """Squared relative error, the split itself and per-token figures when the first `short` prompts cost the least time."""
    least_s = float(np.median(measured[:short]))
    slopes = _relative_fit(terms[short:], measured[short:])
    predicted = np.maximum(np.array(terms) @ slopes, least_s)
    return float(np.sum((predicted / measured - 1) ** 2)), short, slopes


def _least_prefill_s(rows: list[Row], longest: int, decode: np.ndarray) -> float:
    """Median seconds of the steps that compute at most `longest` prompt tokens, without their decode terms."""
    short = [row for row in rows if 0 < row["prefill_tokens"] <= longest]
    return float(
        np.median(
            [row["step_s"] - decode[1:] @ [row["decode_seqs"], row["decode_context_tokens"]] for row in short]
        )
    )


def step_row(
    samples_s: list[float], prefill: tuple[int, int] = (0, 0), seqs: int = 0, context: float = 0
) -> Row:
    """What a step held (prefill: prompts, tokens each; context: tokens of all decoding seqs); its times."""
    kind = "prefill" if not seqs else "mixed" if prefill[0] else "decode"
    tokens = {"prefill_tokens": prefill[0] * prefill[1], "prefill_mean_context_tokens": prefill[1] / 2}
    row: Row = {"kind": kind, **tokens, "decode_seqs": seqs, "decode_context_tokens": float(context)}
    row["step_s"] = float(np.median(samples_s))
    return row | {"step_s_samples": [round(sample, 7) for sample in samples_s]}


class Stepper:
    """Feeds a vLLM LLMEngine (params: max_tokens -> SamplingParams); tells step ends and who got a token."""

    def __init__(self, engine: Any, params: Callable[..., Any], vocab_size: int) -> None:
        self.engine, self.params, self.vocab_size = engine, params, vocab_size
        self.random, self.names = np.random.default_rng(0), itertools.count()
        self.receive, engine.engine_core.get_output = engine.engine_core.get_output, self.receive_and_note

    def receive_and_note(self) -> Any:
        """The engine's own get_output; ended_s (monotonic) is its time stamp, without the transport here."""
        self.ended_s = (outputs := self.receive()).timestamp
        return outputs

    def submit(self, prompts: int, tokens: int, new_tokens: int) -> set[str]:
        """Queue random prompts of so many tokens; their request ids. submitted_s is when (monotonic)."""
        batch = self.random.integers(0, self.vocab_size, (prompts, tokens)).tolist()
        requests = {str(next(self.names)): {"prompt_token_ids": prompt} for prompt in batch}
        self.submitted_s = time.monotonic()
        for name, prompt in requests.items():
            self.engine.add_request(name, prompt, self.params(max_tokens=new_tokens))
        return set(requests)

    def step(self) -> tuple[float, set[str]]:
        """Wait for the next step that yields tokens: its end (monotonic s) and the ids that got one."""
        while self.engine.has_unfinished_requests():
            if got := {output.request_id for output in self.engine.step()}:
                return self.ended_s, got
        raise UserError("the engine dropped requests before the measurement was complete: see its log")


def measure_idle(stepper: Stepper, tokens: int, repeats: int) -> Row:
    """Times from submitting one prompt to an idle engine to its first token; one warm-up goes before."""
    samples = []
    for _ in range(repeats + 1):
        time.sleep(0.02)
        stepper.submit(1, tokens, 1)
        samples.append(stepper.step()[0] - stepper.submitted_s)
    return step_row(samples[1:], (1, tokens))


def measure_busy(
    stepper: Stepper, decode: tuple[int, int], prefill: tuple[int, int], repeats: int
) -> Row | None:
    """Times of steps with all of `decode` (seqs, context) and all of `prefill` (prompts, tokens); or None.

    vLLM stamps a step after launching the next, so a prefill delays the stamp before its own: a mixed step is
    timed together with the decode step before it, less a usual decode step.
    """
    (seqs, context), mixed = decode, prefill[0] > 0
    ids = stepper.submit(seqs, context, (20 if mixed else 1) * (repeats + 1) + seqs + 8)
    steps: list[tuple[float, set[str], int]] = []
    found: list[int] = []
    made: Counter[str] = Counter()

    def advance() -> set[str]:
        steps.append((*stepper.step(), seqs * context + made.total()))
        made.update(steps[-1][1] & ids)
        return steps[-1][1]

    while len(made) < seqs or min(made.values()) < 3:
        advance()
    for _ in range(repeats + 1):
        late = wanted = ids | stepper.submit(*prefill, 1)
        while late:
            late = late - (got := advance())
            found += [len(steps) - 1] if got == wanted else []
        for _ in range(6 if mixed else 0):
            advance()
    while stepper.engine.has_unfinished_requests():
        stepper.engine.step()
    ends, gained, contexts = zip(*steps, strict=True)
    usual = np.median(
        [ends[i] - ends[i - 1] for i in range(1, len(ends)) if gained[i - 1] == gained[i] == ids] or 0
    )
    samples = [ends[i] - ends[i - 1 - mixed] - mixed * usual for i in found[1:]]
    return step_row(samples, prefill, seqs, np.mean([contexts[i] for i in found[1:]])) if samples else None


def measure_steps(stepper: Stepper, repeats: int, decode_steps: int) -> list[Row]:
    """All steps planned at the top of this module, less those that do not fit the engine's memory."""
    idle = [measure_idle(stepper, tokens, repeats) for tokens in PROMPTS]
    busy = [measure_busy(stepper, decode, (0, 0), decode_steps) for decode in DECODE]
    busy += [measure_busy(stepper, *pair, repeats) for pair in itertools.product(MIXED_DECODE, MIXED_PREFILL)]
    return [*idle, *(row for row in busy if row)]


def measure_copy(torch: Any, direction: str, size_bytes: int, repeats: int) -> Row:
    """Pinned host memory to GPU or back, by CUDA events, in GB/s (10^9 bytes/s)."""
    host = torch.full((size_bytes,), 7, dtype=torch.uint8, pin_memory=True)
    device = torch.full((size_bytes,), 9, dtype=torch.uint8, device="cuda")
    source, sink = (host, device) if direction == "host_to_device" else (device, host)
    gbps = []
    for _ in range(repeats + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        sink.copy_(source, non_blocking=True)
        end.record()
        end.synchronize()
        gbps.append(round(size_bytes / begin.elapsed_time(end) / 1e6, 3))
    row = {"direction": direction, "size_bytes": size_bytes, "gbps_samples": gbps[2:]}
    return row | {"median_gbps": float(np.median(gbps[2:]))}


def environment(torch: Any) -> dict[str, Any]:
    """What the figures were taken on: GPU with memory and driver, CPU, kernel, versions."""
    versions = {name: version(name) for name in ("vllm", "torch", "triton", "transformers", "numpy")}
    versions |= {"python": platform.python_version(), "cuda": torch.version.cuda}
    gpu = "\n".join(nvidia_smi("name,memory.total,driver_version"))
    return {"gpu": gpu, "cpu": cpu_model(), "kernel": platform.release(), "versions": versions}


def calibrate(model: Path, out: Path, eager: bool, repeats: int, decode_steps: int) -> None:
    """Measure and fit the model whose config.json is `model`; everything goes to `out` (JSON)."""
    name, config = load_geometry(model).name, served_config(model)
    try:
        import torch
        from vllm import LLM, SamplingParams
    except ImportError as error:
        raise UserError(
            f"calibrate needs an environment with vllm (envs/reference-cuda.txt): {error}"
        ) from None
    if not torch.cuda.is_available():
        raise UserError("calibrate needs a CUDA GPU, and torch sees none: look at nvidia-smi")
    mode = "eager" if eager else "cuda_graphs"
    record: dict[str, Any] = {"model": name, "mode": mode, "environment": environment(torch)}
    record["copy"] = [measure_copy(torch, *copy, repeats) for copy in COPIES]
    torch.cuda.empty_cache()
    options: dict[str, Any] = {"enforce_eager": eager, "enable_prefix_caching": False, "load_format": "dummy"}
    options |= {"dtype": "bfloat16", "gpu_memory_utilization": 0.9, "skip_tokenizer_init": True}
    options |= {
        "max_num_batched_tokens": PROMPTS[-1],
        "max_model_len": PROMPTS[-1] + 512,
        "max_num_seqs": 64,
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        engine = LLM(model=folder, **options).llm_engine
    record["engine"] = options
    params = partial(SamplingParams, temperature=0, ignore_eos=True, detokenize=False)
    try:
        record["steps"] = measure_steps(Stepper(engine, params, config["vocab_size"]), repeats, decode_steps)
    finally:
        engine.engine_core.shutdown()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    out.write_text(json.dumps(record | {"fit": fit_step_model(record["steps"])}, indent=1) + "\n")


def main() -> None:
    """Command line: see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a config.json, as in config/models/")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--eager", action="store_true", help="no CUDA graphs, no compilation")
    parser.add_argument("--repeats", type=int, default=7, help="samples per prefill, mixed step and copy")
    parser.add_argument("--decode-steps", type=int, default=48, help="samples per decode configuration")
    calibrate(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(run_stage("calibrate", main))
