"""Every format in turn: its record. Needs the engine's environment."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.errors import UserError
from ..models.geometry import Geometry, load_geometry
from ..models.kv_format import KV_DTYPE_BYTES
from ..models.serde import head_dim_of
from ..records.kinds.bits import Answered, Coded, Held
from .formats import CHUNK_TOKENS, Format, formats
from .quality import PREFIX_TOKENS, TOPICS, Prompt, RealModel

_CHUNKS, _TIMED, _MOST_S = 4, 16, 12.0
_HBM = {"vllm_bf16": "auto", "vllm_fp8": "fp8"}
_HBM_TIMEOUT_S = 1800


def trials(spec: Mapping[str, Any], has: Callable[[str], bool]) -> Iterator[Coded | str]:
    """The records, the control first, and only the names of those that are there already (`has`). spec: see measure_bits.

    Raises UserError where a copy of the KV changes an answer.
    """
    geometry = load_geometry(Path(spec["model"]), "bfloat16")
    head_dim, device = head_dim_of("turboquant", geometry), spec["device"]
    about = {"model": geometry.name, "device": device, "chunk_tokens": CHUNK_TOKENS}
    quality = None if spec["model_dir"] is None else _Quality(spec)
    chunks = quality.chunks() if quality else _random(geometry)
    if device == "cuda":
        chunks = [chunk.pin_memory() for chunk in chunks]
    for each in formats(spec["model_dir"] or spec["model"], chunks[0], head_dim, device):
        if has(each.name):
            yield each.name
            continue
        answers, texts = quality.through(each) if quality else ([], [])
        yield Coded(
            format=each.name, control="bf16", **about, **_measured(each, chunks), answers=answers, texts=texts, reason=each.reason
        )  # fmt: skip
    if quality:
        kv_bytes = chunks[0].nbytes
        yield from (name if has(name) else quality.in_hbm(name, about, kv_bytes) for name in _HBM)


def _random(geometry: Geometry) -> list[Tensor]:
    """Chunks of a model's shape, the same on every machine."""
    generator = torch.Generator().manual_seed(1)
    hidden = geometry.kv_bytes_per_token // (2 * KV_DTYPE_BYTES[geometry.kv_dtype] * geometry.layers)
    shape = (2, geometry.layers, CHUNK_TOKENS, hidden)
    return [torch.randn(shape, generator=generator).bfloat16() for _ in range(_CHUNKS)]


def _measured(each: Format, chunks: Sequence[Tensor]) -> dict[str, Any]:
    """Bytes, seconds of each encoding and decoding after a first one, and the error of that one. On a CPU other work of the machine does
    not count: they are of its cores."""
    stored = each.encode(chunks[0])
    size, came = each.size(stored), each.decode(stored).float()
    lost = (came - chunks[0].float()).norm() / chunks[0].float().norm()
    encode_s: list[float] = []
    decode_s: list[float] = []
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    while each.timed and len(encode_s) < _TIMED and sum(encode_s) + sum(decode_s) < _MOST_S:
        began = clock()
        stored = each.encode(chunks[len(encode_s) % len(chunks)])
        middle = clock()
        each.decode(stored)
        encode_s.append(middle - began)
        decode_s.append(clock() - middle)
    return {
        "kv_bytes": chunks[0].nbytes,
        "stored_bytes": size,
        "encode_s": encode_s,
        "decode_s": decode_s,
        "error": float(lost),
    }


class _Quality:
    """The real model, what it is asked, and how it goes on without a store."""

    def __init__(self, spec: Mapping[str, Any]):
        self._spec, self._model = spec, RealModel(spec["model_dir"], spec["device"], CHUNK_TOKENS)
        self._ids = self._model.conversations(Path(spec["conversations"]))
        self._texts = dict(zip(TOPICS, self._model.texts(), strict=True))
        self._prompts = [self._model.prompt(ids) for ids in self._ids]
        self._held = {name: self._model.prompt(ids, PREFIX_TOKENS) for name, ids in self._texts.items()}
        self._own = [self._answered(prompt, lambda kv: kv) for prompt in self._prompts]

    def chunks(self) -> list[Tensor]:
        """Of the first text."""
        return [chunk.contiguous() for chunk in self._held[TOPICS[0]].kv.split(CHUNK_TOKENS, 2)]

    def through(self, each: Format) -> tuple[list[Answered], list[Held]]:
        """How the model goes on from KV that went through a format."""

        def through(kv: Tensor) -> Tensor:
            return each.decode(each.encode(kv))

        answers = [
            self._answered(prompt, through, own.free)
            for prompt, own in zip(self._prompts, self._own, strict=True)
        ]
        if each.name == "bf16" and answers != self._own:
            raise UserError(
                "a copy of the KV changed an answer: this machine does not compute the same twice"
            )
        return answers, [self._model.held(name, held, through) for name, held in self._held.items()]

    def _answered(self, prompt: Prompt, through: Any, answer: Sequence[int] = ()) -> Answered:
        return self._model.answered(prompt, through, answer, self._spec["answer_tokens"])

    def in_hbm(self, name: str, about: Mapping[str, Any], kv_bytes: int) -> Coded:
        """How vLLM goes on with its own cache in that format."""
        asked = {
            "prompts": self._ids,
            "answers": [own.free for own in self._own],
            "texts": self._texts,
            "prefix_tokens": PREFIX_TOKENS,
        }
        word = _HBM[name]
        size = kv_bytes * KV_DTYPE_BYTES.get(word, 2) // 2
        found, reason = _from_vllm(self._spec, word, asked)
        return Coded(
            format=name, control="vllm_bf16", **about, kv_bytes=kv_bytes, stored_bytes=size, encode_s=[], decode_s=[],
            error=None, **found, reason=reason or "KV is in this format in HBM, and nothing is encoded",
        )  # fmt: skip


def _from_vllm(
    spec: Mapping[str, Any], kv_dtype: str, asked: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "asked.json")
        file.write_text(json.dumps(asked))
        words = ["--model", spec["model_dir"], "--kv-dtype", kv_dtype, "--asked", str(file)]
        ran = subprocess.run(
            [sys.executable, "-m", "workflow.hyperkv.bits.hbm", *words],
            capture_output=True,
            text=True,
            timeout=_HBM_TIMEOUT_S,
        )
    lines = ran.stdout.splitlines()
    if ran.returncode or not lines:
        last = [line for line in ran.stderr.splitlines() if line.strip()][-1:]
        return {
            "answers": [],
            "texts": [],
        }, f"vLLM with kv_cache_dtype {kv_dtype}: {' '.join(last) or 'no answer'}"
    return json.loads(lines[-1]), ""
