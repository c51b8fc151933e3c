"""How vLLM lays out a model's KV cache: bytes per block. Pure functions.

vllm/v1/core/kv_cache_utils.py and kv_cache_interface.py of 0.25 and 0.32.
"""

from __future__ import annotations

from ...models.geometry import Geometry

# Connectors under which vLLM keeps its hybrid KV cache manager (SupportsHMA).
HYBRID_CONNECTORS = ("LMCacheMPConnector", "OffloadingConnector", "MooncakeStoreConnector")


def hybrid_manager(geometry: Geometry, device: str, connector: str | None) -> bool:
    """Whether vLLM frees what is out of a layer's window (VllmConfig.__post_init__); without, such layers keep every token.

    Off on a CPU, with chunked attention, and with a connector that does not support it. device: cuda or cpu. connector: the
    kv_connector of --kv-transfer-config, None without one.
    """
    chunked = any(part.kind == "chunked" for part in geometry.by_kind)
    return device == "cuda" and not chunked and (connector is None or connector in HYBRID_CONNECTORS)


def block_bytes(geometry: Geometry, block_tokens: int, hybrid: bool, tensor_parallel: int = 1) -> int:
    """Bytes on one GPU of one of vLLM's blocks of so many tokens, which --num-gpu-blocks-override counts.

    With the hybrid manager layers of several kinds are in groups of equally many layers, and a block is one group's
    (_get_kv_cache_groups_uniform_page_size). Where a group's layers are not alike (linear ones: padded) it is a block of
    all layers that keep tokens, which is an upper bound.
    """
    whole = geometry.kv_bytes_per_token_on_gpu(tensor_parallel) * block_tokens
    groups = _groups(geometry) if hybrid else None
    return whole if groups is None else whole * groups[0] // sum(part.count for part in geometry.by_kind)


def _groups(geometry: Geometry) -> tuple[int, int] | None:
    """(layers per group, groups) where layers of several kinds are alike in size; None where there is one group or they are not."""
    kinds = geometry.by_kind
    if len({part.window_tokens for part in kinds}) < 2 or any(part.kind == "linear" for part in kinds):
        return None
    if len({part.kv_bytes_per_token for part in kinds}) > 1:
        return None
    counts = [part.count for part in kinds]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    return size, sum(-(-count // size) for count in counts)
