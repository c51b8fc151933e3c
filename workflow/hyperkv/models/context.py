"""The longest context of a model, as vLLM derives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..base.errors import UserError
from .reading import ModelConfig

# ModelArchConfigConvertorBase.derive_max_model_len_and_key of vLLM: the least of them.
LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_UNSAID_TOKENS = 2048
_UNSAID = ("bloom", "falcon", "falcon_mamba", "mamba", "mamba2")  # their config.json has none of LENGTH_KEYS
_EXTENDED_ALREADY = ("su", "longrope", "llama3", "mrope", "deepseek_llama_scaling")
_YARN = ("yarn", "deepseek_yarn", "telechat3-yarn")


@dataclass(frozen=True)
class Context:
    """tokens: the longest context. source: the keys that say so."""

    tokens: int
    source: str


def longest_context(config: ModelConfig) -> Context:
    """The longest context that a model is served with.

    The least of LENGTH_KEYS, but model_max_length when it is there; then RoPE scaling (vLLM's _get_and_verify_max_len):
    linear and dynamic multiply it by `factor`; llama3 and longrope do not, their max_position_embeddings is extended
    already, and so is Gemma-3's. YaRN reaches factor * original_max_position_embeddings (vLLM 0.25), and
    max_position_embeddings where that is more (all that vLLM 0.32 takes, which wants it raised in config.json; the folder
    that model_folder makes has it raised). rope_parameters of transformers 5 may be nested by kind of layer: the longest.
    Of a model in _UNSAID without any: 2,048, as vLLM takes (_get_and_verify_max_len; FalconConfig's own default).
    Raises UserError naming the key.
    """
    lengths = {key: config.count(key) for key in LENGTH_KEYS if config.get(key) is not None}
    if not lengths and config.model_type in _UNSAID:
        lengths = {"max_position_embeddings": _UNSAID_TOKENS}
    if not lengths:
        config.count("max_position_embeddings")
    key = (
        "model_max_length" if "model_max_length" in lengths else min(lengths, key=lambda name: lengths[name])
    )
    length = lengths[key]
    found = Context(length, f"{key} {length:,}")
    if "gemma3" in (config.model_type or ""):
        return found
    scaled = [_scaled(config, rope, length) for rope in _rope(config)]
    return max([found, *(context for context in scaled if context)], key=lambda context: context.tokens)


def _scaled(config: ModelConfig, rope: Mapping[str, Any], length: int) -> Context | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in _EXTENDED_ALREADY or (config.model_type in ("phi3", "phimoe") and kind in _YARN):
        return None
    factor = rope.get("factor")
    if factor is None:
        return None
    if not isinstance(factor, (int, float)) or isinstance(factor, bool) or factor <= 0:
        raise UserError(f"{config.where}: rope_scaling.factor is {factor!r}; write a number above 0")
    if kind not in _YARN:
        return Context(int(length * factor), f"rope_scaling {kind}: {factor:g} x {length:,}")
    original = rope.get("original_max_position_embeddings")
    if original is None:
        original = config.values.get("original_max_position_embeddings", length)
    if not isinstance(original, int) or isinstance(original, bool) or original < 1:
        raise UserError(
            f"{config.where}: rope_scaling.original_max_position_embeddings is {original!r}; write a whole number"
        )
    return Context(int(factor * original), f"rope_scaling {kind}: {factor:g} x {original:,}")


def _rope(config: ModelConfig) -> Iterator[Mapping[str, Any]]:
    for key in ("rope_scaling", "rope_parameters"):
        section = config.section(key)
        if not section:
            continue
        nested = [part for part in section.values() if isinstance(part, Mapping)]
        yield from nested or [section]
