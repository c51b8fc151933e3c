"""In the engine's environment, with Triton's interpreter in place of CUDA: what LMCache's own code makes of KV. Prints JSON."""

import json
from types import SimpleNamespace

import torch
from lmcache.v1.distributed.serde.turboquant import decode_kernel, turboquant

from workflow.hyperkv.bits.formats import formats, quantized

HEAD = 64


def main() -> None:
    generator = torch.Generator().manual_seed(3)
    kv = (4 * torch.randn((2, 6, 32, 3 * HEAD), generator=generator)).bfloat16()
    found = {each.name: each for each in formats("config/models/smollm2-135m.json", kv, HEAD, "cpu")}
    told = {}
    for name in ("bf16", "fp8", "rounded_2bit"):
        stored = found[name].encode(kv)
        came = found[name].decode(stored)
        told[name] = {"bytes": found[name].size(stored), "most": float((came - kv).abs().max())}
    decode_kernel._FP8_E4B15[0] = 0
    turboquant._select_cuda_device = lambda *_: torch.device("cpu")
    for preset in turboquant.TQ_PRESETS:
        settings = turboquant.TurboQuantSerdeConfig(preset=preset, head_dim=HEAD)
        given = kv.clone()
        if settings.key_fp8:  # the interpreter loses a carry when it rounds to fp8, as no GPU does: numbers that need no rounding
            given[0] = kv[0].to(torch.float8_e4m3fn).bfloat16()
        size = found[preset].size(None)
        stored, came = torch.zeros(size, dtype=torch.uint8), torch.empty_like(kv)
        written = turboquant.TurboQuantSerializer(settings).serialize(of(given), of(stored), None)
        turboquant.TurboQuantDeserializer(settings).deserialize(of(stored), of(came), None)
        differ = int((came != quantized(given, settings)).sum())
        told[preset] = {
            "bytes": size,
            "written": written,
            "differ": differ,
            "lost": bool((came != given).any()),
        }
    print(json.dumps(told))


def of(tensor: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(tensor=tensor)


if __name__ == "__main__":
    main()
