"""Sections `replay`, `vllm`, `loadgen` and `latency`."""

from __future__ import annotations

from typing import Literal

from .texts import Path, Url, VariableName, Words
from .values import Boolean, Count, OrNull, Positive, Section, Several, Size, key, number, whole

INSTALLED = ("python", "requirements", "index")
"""Keys of environments, which decide no figure by themselves: the records say what was installed."""


class _Engine(Section):
    block_tokens: Count = key("tokens", "Tokens per block of the engine's own KV cache.", 16)
    prefix_caching: Boolean = key(
        "boolean",
        "Whether the engine's own cache keeps finished contexts. Without, every turn asks the tier for its whole prefix, as "
        "when far more conversations are under way than HBM holds.",
        True,
    )


class Replay(_Engine):
    """The replay engine, as vLLM's options of similar names."""

    gpus: Count = key(
        "GPUs",
        "GPUs that share the model by tensor parallelism, as vllm.tensor_parallel. They must hold its weights in the "
        "checkpoint's format. Computing and reading weights are shared ideally, each copies the KV that it holds; their "
        "communication is not modelled.",
        1,
    )
    hbm_kv_bytes: Size = key("bytes", "HBM left for KV cache, of all GPUs together.", "128 MiB")
    max_num_batched_tokens: whole(16) = key("tokens", "Tokens an engine step computes at most.", 2048)
    staging_bytes: Size = key("bytes", "Pool in which saves wait for the store.", "64 MiB")


class Vllm(_Engine):
    """Engine vllm, as vLLM's options of similar names."""

    device: Literal["cuda", "cpu"] = key(
        "word", "What vLLM runs on; `cpu` is for trying it out, with a small model.", "cuda"
    )
    python: Path | None = key(
        None,
        "Interpreter of an environment that has vllm and lmcache already; null makes one in results/build/engine from "
        "`requirements`.",
        None,
    )
    requirements: Path | None = key(
        None,
        "Pinned packages of the engine's environment; null takes envs/engine-cuda.txt or envs/engine-cpu.txt.",
        None,
    )
    index: Url | None = key(
        None,
        "One more package index for pip, where PyTorch's build for the device is not on the usual one; null for none.",
        None,
    )
    model_dir: Path | None = key(
        None,
        "Folder of a model with weights and tokenizer; null makes one of `model`'s shape, which a description by hand and "
        "most multimodal ones do not allow.",
        None,
    )
    weights: Literal["dummy", "random"] = key(
        "word",
        "Of a made model: `dummy`, vLLM's constant small ones, right shapes and speed at once, or `random`, written once to "
        "disk, whose answers differ from prompt to prompt.",
        "dummy",
    )
    tensor_parallel: Count = key(
        "GPUs",
        "GPUs that share the model (--tensor-parallel-size). Whatever is told per GPU is divided by it, cost counts so "
        "many, and a scheduler is asked for them. It must divide the model's attention heads.",
        1,
    )
    gpu_memory_utilization: number(above=0, most=1) = key(
        "share", "Share of each GPU's memory that vLLM may take.", 0.9
    )
    hbm_kv_bytes: OrNull[Size] = key(
        "bytes",
        "Bound of vLLM's own KV cache, of all GPUs together, so that the tiers below are needed; null for all that fits. "
        "Where GPUs hold copies (MLA, or more GPUs than KV heads) these count.",
        None,
    )
    max_num_batched_tokens: whole(16) = key("tokens", "Tokens an engine step computes at most.", 8192)
    max_num_seqs: Count = key("requests", "Requests in flight at most.", 64)
    max_context_tokens: OrNull[Count] = key(
        "tokens",
        "Longest context that vLLM accepts; null takes what the workload and the single requests need.",
        None,
    )
    enforce_eager: Boolean = key(
        "boolean", "No CUDA graphs and no compilation; starts faster, decodes slower.", False
    )
    staging_bytes: Size = key(
        "bytes",
        "LMCache's host buffer of a scenario without a DRAM pool, for all GPUs together; a request's whole prefix must fit.",
        "4 GiB",
    )
    flags: list[str | int | float] = key(
        "words", "Further words of vLLM's command line, as they are. Those that a key sets are refused.", []
    )
    environment: dict[VariableName, Words] = key(
        "text",
        "Environment variables of vLLM and the LMCache server. Those that a key sets are refused, and so are secrets: export "
        "these in the shell that starts the run.",
        {},
    )
    ready_timeout_s: Positive = key("seconds", "Longest wait for a server to be ready.", 600)


class Loadgen(Section):
    """The load generator of engine vllm, AIPerf."""

    python: Path | None = key(
        None, "Interpreter of an environment that has aiperf; null makes one in results/build/loadgen.", None
    )
    requirements: Path = key(None, "Pinned packages of its environment.", "envs/loadgen.txt")
    prime: Boolean = key(
        "boolean",
        "Send the whole workload once before it is measured, so that the tier holds it; vLLM's own cache is emptied in between.",
        False,
    )
    conversations_per_client: OrNull[Count] = key(
        "conversations",
        "Closed loops. A load has so many of the workload's conversations for each client, so that every load takes about as "
        "long; null for all of them at every load.",
        None,
    )
    request_timeout_s: Positive = key(
        "seconds", "Longest wait for one answer; past it the request has failed.", 120
    )
    timeout_s: Positive = key(
        "seconds", "Longest time that one load may take; past it its cell is invalid.", 3600
    )


class Latency(Section):
    """Single requests of engine vllm, one at a time before the loads of every scenario - TTFT computed and from the tier, by length of the prompt."""

    prompt_tokens: Several[whole(2)] = key(
        "tokens", "Lengths of the prompts; an empty list leaves single requests out.", []
    )
    prompts: Count = key("prompts", "Different prompts per length.", 3)
