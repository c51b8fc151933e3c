"""A model's layers by kind, and what each keeps of a token or of a sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..base.errors import UserError
from .families import BY_HAND, Family
from .kv_format import KV_DTYPE_BYTES
from .reading import ModelConfig
from .states import state_bytes

KINDS = ("full", "sliding", "chunked", "linear", "index")
# What config.json calls them (layer_types, layers_block_type; transformers' ALLOWED_LAYER_TYPES, vLLM's config/model.py).
_WORDS = {
    "attention": "full",
    "full_attention": "full",
    "indexed_attention": "full",
    "deepseek_sparse_attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear",
    "conv": "linear",
    "mamba": "linear",
    "mamba2": "linear",
    "hybrid": "both",
    "mlp": "none",
    "moe": "none",
}
_SPARSE_WORDS = ("indexed_attention", "deepseek_sparse_attention")
# Values in 8 bits and one 4-byte scale for so many of them (DeepseekV32Indexer.k_cache: head_dim + head_dim // 128 * 4).
_INDEX_BLOCK, _INDEX_SCALE_BYTES = 128, 4


@dataclass(frozen=True)
class Layers:
    """Layers of one kind.

    kind: full (every token is kept), sliding (the last window_tokens), chunked (those of the current chunk of
    window_tokens), linear (a state of state_bytes per sequence, no tokens), index (a sparse indexer's keys, of every token).
    kv_bytes_per_token, state_bytes and attention_width are per layer; attention_width: multiply-adds per pair of tokens.
    attended_tokens: how many a token looks at, at most; None: all before it. kv_heads: what tensor parallelism divides by;
    None when every GPU keeps the whole (MLA, indexers).
    """

    kind: str
    count: int
    kv_bytes_per_token: int = 0
    window_tokens: int | None = None
    state_bytes: int = 0
    attention_width: int | None = 0
    attended_tokens: int | None = None
    kv_heads: int | None = None

    def held_bytes(self, tokens: int) -> int:
        """What an engine holds for a context of so many tokens, all these layers."""
        kept = tokens if self.window_tokens is None else min(self.window_tokens, tokens)
        return self.count * (kept * self.kv_bytes_per_token + (self.state_bytes if tokens else 0))


def layers_of(config: ModelConfig, family: Family, kv_dtype: str) -> tuple[Layers, ...]:
    """The layers by kind, full ones first. Raises UserError naming the key that is missing or not understood."""
    counted = Counter(_kinds(config, family))
    item = KV_DTYPE_BYTES[kv_dtype]
    found = []
    for (kind, window), count in sorted(counted.items(), key=lambda pair: KINDS.index(pair[0][0])):
        if kind == "linear":
            if family.state is None:
                raise UserError(
                    f"{config.where}: layer_types has layers without attention, which are not known of model_type "
                    f"{config.model_type!r}; {BY_HAND}"
                )
            found.append(Layers("linear", count, state_bytes=state_bytes(config, family.state)))
        elif family.mla:
            found.append(_latent(config, kind, count, item))
        else:
            found.append(_attention(config, family, kind, count, window, item))
    return (*found, *_index(config, family))


def head_dim(config: ModelConfig) -> int:
    """head_dim, or hidden_size / num_attention_heads when it is absent, null or 0 (vLLM's get_head_size)."""
    if config.optional_count("head_dim", 0):
        return config.count("head_dim")
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    if hidden % heads:
        raise UserError(f"{config.where}: hidden_size {hidden} is no multiple of {heads} heads; add head_dim")
    return hidden // heads


def kv_heads(config: ModelConfig) -> int:
    """KV heads: one with multi_query, else as many as heads when the key is absent (vLLM's get_total_num_kv_heads)."""
    if config.flag("multi_query") and not config.flag("new_decoder_architecture"):
        return 1
    heads = config.count("num_attention_heads")
    found = config.optional_count("num_key_value_heads", heads)
    if not found or heads % found:
        raise UserError(
            f"{config.where}: num_key_value_heads is {found}; write a whole number that divides {heads} heads"
        )
    return found


def index_layers(config: ModelConfig) -> int:
    """How many layers have an indexer of their own (DeepseekV2DecoderLayer: index_topk_freq, index_topk_pattern)."""
    if config.get("index_topk") is None:
        return 0
    layers = config.count("num_hidden_layers")
    types = config.words("indexer_types")
    if types is not None:
        return sum(kind == "full" for kind in types)
    pattern = config.get("index_topk_pattern")
    if pattern is not None:
        return layers - sum(word == "S" for word in pattern)
    every, offset = (
        config.optional_count("index_topk_freq", 1) or 1,
        config.optional_count("index_skip_topk_offset", 2),
    )
    return sum(max(layer - offset + 1, 0) % every == 0 for layer in range(layers))


def _attention(
    config: ModelConfig, family: Family, kind: str, count: int, window: int | None, item: int
) -> Layers:
    width = 2 * head_dim(config)
    return Layers(
        kind,
        count,
        kv_bytes_per_token=kv_heads(config) * width * item,
        window_tokens=window,
        attention_width=config.count("num_attention_heads") * width,
        attended_tokens=window,
        kv_heads=kv_heads(config),
    )


def _latent(config: ModelConfig, kind: str, count: int, item: int) -> Layers:
    """MLA: one latent and one rotary key for all heads. A sparse one attends in the latent's own dimensions."""
    if kind != "full":
        raise UserError(f"{config.where}: layer_types has MLA layers with {kind} attention; {BY_HAND}")
    latent, rope = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
    heads, sparse = config.count("num_attention_heads"), config.get("index_topk") is not None
    expanded = config.count("qk_nope_head_dim") + rope + config.count("v_head_dim")
    # FlashMLA's sparse kernel keeps 8-bit values with their scales and the rotary key in 16 bits (fp8_ds_mla): 656 of 576.
    size = (latent + latent // 128 * 4 + 2 * rope) if sparse and item == 1 else (latent + rope) * item
    return Layers(
        "full",
        count,
        kv_bytes_per_token=size,
        attention_width=heads * (2 * latent + rope if sparse else expanded),
        attended_tokens=config.count("index_topk") if sparse else None,
    )


def _index(config: ModelConfig, family: Family) -> tuple[Layers, ...]:
    count = index_layers(config) if family.mla else 0
    if not count:
        return ()
    dimension = config.count("index_head_dim")
    return (
        Layers(
            "index",
            count,
            kv_bytes_per_token=dimension + dimension // _INDEX_BLOCK * _INDEX_SCALE_BYTES,
            attention_width=config.count("index_n_heads") * dimension,
        ),
    )


def _kinds(config: ModelConfig, family: Family) -> list[tuple[str, int | None]]:
    """(kind, window) of every layer that keeps something; both kinds of a layer that has both."""
    windows = _listed_windows(config)
    if windows is not None:
        return [("full", None) if window is None else ("sliding", window) for window in windows]
    names = _named(config, family)
    if names is None:
        names = PATTERNS[family.pattern](config) if family.pattern else ["sliding"] * _count(config)
    kinds: list[tuple[str, int | None]] = []
    for name in names:
        for kind in ("full", "linear") if name == "both" else (name,):
            if kind != "none":
                kinds.append(_bounded(config, family, kind))
    return kinds


def _bounded(config: ModelConfig, family: Family, kind: str) -> tuple[str, int | None]:
    """The kind with its window; full where the window is switched off."""
    if kind == "sliding":
        window = _window(config, family)
        return ("full", None) if window is None else ("sliding", window)
    if kind == "chunked":
        if "attention_chunk_size" not in config.values:
            config.count("attention_chunk_size")
        chunk = config.optional_count("attention_chunk_size", 0)
        return ("chunked", chunk) if chunk else ("full", None)
    return kind, None


def _window(config: ModelConfig, family: Family) -> int | None:
    """Tokens of the sliding window; None when it is absent, 0 or switched off by use_sliding_window."""
    if not config.flag("use_sliding_window", default=not family.window_flag):
        return None
    key = "sliding_window" if config.get("sliding_window") is not None else "interleaved_sliding_window"
    if family.pattern and not family.window_flag and not {"sliding_window", key} & config.values.keys():
        config.count("sliding_window")
    return config.optional_count(key, 0) or None


def _listed_windows(config: ModelConfig) -> list[int | None] | None:
    """A window per layer where sliding_window is a list that repeats (vLLM's _remap_mistral_sliding_window)."""
    for key in ("sliding_window", "interleaved_sliding_window"):
        listed, layers = config.get(key), _count(config)
        if isinstance(listed, list):
            if not listed or layers % len(listed):
                raise UserError(
                    f"{config.where}: {key} has {len(listed)} entries for {layers} layers; copy it again"
                )
            if not all(window is None or (isinstance(window, int) and window > 0) for window in listed):
                raise UserError(f"{config.where}: {key} is {listed!r}; write token counts or null")
            return listed * (layers // len(listed))
    return None


def _named(config: ModelConfig, family: Family) -> list[str] | None:
    """What layer_types or layers_block_type say of each layer."""
    for key in ("layer_types", "layers_block_type"):
        words = config.words(key)
        if words is None:
            continue
        if config.get("num_hidden_layers") is not None and len(words) != _count(config):
            raise UserError(
                f"{config.where}: {key} has {len(words)} entries for {_count(config)} layers; copy the config.json again"
            )
        sparse = config.get("index_topk") is not None
        strange = [word for word in words if word not in _WORDS or (word in _SPARSE_WORDS and not sparse)]
        if strange:
            raise UserError(f"{config.where}: {key} has {strange[0]!r}, which is not known; {BY_HAND}")
        names = [_WORDS[word] for word in words]
        if "sliding" in names and config.get("sliding_window") is None and not family.window_flag:
            raise UserError(
                f"{config.where}: {key} has sliding_attention without a sliding_window; copy the config.json again"
            )
        return names
    return None


def _count(config: ModelConfig) -> int:
    return config.count("num_hidden_layers")


def _alternating(period: int) -> Callable[[ModelConfig], list[str]]:
    """Every period-th layer is full, the others slide."""
    return lambda config: ["sliding" if (layer + 1) % period else "full" for layer in range(_count(config))]


def _by_pattern(default: int) -> Callable[[ModelConfig], list[str]]:
    """sliding_window_pattern: every so many-th layer is full; as text, L slides and G is full."""

    def names(config: ModelConfig) -> list[str]:
        pattern = config.get("sliding_window_pattern")
        if isinstance(pattern, str) and pattern and not set(pattern) - set("LG"):
            return [
                "sliding" if pattern[layer % len(pattern)] == "L" else "full"
                for layer in range(_count(config))
            ]
        return _alternating(config.optional_count("sliding_window_pattern", default) or 1)(config)

    return names


def _from_max_window(config: ModelConfig) -> list[str]:
    if not config.flag("use_sliding_window") and config.get("max_window_layers") is None:
        return ["sliding"] * _count(config)
    first = config.count("max_window_layers", least=0)
    return ["full" if layer < first else "sliding" for layer in range(_count(config))]


def _alternate_to_max_window(config: ModelConfig) -> list[str]:
    last = config.optional_count("max_window_layers", _count(config))
    return ["sliding" if (layer + 1) % 2 and layer < last else "full" for layer in range(_count(config))]


def _without_rope(config: ModelConfig, named: str, when_rope: bool, interval: int = 4) -> list[str]:
    """`named` where the layer has, or has not, rotary positions; full elsewhere (no_rope_layers: 1 has them)."""
    every = config.optional_count("no_rope_layer_interval", interval) or interval
    listed = config.words("no_rope_layers") or [
        int((layer + 1) % every != 0) for layer in range(_count(config))
    ]
    if len(listed) != _count(config):
        raise UserError(
            f"{config.where}: no_rope_layers has {len(listed)} entries for {_count(config)} layers"
        )
    return [named if bool(rope) == when_rope else "full" for rope in listed]


def _full_interval(config: ModelConfig) -> list[str]:
    every = config.optional_count("full_attention_interval", 4) or 4
    return ["linear" if (layer + 1) % every else "full" for layer in range(_count(config))]


def _attention_period(config: ModelConfig) -> list[str]:
    period, offset = config.count("attn_layer_period"), config.count("attn_layer_offset", least=0)
    return ["full" if layer % period == offset else "linear" for layer in range(_count(config))]


def _at_indices(key: str) -> Callable[[ModelConfig], list[str]]:
    def names(config: ModelConfig) -> list[str]:
        full = config.words(key) or []
        return ["full" if layer in full else "linear" for layer in range(_count(config))]

    return names


def _attention_types(config: ModelConfig) -> list[str]:
    """attn_type_list: 0 is lightning attention, 1 full; alternating without it (MiniMaxConfig)."""
    listed = config.words("attn_type_list")
    if listed is None:
        return ["full" if (layer + 1) % 2 else "linear" for layer in range(_count(config))]
    if len(listed) != _count(config):
        raise UserError(
            f"{config.where}: attn_type_list has {len(listed)} entries for {_count(config)} layers"
        )
    return ["full" if kind == 1 else "linear" for kind in listed]


def _listed_types(config: ModelConfig) -> list[str]:
    """attn_type_list where there is one, else full."""
    return ["full"] * _count(config) if config.get("attn_type_list") is None else _attention_types(config)


def _nemotron_h(config: ModelConfig) -> list[str]:
    """hybrid_override_pattern: M is Mamba, * attention, - and E have no cache."""
    pattern, names = (
        config.get("hybrid_override_pattern"),
        {"M": "linear", "*": "full", "-": "none", "E": "none"},
    )
    if not isinstance(pattern, str) or not pattern or set(pattern) - names.keys():
        raise UserError(
            f"{config.where}: hybrid_override_pattern is {pattern!r}; copy it from the model's config.json"
        )
    return [names[word] for word in pattern]


def _kimi_linear(config: ModelConfig) -> list[str]:
    """linear_attn_config.full_attn_layers, counted from 1."""
    section = config.section("linear_attn_config") or {}
    full = section.get("full_attn_layers")
    if not isinstance(full, Sequence):
        raise UserError(
            f"{config.where}: linear_attn_config.full_attn_layers is missing; copy the model's config.json"
        )
    return ["full" if layer + 1 in full else "linear" for layer in range(_count(config))]


PATTERNS: dict[str, Callable[[ModelConfig], list[str]]] = {
    "all_linear": lambda config: ["linear"] * _count(config),
    "alternate": _alternating(2),
    "alternate_to_max_window": _alternate_to_max_window,
    "attention_indices": _at_indices("attn_layer_indices"),
    "attention_period": _attention_period,
    "attention_types": _attention_types,
    "both": lambda config: ["both"] * _count(config),
    "chunked": lambda config: _without_rope(config, "chunked", when_rope=True),
    "from_max_window": _from_max_window,
    "full_indices": _at_indices("full_attn_idxs"),
    "full_interval": _full_interval,
    "kimi_linear": _kimi_linear,
    "listed_types": _listed_types,
    "nemotron_h": _nemotron_h,
    "sliding_every_4": _alternating(4),
    "sliding_pattern_4": _by_pattern(4),
    "sliding_pattern_6": _by_pattern(6),
    "sliding_without_rope": lambda config: _without_rope(config, "sliding", when_rope=False),
}
