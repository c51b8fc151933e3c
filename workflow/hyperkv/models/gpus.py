"""How many GPUs a scenario has, and what each of them holds of the KV: vLLM's tensor parallelism. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.errors import UserError
from .geometry import Geometry

VISIBLE = "CUDA_VISIBLE_DEVICES"
MOST_GPUS = 8  # of one machine


@dataclass(frozen=True)
class KvShare:
    """How KV lies on `ranks` GPUs.

    rank_bytes_per_token: of one token on each of them. values_per_chunk: what LMCache stores for a chunk, a value of each
    rank, or one in all where every rank holds the same (MLA).
    """

    ranks: int
    rank_bytes_per_token: int
    values_per_chunk: int

    @property
    def hbm_bytes_per_token(self) -> int:
        """Bytes of one token in the memory of all GPUs, copies included."""
        return self.ranks * self.rank_bytes_per_token

    @property
    def stored_bytes_per_token(self) -> int:
        """Bytes of one token below HBM, copies of KV heads included."""
        return self.values_per_chunk * self.rank_bytes_per_token

    def value_bytes(self, chunk_tokens: int) -> int:
        """Bytes of one value of a chunk."""
        return self.rank_bytes_per_token * chunk_tokens

    def stored_bytes(self, chunk_tokens: int) -> int:
        """Bytes of all values of a chunk."""
        return self.stored_bytes_per_token * chunk_tokens


def tensor_parallel_of(settings: Mapping[str, Any]) -> int:
    """Ranks of vLLM under its settings (vllm_command.settings_of); 1 for those of records from before there was the key."""
    return settings.get("tensor_parallel") or 1


def gpus_of(spec: Mapping[str, Any]) -> int:
    """GPUs of one engine, on a CPU ranks. spec: the scenario's slice of the config."""
    if spec["engine"] == "replay":
        return spec["replay"].get("gpus") or 1
    return tensor_parallel_of({**spec["vllm"], **spec["scenario"].get("vllm", {})})


def kv_share(geometry: Geometry, ranks: int) -> KvShare:
    """The share of each of `ranks` GPUs: its KV heads, at least one, so that heads are copied where there are fewer of them.

    The KV of MLA is the same on every rank, and LMCache stores it once (save_only_first_rank).
    Source: vllm/config/model.py, get_num_kv_heads; lmcache/v1/cache_engine.py.
    """
    return KvShare(ranks, geometry.kv_bytes_per_token_on_gpu(ranks), kv_values(geometry, ranks))


def kv_values(geometry: Geometry, ranks: int) -> int:
    """Values that LMCache stores for a chunk, each by a rank of its own over a link of its own."""
    return 1 if geometry.kv_heads is None else ranks


def kv_fraction(geometry: Geometry, gpus: int) -> float:
    """The part of the KV that each GPU holds; for any number of GPUs, whether or not vLLM shares heads among so many."""
    return 1.0 if geometry.kv_heads is None else max(1 / gpus, 1 / geometry.kv_heads)


def kv_pieces(geometry: Geometry, gpus: int) -> int:
    """Pieces in which a block of tokens is copied to so many GPUs: keys and values of each layer that keeps tokens, on each of them.

    MLA's latent and an indexer's keys are one piece each. LMCache's server copies them one by one, for one GPU after the
    other of its machine (lmcache 0.5.6: run_direct_transfer; --max-gpu-workers 1).
    """
    kept = (part for part in geometry.by_kind if part.kv_bytes_per_token)
    return min(gpus, MOST_GPUS) * sum(part.count * (1 if part.kv_heads is None else 2) for part in kept)


def kv_copies(geometry: Geometry, gpus: int) -> float:
    """Bytes stored per byte of KV, likewise: more than 1 where heads are copied to several GPUs, each storing its own."""
    return kv_values(geometry, gpus) * kv_fraction(geometry, gpus)


