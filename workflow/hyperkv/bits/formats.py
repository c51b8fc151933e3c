"""Formats in which a store may keep KV, each as LMCache's own code makes it where that runs; needs the engine's environment.

A chunk is a tensor of bfloat16 in host memory, [2, layers, tokens, heads * head size], keys first, as LMCache's server has it; what is
stored lies in host memory, too. TurboQuant's kernels need CUDA: without it `quantized` is the same arithmetic in torch, which tests
hold to the kernels themselves in Triton's interpreter. Source: lmcache/v1/distributed/serde and v1/storage_backend/naive_serde of
0.5.6.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..models.serde import TURBOQUANT
from ..records.kinds.bits import COARSE

CHUNK_TOKENS = 256
_NOT_ON_CPU = "on a GPU its kernels run there, and their seconds are not known here"


@dataclass(frozen=True)
class Format:
    """encode: a chunk to what is stored. decode: back. size: bytes of what is stored. timed: whether the seconds of both are those of a
    server. reason: why not, or what is to be known of them.
    """

    name: str
    encode: Callable[[Tensor], Any]
    decode: Callable[[Any], Tensor]
    size: Callable[[Any], int]
    timed: bool = True
    reason: str = ""


def formats(model: str, chunk: Tensor, head_dim: int, device: str) -> list[Format]:
    """All formats of chunks like this one, the control first. model: its folder or config.json. device: cuda or cpu."""
    buffers = [torch.empty_like(chunk, pin_memory=chunk.is_pinned()) for _ in range(2)]
    copy = Format("bf16", buffers[0].copy_, buffers[1].copy_, _bytes)
    coarse = Format(COARSE, _rounded, _unrounded, _bytes, timed=False, reason="a control")
    presets = [_turboquant(preset, chunk, head_dim, device) for preset in TURBOQUANT]
    return [copy, _fp8(chunk), *presets, _cachegen(model, chunk, head_dim, device), coarse]


def _fp8(chunk: Tensor) -> Format:
    from lmcache.v1.distributed.serde import Fp8QuantizationDeserializer, Fp8QuantizationSerializer

    return Format("fp8", *_served(Fp8QuantizationSerializer(), Fp8QuantizationDeserializer(), chunk), _bytes)


def _turboquant(preset: str, chunk: Tensor, head_dim: int, device: str) -> Format:
    from lmcache.v1.distributed.serde import (
        TurboQuantDeserializer,
        TurboQuantSerdeConfig,
        TurboQuantSerializer,
    )

    settings = TurboQuantSerdeConfig(preset=preset, head_dim=head_dim)
    serializer = TurboQuantSerializer(settings)
    if device == "cuda":
        coders = _served(serializer, TurboQuantDeserializer(settings), chunk)
        return Format(preset, *coders, _bytes, reason=_choosing())
    size = serializer.estimate_serialized_size(_layout(chunk))
    return Format(
        preset,
        lambda kv: quantized(kv, settings),
        Tensor.clone,
        lambda _: size,
        timed=False,
        reason=_NOT_ON_CPU,
    )


def _choosing() -> str:
    """What of the seconds is no encoding: LMCache's server names no GPU, so that it is chosen anew for every chunk."""
    from lmcache.v1.distributed.serde.turboquant.turboquant import _auto_select_cuda_device

    took = []
    for _ in range(5):
        began = time.perf_counter()
        _auto_select_cuda_device(1)
        took.append(time.perf_counter() - began)
    return f"{sorted(took)[2]:.4f} s of encoding a chunk, and of decoding one, choose a GPU (nvidia-smi)"


def _served(serializer: Any, deserializer: Any, chunk: Tensor) -> tuple[Callable, Callable]:
    """encode and decode of a serde of LMCache's server, into buffers that are there already."""
    like = {"pin_memory": chunk.is_pinned()}
    stored = torch.empty(serializer.estimate_serialized_size(_layout(chunk)), dtype=torch.uint8, **like)
    loaded = torch.empty(chunk.shape, dtype=chunk.dtype, **like)

    def encode(kv: Tensor) -> Tensor:
        return stored[: serializer.serialize(_object(kv), _object(stored), None)]

    def decode(bytes_: Tensor) -> Tensor:
        deserializer.deserialize(_object(bytes_), _object(loaded), None)
        return loaded

    return encode, decode


