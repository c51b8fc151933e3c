"""Sections `predict` and `break_even`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .texts import Path
from .values import Count, Given, OrNull, Positive, Section, Several, Size, key, optional
from .workload import Workload

CHUNK_TOKENS = [16, 32, 64, 128, 256, 512, 1024, 2048]  # of the predicted hit rates
SEEDS = 10  # workloads per predicted case; a trace has one, case `experiment` the sweep's repeats
PROMPT_TOKENS = [1024, 2048, 4096, 8192, 16384, 32768]  # of break-even
CaseName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
Counts = Annotated[Several[Count], Field(min_length=1)]
Paths = Annotated[Several[Path], Field(min_length=1)]


class Tiers(Given):
    """Sets of tiers by name; a tier that is not named is not there."""

    hbm_bytes: OrNull[Size] = optional(exclude_if=None)
    """HBM for KV cache, in blocks of vllm.block_tokens, 16 with engine replay; null for unbounded."""
    dram_bytes: OrNull[Size] = optional(exclude_if=None)
    """DRAM tier below it; null for unbounded."""
    ssd_bytes: OrNull[Size] = optional(exclude_if=None)
    """SSD tier below that; null for unbounded."""


class Case(Section):
    """Further cases by name, each one workload, model and set of tiers."""

    workload: Workload | None = key(None, unit="keys")
    """What the clients ask, with the keys of `workload`; null for `workload` itself."""
    model: Path | None = None
    """The model's config.json; null for `model`."""
    active_conversations: OrNull[Counts] = key(None, unit="conversations")
    """Conversations under way at once, one prediction each; null for experiment.active_conversations."""
    clients: Count = key(1, unit="clients")
    """Clients that share them, each with one request at a time."""
    tiers: Annotated[dict[CaseName, Tiers], Field(min_length=1)] = Field()


class Predict(Section):
    """Hit rates by exact simulation, before anything is measured; no GPU, no store. Case `experiment`
    is what the sweep measures: its repeats' workloads, HBM, DRAM pools and unbounded stores, at its highest load."""

    cases: dict[CaseName, Case] = Field({})


class BreakEven(Section):
    """GB/s at which loading a prompt's KV beats computing it, from the figures of config/gpus; no GPU, no store."""

    models: Paths = key(
        [
            "config/models/llama-3.2-1b.json",
            "config/models/llama-3.1-8b.json",
            "config/models/gemma-3-27b.json",
            "config/models/qwen3-32b.json",
            "config/models/llama-3.1-70b.json",
            "config/models/gpt-oss-120b.json",
            "config/models/qwen3-next-80b.json",
            "config/models/deepseek-v3.json",
        ]
    )
    """Models' config.json; the figure break_even shows the first."""
    gpus: Paths = key(
        [
            "config/gpus/l4.yaml",
            "config/gpus/l40s.yaml",
            "config/gpus/a100-80gb.yaml",
            "config/gpus/h100.yaml",
            "config/gpus/h200.yaml",
            "config/gpus/mi300x.yaml",
            "config/gpus/b200.yaml",
        ]
    )
    """GPUs. Those with an `assumption` in their file were not measured."""


class Bits(Section):
    """What `make bits` says of the formats in which KV can be stored: measured with `model`'s own weights, predicted for these. Not part of a run."""

    model: Path = key("config/models/llama-3.1-8b.json")
    """Model that speed and cost are predicted for."""
    gpu: Path = key("config/gpus/h100.yaml")
    """GPU that serves it, alone or with as many more as hold its weights."""
    gbps: Annotated[Several[Positive], Field(min_length=1)] = key([1, 3, 7, 14], unit="10^9 bytes/s")
    """What SSDs are stated to read and write."""
    speed: Path | None = None
    """Records of the same stage from a GPU box, results/bits/bits.jsonl there, whose seconds of encoding and decoding are taken where they
    have any; null takes those of this machine."""
