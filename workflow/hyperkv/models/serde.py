"""How LMCache's server shrinks a chunk on its way to the store (`serde`). Pure functions.

Sources: lmcache/v1/distributed/serde of 0.5.6 (fp8.py, turboquant/turboquant.py). Both lose precision.
"""

from __future__ import annotations

from typing import Any

from ..base.errors import UserError
from .geometry import Geometry
from .kv_format import KV_DTYPE_BYTES

TURBOQUANT = {  # bits of a key and of a value; keys of fewer than 8 bits come with a norm
    "turboquant_k8v4": (8, 4),
    "turboquant_4bit_nc": (4, 4),
    "turboquant_k3v4_nc": (3, 4),
    "turboquant_3bit_nc": (3, 3),
}
SERDES = ("fp8", *TURBOQUANT)
_WHOLE_LAYERS = 4  # the first two and the last two stay as they are
_NORM_BYTES = 2
_SCALE_BYTES = 4


def require_serde(serde: str, device: str, pool: bool, where: str) -> None:
    """Refuse one that would save nothing, or does nothing. device: cuda or cpu. pool: LMCache's own memory is the store. where:
    begins the message. Raises UserError.
    """
    if pool:
        raise UserError(f"{where}LMCache's own memory holds KV as it is; leave it out")
    if serde in TURBOQUANT and device == "cpu":
        raise UserError(
            f"{where}TurboQuant's kernels need CUDA, and without it nothing is saved; choose fp8, or leave it out"
        )


def serde_keys(serde: str, geometry: Geometry) -> dict[str, Any]:
    """What an L2 adapter is told as its `serde`. Raises UserError."""
    if serde not in TURBOQUANT:
        return {"type": serde}
    return {"type": "turboquant", "preset": serde, "head_dim": head_dim_of(serde, geometry)}


def stored_share(serde: str | None, geometry: Geometry) -> float:
    """Bytes in the store per byte of KV; 1 without a serde. Raises UserError where it cannot shrink this KV."""
    if serde is None:
        return 1.0
    item = KV_DTYPE_BYTES[geometry.kv_dtype]
    if item != 2:
        raise UserError(f"serde {serde} shrinks KV of 16 bits, not {geometry.kv_dtype}; leave it out")
    if serde not in TURBOQUANT:
        return 1 / item
    head, (key_bits, value_bits) = head_dim_of(serde, geometry), TURBOQUANT[serde]
    key = head if key_bits == 8 else -(-head * key_bits // 8) + _NORM_BYTES
    slot = key + -(-head * value_bits // 8) + _SCALE_BYTES
    whole = min(_WHOLE_LAYERS, geometry.layers)
    return (whole + (geometry.layers - whole) * (slot + slot % 2) / (2 * head * item)) / geometry.layers


def head_dim_of(serde: str, geometry: Geometry) -> int:
    """Of a model whose layers are all alike."""
    kinds = [part for part in geometry.by_kind if part.kv_bytes_per_token]
    if len(kinds) != 1 or not kinds[0].kv_heads:
        raise UserError(
            f"serde {serde} takes models whose layers keep keys and values of equal heads; leave it out"
        )
    return kinds[0].kv_bytes_per_token // (2 * kinds[0].kv_heads * KV_DTYPE_BYTES[geometry.kv_dtype])