def _cachegen(model: str, chunk: Tensor, head_dim: int, device: str) -> Format:
    from lmcache.v1.storage_backend.naive_serde.cachegen_decoder import CacheGenDeserializer
    from lmcache.v1.storage_backend.naive_serde.cachegen_encoder import CacheGenSerializer

    _, layers, tokens, hidden = chunk.shape
    shape = (layers, 2, tokens, hidden // head_dim, head_dim)
    told = SimpleNamespace(model_name=model, kv_shape=shape, kv_dtype=chunk.dtype)
    settings = SimpleNamespace(chunk_size=tokens)
    serializer, deserializer = CacheGenSerializer(settings, told), CacheGenDeserializer(settings, told)
    return Format(
        "cachegen",
        lambda kv: serializer.serialize(_object(kv)),
        lambda stored: deserializer.deserialize(stored).tensor.cpu(),
        lambda stored: len(stored.byte_array),
        timed=device == "cuda",
        reason="" if device == "cuda" else _NOT_ON_CPU,
    )


def quantized(kv: Tensor, settings: Any) -> Tensor:
    """KV as it comes back from TurboQuant. settings: a TurboQuantSerdeConfig. Source: store_kernel.py, decode_kernel.py, turboquant.py."""
    from lmcache.v1.distributed.serde.turboquant import turboquant as tables

    _, layers, tokens, hidden = kv.shape
    found, most = kv.clone(), 2**settings.value_quant_bits - 1
    for layer in range(*tables._layer_ranges(layers, settings)):
        keys, values = kv[:, layer].reshape(2, -1, settings.head_dim)
        if settings.key_fp8:
            keys = keys.to(torch.float8_e4m3fn).half()
        else:
            turn, middles, centres = tables._make_tq_tensors_for_layer(settings, layer, kv.device)
            norms = keys.float().norm(dim=1, keepdim=True)
            turned = (keys.float() / (norms + 1e-8)) @ turn
            nearest = centres[torch.bucketize(turned, middles, right=True)]
            unit = nearest / torch.sqrt((nearest * nearest).sum(1, keepdim=True) + 1e-16)
            keys = ((norms.half().float() * unit).half().float() @ turn.T).half()
        values = values.float()
        low = values.amin(1, keepdim=True)
        scale = ((values.amax(1, keepdim=True) - low) / most).clamp(min=1e-8)
        steps = ((values - low) / scale + 0.5).int().clamp(0, most)
        values = (steps * scale.half().float() + low.half().float()).half()
        found[0, layer], found[1, layer] = keys.reshape(tokens, hidden), values.reshape(tokens, hidden)
    return found


def _rounded(kv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two bits for each number between the lowest and the highest of a token's layer, four in a byte, and these two."""
    low, high = kv.float().amin(3, keepdim=True), kv.float().amax(3, keepdim=True)
    steps = ((kv.float() - low) / (high - low).clamp(min=1e-8) * 3).round().to(torch.uint8)
    one, two, three, four = steps.reshape(*kv.shape[:3], -1, 4).unbind(-1)
    return one | two << 2 | three << 4 | four << 6, low.to(kv.dtype), high.to(kv.dtype)


def _unrounded(stored: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    packed, low, high = stored
    steps = torch.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], dim=-1).flatten(3)
    return (low + steps * (high.float() - low.float()) / 3).to(low.dtype)


def _bytes(stored: Tensor | tuple[Tensor, ...]) -> int:
    return sum(part.nbytes for part in (stored if isinstance(stored, tuple) else (stored,)))


def _layout(chunk: Tensor) -> Any:
    from lmcache.v1.distributed.api import MemoryLayoutDesc

    return MemoryLayoutDesc(shapes=[chunk.shape], dtypes=[chunk.dtype])


def _object(tensor: Tensor) -> Any:
    """What a serde sees of LMCache's memory object."""
    return SimpleNamespace(tensor=tensor, parent=lambda: None)
