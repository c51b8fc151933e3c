"""Which layers of a model are of which kind where its config.json does not list them, by the word of Family.pattern."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..base.errors import UserError
from .reading import ModelConfig

Pattern = Callable[[ModelConfig, int], list[str]]
_NEMOTRON = {"M": "linear", "*": "full", "-": "none", "E": "none"}


def pattern_of(config: ModelConfig, word: str | None) -> list[str]:
    """The kind of every layer; without a word all slide. Raises UserError naming a key that is missing or not understood."""
    layers = config.count("num_hidden_layers")
    return ["sliding"] * layers if word is None else _PATTERNS[word](config, layers)


def require_each(config: ModelConfig, key: str, listed: Sequence[object], layers: int) -> None:
    """Raises UserError unless a list has an entry for every layer."""
    if len(listed) != layers:
        raise UserError(
            f"{config.where}: {key} has {len(listed)} entries for {layers} layers; copy the config.json again"
        )


def _full_where(is_full: Callable[[int], bool], layers: int, others: str) -> list[str]:
    return ["full" if is_full(layer) else others for layer in range(layers)]


def _every(period: int, layers: int, others: str = "sliding") -> list[str]:
    """Every period-th layer is full."""
    return _full_where(lambda layer: (layer + 1) % period == 0, layers, others)


def _by_pattern(default: int) -> Pattern:
    """sliding_window_pattern: every so many-th layer is full; as text, L slides and G is full."""

    def kinds(config: ModelConfig, layers: int) -> list[str]:
        pattern = config.get("sliding_window_pattern")
        if isinstance(pattern, str) and pattern and not set(pattern) - set("LG"):
            return _full_where(lambda layer: pattern[layer % len(pattern)] == "G", layers, "sliding")
        return _every(config.optional_count("sliding_window_pattern", default) or 1, layers)

    return kinds


def _from_max_window(config: ModelConfig, layers: int) -> list[str]:
    if not config.flag("use_sliding_window") and config.get("max_window_layers") is None:
        return ["sliding"] * layers
    first = config.count("max_window_layers", least=0)
    return _full_where(lambda layer: layer < first, layers, "sliding")


def _alternate_to_max_window(config: ModelConfig, layers: int) -> list[str]:
    last = config.optional_count("max_window_layers", layers)
    return _full_where(lambda layer: layer % 2 == 1 or layer >= last, layers, "sliding")


def _without_rope(others: str, have_rope: bool) -> Pattern:
    """`others` where layers have, or have not, rotary positions; full elsewhere (no_rope_layers: 1 has them)."""

    def kinds(config: ModelConfig, layers: int) -> list[str]:
        every = config.optional_count("no_rope_layer_interval", 4) or 4
        listed = config.words("no_rope_layers") or [(layer + 1) % every != 0 for layer in range(layers)]
        require_each(config, "no_rope_layers", listed, layers)
        return _full_where(lambda layer: bool(listed[layer]) != have_rope, layers, others)

    return kinds


def _attention_period(config: ModelConfig, layers: int) -> list[str]:
    period, offset = config.count("attn_layer_period"), config.count("attn_layer_offset", least=0)
    return _full_where(lambda layer: layer % period == offset, layers, "linear")


def _at_indices(key: str) -> Pattern:
    return lambda config, layers: _full_where((config.words(key) or []).__contains__, layers, "linear")


def _attention_types(config: ModelConfig, layers: int) -> list[str]:
    """attn_type_list: 0 is lightning attention, 1 full; alternating without it (MiniMaxConfig)."""
    listed = config.words("attn_type_list")
    if listed is None:
        return _every(2, layers, "linear")
    require_each(config, "attn_type_list", listed, layers)
    return _full_where(lambda layer: listed[layer] == 1, layers, "linear")


def _listed_types(config: ModelConfig, layers: int) -> list[str]:
    """attn_type_list where there is one, else full."""
    return ["full"] * layers if config.get("attn_type_list") is None else _attention_types(config, layers)


def _nemotron_h(config: ModelConfig, _: int) -> list[str]:
    """hybrid_override_pattern: M is Mamba, * attention, - and E have no cache."""
    pattern = config.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or not pattern or set(pattern) - _NEMOTRON.keys():
        raise UserError(
            f"{config.where}: hybrid_override_pattern is {pattern!r}; copy it from the model's config.json"
        )
    return [_NEMOTRON[word] for word in pattern]


def _kimi_linear(config: ModelConfig, layers: int) -> list[str]:
    """linear_attn_config.full_attn_layers, counted from 1."""
    full = (config.section("linear_attn_config") or {}).get("full_attn_layers")
    if not isinstance(full, Sequence):
        raise UserError(
            f"{config.where}: linear_attn_config.full_attn_layers is missing; copy the model's config.json"
        )
    return _full_where(lambda layer: layer + 1 in full, layers, "linear")


_PATTERNS: dict[str, Pattern] = {
    "all_linear": lambda _, layers: ["linear"] * layers,
    "alternate": lambda _, layers: _every(2, layers),
    "alternate_to_max_window": _alternate_to_max_window,
    "attention_indices": _at_indices("attn_layer_indices"),
    "attention_period": _attention_period,
    "attention_types": _attention_types,
    "both": lambda _, layers: ["both"] * layers,
    "chunked": _without_rope("chunked", have_rope=True),
    "from_max_window": _from_max_window,
    "full_indices": _at_indices("full_attn_idxs"),
    "full_interval": lambda config, layers: _every(
        config.optional_count("full_attention_interval", 4) or 4, layers, "linear"
    ),
    "kimi_linear": _kimi_linear,
    "listed_types": _listed_types,
    "nemotron_h": _nemotron_h,
    "sliding_every_4": lambda _, layers: _every(4, layers),
    "sliding_pattern_4": _by_pattern(4),
    "sliding_pattern_6": _by_pattern(6),
    "sliding_without_rope": _without_rope("sliding", have_rope=False),
}
