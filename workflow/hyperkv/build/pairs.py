"""What a pair of vLLM and LMCache must have, and which pairs are not sound. Pure functions, the standard library alone.

A scenario asks for some of NEEDS: `inside` (LMCache inside vLLM), `server` (LMCache's server beside it), `resp` (its native RESP
client), `tiers` (tiers of vLLM's own offloading from outside); `serving` is asked for always. Issues are those of LMCache/LMCache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NEEDS = ("inside", "server", "resp", "tiers")
SERVING = "serving"
_LMCACHE = ("inside", "server")
OF_LMCACHE = (*_LMCACHE, "resp")
FIRST_WITH_TIERS = (0, 32)
FIRST_WITH_PACKED_KV = (0, 26)
FIRST_WITHOUT_INSIDE = (0, 5, 7)
OF_INSIDE = "inprocess, redis, resp, striped, direct"
OF_SERVER = "mp, striped_mp, direct_mp"


@dataclass(frozen=True)
class Module:
    """A compiled module. names: what versions call it; of an entry with several all are imported.

    needs: any of which asks for it. absent: what its absence means. device: None for both. required: whether nothing is measured
    without.
    """

    names: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...]
    absent: str
    device: str | None = None
    required: bool = True


MODULES = {
    "kernels": Module(
        (("vllm._C",), ("vllm._C_stable_libtorch",), ("vllm._C_AVX512",), ("vllm._C_AVX2",)),
        (SERVING,),
        "vLLM does not serve",
    ),
    "attention": Module(
        (("vllm.vllm_flash_attn",),),
        (SERVING,),
        "vLLM takes another attention than FlashAttention, which may be slower",
        "cuda",
        False,
    ),
    "experts": Module(
        (("vllm._moe_C",), ("vllm._moe_C_stable_libtorch",)),
        (SERVING,),
        "models of experts (MoE) are not served",
        "cuda",
        False,
    ),
    "copies": Module(
        (("lmcache.cuda_ops",), ("lmcache.c_ops",)),
        _LMCACHE,
        "LMCache copies KV between GPU and host by torch's own operations, which is slower, and says so once",
        "cuda",
        False,
    ),
    "arrays": Module(
        (("cupy",),),
        ("server",),
        "LMCache's server does not reach the GPU, and vLLM waits for it in vain; install cupy-cuda13x there",
        "cuda",
    ),
    "storage": Module(
        (("lmcache.lmcache_native",), ("lmcache.native_storage_ops",)), _LMCACHE, "LMCache does not run"
    ),
    "resp": Module(
        (("lmcache.v1.storage_backend.native_clients.resp_client", "lmcache.lmcache_redis"),),
        ("resp",),
        "LMCache has no native RESP client; install a wheel that has it, or choose connector redis or striped_mp",
    ),
    "tiers": Module(
        (("vllm.v1.kv_offload.tiering.async_lookup",),),
        ("tiers",),
        "vLLM loads no tiers from outside, as from 0.32 on; choose connector striped_mp",
    ),
}


def asked(device: str, needs: Sequence[str]) -> dict[str, Module]:
    """The modules that scenarios with such needs ask for on a device, cuda or cpu."""
    return {
        name: module
        for name, module in MODULES.items()
        if module.device in (None, device) and {SERVING, *needs} & {*module.needs}
    }


def unsound(versions: Mapping[str, str | None]) -> dict[str, str]:
    """Why a pair is not sound for LMCache inside vLLM (`inside`) or its server (`server`), for those for which it is not."""
    vllm, lmcache = (version_of(versions.get(name)) for name in ("vllm", "lmcache"))
    if lmcache is None:
        return dict.fromkeys(_LMCACHE, "there is no LMCache")
    if vllm is not None and vllm >= FIRST_WITH_PACKED_KV:
        why = "LMCache inside vLLM gives wrong output and says nothing from vLLM 0.26 on (LMCache issue 4463)"
        return {"inside": why}
    if lmcache >= FIRST_WITHOUT_INSIDE:
        moved = "LMCache 0.5.7 moved what vLLM imports of it, which then wants kv_connector_module_path"
        return {"inside": moved}
    return {}


def soundness(versions: Mapping[str, str | None], device: str) -> str:
    """In words for which connectors a pair is sound, and why not for the others."""
    wrong = unsound(versions)
    if device == "cpu" and "inside" not in wrong:
        wrong["inside"] = "LMCache inside vLLM has no CPU path"
    groups = {"inside": OF_INSIDE, "server": OF_SERVER}
    sound = [connectors for need, connectors in groups.items() if need not in wrong]
    if device == "cuda":
        tiers = (version_of(versions.get("vllm")) or ()) >= FIRST_WITH_TIERS
        sound += ["offloading", *(["striped_tier"] if tiers else [])]
    told = [f"not for {groups[need]}: {why}" for need, why in wrong.items()]
    return "; ".join([f"sound for {', '.join(sound) or 'no connector'}", *told])


def version_of(text: str | None) -> tuple[int, ...] | None:
    """(0, 5, 7) of '0.5.7rc2' and '0.5.7.dev3+cpu'; None for no version."""
    found = re.match(r"\d+(\.\d+)*", text or "")
    return None if found is None else tuple(map(int, found[0].split(".")))
