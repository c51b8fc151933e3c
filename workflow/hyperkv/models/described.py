"""A model described by hand: its layers by kind with their bytes, where no config.json says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..base.errors import UserError
from .kv_format import KV_DTYPE_BYTES, SERVED_DTYPE
from .layers import KINDS, Layers
from .reading import ModelConfig
from .weights import Parameters

_NEEDS = {
    "full": ("kv_bytes_per_token",),
    "sliding": ("kv_bytes_per_token", "window_tokens"),
    "chunked": ("kv_bytes_per_token", "window_tokens"),
    "linear": ("state_bytes",),
    "index": ("kv_bytes_per_token",),
}
_KEYS = {"kind", "count", "kv_bytes_per_token", "window_tokens", "state_bytes", "kv_heads", "attention_width"}
_TOP = {
    "layers",
    "max_context_tokens",
    "parameters",
    "active_parameters",
    "active_expert_parameters",
    "kv_dtype",
    "source",
    "vocab_size",
}


@dataclass(frozen=True)
class Described:
    """What a file says. parameters: None when it does not tell them."""

    by_kind: tuple[Layers, ...]
    kv_dtype: str
    parameters: Parameters | None
    max_context_tokens: int


def is_described(document: Mapping[str, Any]) -> bool:
    """Whether a model's file is such a description and no config.json."""
    return isinstance(document.get("layers"), list)


def described(document: Mapping[str, Any], where: str, kv_dtype: str) -> Described:
    """The model of a file in the form of config/models/README.md.

    Bytes are those of the file's own kv_dtype (bfloat16 when absent) and are scaled to the one that is asked for, but for
    an indexer's and a state's. Raises UserError naming the file, the key and what is allowed.
    """
    _only(document, _TOP, where)
    own = document.get("kv_dtype", SERVED_DTYPE)
    if own not in KV_DTYPE_BYTES:
        raise UserError(f"{where}: kv_dtype is {own!r}; choose {', '.join(KV_DTYPE_BYTES)}")
    asked = own if kv_dtype == "auto" else kv_dtype
    if asked not in KV_DTYPE_BYTES:
        raise UserError(f"kv_dtype {asked!r} is unknown; choose auto, {', '.join(KV_DTYPE_BYTES)}")
    if not document["layers"]:
        raise UserError(f"{where}: layers is empty; write one entry per kind of layer")
    by_kind = tuple(
        _layers(entry, f"{where}: layers[{number}]", KV_DTYPE_BYTES[own], KV_DTYPE_BYTES[asked])
        for number, entry in enumerate(document["layers"])
    )
    top = ModelConfig(document, document, where)
    return Described(by_kind, asked, _parameters(top), top.count("max_context_tokens"))


def _layers(entry: Any, where: str, own: int, asked: int) -> Layers:
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}: is {entry!r}; write kind, count and bytes")
    _only(entry, _KEYS, where)
    kind, values = entry.get("kind"), ModelConfig(entry, entry, where)
    if kind not in KINDS:
        raise UserError(f"{where}: kind is {kind!r}; choose {', '.join(KINDS)}")
    for key in _NEEDS[kind]:
        _present(values, key)
    _present(values, "count")
    size = values.optional_count("kv_bytes_per_token", 0)
    if kind in ("full", "sliding", "chunked"):
        if size * asked % own:
            raise UserError(
                f"{where}: kv_bytes_per_token {size} is odd; write the bytes of a format of {own} bytes"
            )
        size = size * asked // own
    window = values.count("window_tokens") if kind in ("sliding", "chunked") else None
    return Layers(
        kind,
        values.count("count"),
        kv_bytes_per_token=0 if kind == "linear" else size,
        window_tokens=window,
        state_bytes=values.count("state_bytes") if kind == "linear" else 0,
        attention_width=0
        if kind == "linear"
        else values.get("attention_width") and values.count("attention_width"),
        attended_tokens=window,
        kv_heads=values.get("kv_heads") and values.count("kv_heads"),
    )


def _parameters(top: ModelConfig) -> Parameters | None:
    if top.get("parameters") is None:
        return None
    total = top.count("parameters")
    active = total if top.get("active_parameters") is None else top.count("active_parameters")
    key = "active_expert_parameters"
    experts = 0 if top.get(key) is None else top.count(key)
    if experts > active:
        raise UserError(
            f"{top.where}: {key} {experts:,} is wrong; they are part of the {active:,} that one token passes"
        )
    return Parameters(total, active, active_experts=experts)


def _present(values: ModelConfig, key: str) -> None:
    if values.get(key) is None:
        raise UserError(f"{values.where}: {key} is missing; config/models/README.md says what it is")


def _only(values: Mapping[str, Any], allowed: set[str], where: str) -> None:
    strange = sorted(values.keys() - allowed)
    if strange:
        raise UserError(f"{where}: there is no key {strange[0]}; known: {', '.join(sorted(allowed))}")
