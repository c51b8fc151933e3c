"""A model's layers by kind, and what each keeps of a token or of a sequence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..base.errors import UserError
from .families import BY_HAND, Family
from .kv_format import KV_DTYPE_BYTES
from .patterns import pattern_of, require_each
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
    every = config.optional_count("index_topk_freq", 1) or 1
    offset = config.optional_count("index_skip_topk_offset", 2)
    return sum(max(layer - offset + 1, 0) % every == 0 for layer in range(layers))


def _attention(
    config: ModelConfig, family: Family, kind: str, count: int, window: int | None, item: int
) -> Layers:
    """Multi-head, grouped and multi-query attention. Scales of fp8 caches are per tensor: not counted."""
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
    """MLA: one latent and one rotary key for all heads (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    A sparse one attends in the latent's own dimensions.
    """
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
    names = _named(config, family) or pattern_of(config, family.pattern)
    kept = [kind for name in names for kind in (("full", "linear") if name == "both" else (name,))]
    return [_bounded(config, family, kind) for kind in kept if kind != "none"]


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
        listed, layers = config.get(key), config.count("num_hidden_layers")
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
        if config.get("num_hidden_layers") is not None:
            require_each(config, key, words, config.count("num_hidden_layers"))
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
