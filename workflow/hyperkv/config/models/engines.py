"""Sections `replay`, `vllm`, `loadgen` and `latency`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .texts import Path, Url, VariableName, Words
from .values import (
    Boolean,
    Count,
    Number,
    OrNull,
    Positive,
    Section,
    Several,
    Size,
    Whole,
    key,
    read_whole,
)

PromptTokens = Annotated[int, Field(ge=2), BeforeValidator(read_whole)]
INSTALLED = ("python", "requirements", "index")
"""Keys of environments, which decide no figure by themselves: the records say what was installed."""


class _Engine(Section):
    block_tokens: Count = key(16, unit="tokens")
    """Tokens per block of the engine's own KV cache."""
    prefix_caching: Boolean = True
    """Whether the engine's own cache keeps finished contexts. Without, every turn asks the tier for its
    whole prefix, as when far more conversations are under way than HBM holds."""


class Replay(_Engine):
    """The replay engine, as vLLM's options of similar names."""

    gpus: Count = key(1, unit="GPUs")
    """GPUs that share the model by tensor parallelism, as vllm.tensor_parallel. They must hold its
    weights in the checkpoint's format. Computing and reading weights are shared ideally, each copies the
    KV that it holds; their communication is not modelled."""
    hbm_kv_bytes: Size = key("128 MiB")
    """HBM left for KV cache, of all GPUs together."""
    max_num_batched_tokens: Whole = key(2048, unit="tokens", ge=16)
    """Tokens an engine step computes at most."""
    staging_bytes: Size = key("64 MiB")
    """Pool in which saves wait for the store."""


class Vllm(_Engine):
    """Engine vllm, as vLLM's options of similar names."""

    device: Literal["cuda", "cpu"] = "cuda"
    """What vLLM runs on; `cpu` is for trying it out, with a small model."""
    python: Path | None = None
    """Interpreter of an environment that has vllm and lmcache already; null makes one in
    results/build/engine from `requirements`."""
    requirements: Path | None = None
    """Pinned packages of the engine's environment; null takes envs/engine-cuda.txt or envs/engine-cpu.txt."""
    index: Url | None = None
    """One more package index for pip, where PyTorch's build for the device is not on the usual one; null
    for none."""
    model_dir: Path | None = None
    """Folder of a model with weights and tokenizer; null makes one of `model`'s shape, which a
    description by hand and most multimodal ones do not allow."""
    weights: Literal["dummy", "random"] = "dummy"
    """Of a made model: `dummy`, vLLM's constant small ones, right shapes and speed at once, or `random`,
    written once to disk, whose answers differ from prompt to prompt."""
    tensor_parallel: Count = key(1, unit="GPUs")
    """GPUs that share the model (--tensor-parallel-size). Whatever is told per GPU is divided by it, cost
    counts so many, and a scheduler is asked for them. It must divide the model's attention heads."""
    gpu_memory_utilization: Number = key(0.9, unit="share", gt=0, le=1)
    """Share of each GPU's memory that vLLM may take."""
    hbm_kv_bytes: OrNull[Size] = None
    """Bound of vLLM's own KV cache, of all GPUs together, so that the tiers below are needed; null for
    all that fits. Where GPUs hold copies (MLA, or more GPUs than KV heads) these count."""
    max_num_batched_tokens: Whole = key(8192, unit="tokens", ge=16)
    """Tokens an engine step computes at most."""
    max_num_seqs: Count = key(64, unit="requests")
    """Requests in flight at most."""
    max_context_tokens: OrNull[Count] = key(None, unit="tokens")
    """Longest context that vLLM accepts; null takes what the workload and the single requests need."""
    enforce_eager: Boolean = False
    """No CUDA graphs and no compilation; starts faster, decodes slower."""
    staging_bytes: Size = key("4 GiB")
    """LMCache's host buffer of a scenario without a DRAM pool, for all GPUs together; a request's whole
    prefix must fit."""
    flags: list[str | int | float] = key([], unit="words")
    """Further words of vLLM's command line, as they are. Those that a key sets are refused."""
    environment: dict[VariableName, Words] = key({}, unit="text")
    """Environment variables of vLLM and the LMCache server. Those that a key sets are refused, and so are
    secrets: export these in the shell that starts the run."""
    ready_timeout_s: Positive = key(600, unit="seconds")
    """Longest wait for a server to be ready."""


class Loadgen(Section):
    """The load generator of engine vllm, AIPerf."""

    python: Path | None = None
    """Interpreter of an environment that has aiperf; null makes one in results/build/loadgen."""
    requirements: Path = key("envs/loadgen.txt")
    """Pinned packages of its environment."""
    prime: Boolean = False
    """Send the whole workload once before it is measured, so that the tier holds it; vLLM's own cache is
    emptied in between."""
    conversations_per_client: OrNull[Count] = key(None, unit="conversations")
    """Closed loops. A load has so many of the workload's conversations for each client, so that every
    load takes about as long; null for all of them at every load."""
    request_timeout_s: Positive = key(120, unit="seconds")
    """Longest wait for one answer; past it the request has failed."""
    timeout_s: Positive = key(3600, unit="seconds")
    """Longest time that one load may take; past it its cell is invalid."""


class Latency(Section):
    """Single requests of engine vllm, one at a time before the loads of every scenario - TTFT computed and from the tier, by length of the prompt."""

    prompt_tokens: Several[PromptTokens] = key([], unit="tokens")
    """Lengths of the prompts; an empty list leaves single requests out."""
    prompts: Count = key(3, unit="prompts")
    """Different prompts per length."""