def divides(geometry: Geometry, gpus: int) -> bool:
    """Whether vLLM can share the model among so many GPUs: attention heads, where they are known, and KV heads come out even."""
    heads = geometry.kv_heads
    even = heads is None or heads % gpus == 0 or gpus % heads == 0
    return (geometry.attention_heads or gpus) % gpus == 0 and even


def require_divides(geometry: Geometry, gpus: int, key: str) -> None:
    """Raises UserError naming the key when vLLM would not share the model among so many GPUs."""
    if divides(geometry, gpus):
        return
    heads = geometry.attention_heads or geometry.kv_heads or gpus
    choices = ", ".join(str(count) for count in range(1, heads + 1) if divides(geometry, count))
    raise UserError(
        f"{key}: {geometry.name}'s {heads} attention heads cannot be shared by {gpus} GPUs; choose one of {choices}"
    )


def visible_gpus(variable: str | None, present: int | None) -> int | None:
    """GPUs that a process sees: those of CUDA_VISIBLE_DEVICES up to the first that is none; None when nothing tells.

    variable: its value, None when it is not set. present: GPUs of the machine, None when that is not known.
    """
    if variable is None:
        return present
    found: list[str] = []
    for word in (part.strip() for part in variable.split(",")):
        missing = present is not None and word.isdigit() and int(word) >= present
        if not word or word.startswith("-") or missing or word in found:
            break
        found.append(word)
    return len(found)


def own_gpus(variable: str | None, ranks: int, number: int) -> str:
    """CUDA_VISIBLE_DEVICES of one of several engines, by its number. variable: its value for all of them, None when it is not set."""
    named = None if variable is None else [word.strip() for word in variable.split(",")]
    mine = range(number * ranks, (number + 1) * ranks)
    return ",".join(str(gpu) if named is None else named[gpu] for gpu in mine)


def own_cores(cores: Sequence[int], ranks: int, number: int, engines: int) -> str:
    """VLLM_CPU_OMP_THREADS_BIND of one of several engines on a CPU: an even part of the cores for each rank, one at least."""
    parts = []
    for part in range(number * ranks, (number + 1) * ranks):
        first, end = (len(cores) * at // (engines * ranks) for at in (part, part + 1))
        parts.append(",".join(map(str, cores[first : max(end, first + 1)])))
    return "|".join(parts)


def check_settings(settings: Mapping[str, Any], geometry: Geometry, where: str, engines: int = 1) -> None:
    """Refuse a number of GPUs that vLLM's environment or model does not allow.

    engines: that have so many each. where: begins the message, such as `config: ` or `config: scenarios.x.`. Raises UserError naming the key.
    """
    ranks = tensor_parallel_of(settings)
    key = f"{where}vllm.tensor_parallel"
    require_divides(geometry, ranks, key)
    variable = settings["environment"].get(VISIBLE) if settings["device"] == "cuda" else None
    seen, ranks = visible_gpus(variable, None), engines * ranks
    if seen is not None and seen < ranks:
        raise UserError(
            f"{key}: {ranks} GPUs are asked for{_by(engines)}, vllm.environment.{VISIBLE} {variable!r} shows {seen}; name as many "
            f"there, or leave it out"
        )


def _by(engines: int) -> str:
    return f" by {engines} engines" if engines > 1 else ""


def require_gpus(
    settings: Mapping[str, Any], present: int | None, variable: str | None, engines: int = 1
) -> None:
    """That this machine has the GPUs of all engines. present, variable: as in visible_gpus. Raises UserError when it has fewer."""
    if settings["device"] != "cuda":
        return
    variable = settings["environment"].get(VISIBLE, variable)
    seen, ranks = visible_gpus(variable, present), engines * tensor_parallel_of(settings)
    if seen is not None and seen < ranks:
        shown = "" if variable is None else f" under {VISIBLE}={variable}"
        raise UserError(
            f"vllm.tensor_parallel: {ranks} GPU{'s are' if ranks > 1 else ' is'} asked for{_by(engines)}, this machine shows {seen}{shown}; "
            f"lower it, or measure where there are as many"
        )
