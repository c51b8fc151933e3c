"""The number format of a model's KV cache, as vLLM chooses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.errors import UserError
from .reading import ModelConfig

# What the workflow starts vLLM with (--dtype), and so what engine replay, which models it, counts with.
SERVED_DTYPE = "bfloat16"
KV_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}
_DTYPES = {
    "auto",
    "bfloat16",
    "float",
    "float16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "float8_e5m2",
    "half",
}


def resolved_kv_dtype(config: ModelConfig, asked: str, mla: bool) -> str:
    """The format in which KV is kept when the workflow asks for `asked`: auto or one of KV_DTYPE_BYTES.

    auto is the format that the checkpoint brings (checkpoint_kv_dtype) and else SERVED_DTYPE, whatever dtype the
    weights are saved in: vLLM's auto is the dtype it serves in (kv_cache_dtype_str_to_dtype, utils/torch_utils.py), and
    that is the workflow's --dtype. Raises UserError for a format or a dtype that is none.
    """
    if asked != "auto":
        if asked not in KV_DTYPE_BYTES:
            raise UserError(f"kv_dtype {asked!r} is unknown; choose auto, {', '.join(KV_DTYPE_BYTES)}")
        return asked
    _check_dtype(config)
    return checkpoint_kv_dtype(config, mla) or SERVED_DTYPE


def checkpoint_kv_dtype(config: ModelConfig, mla: bool) -> str | None:
    """The KV format that a checkpoint brings, None when it brings none: vLLM 0.25 to 0.32 with --kv-cache-dtype auto.

    modelopt (get_kv_cache_quant_algo_string, utils/torch_utils.py): kv_cache_scheme or kv_cache_quant_algo, in the
    config's own quantization_config or nested in `quantization`, also in ModelOpt's older file (see reading); FP8 is fp8,
    an unknown word is none. compressed-tensors (Attention.__init__, layers/attention/attention.py): any kv_cache_scheme
    is fp8, but MLA does not look at it (MLAAttention.__init__). Weights in fp8, AWQ, GPTQ or MXFP4 leave KV alone, and so
    does quark's kv_cache_quant, whose scales are loaded but whose format has to be asked for (kv_dtype: fp8).
    Raises UserError for a format that vLLM would take but is not counted here, or would refuse.
    """
    found = config.section("quantization_config", outer=True)
    if found is not None:
        method = _method(found)
        if method.startswith("modelopt"):
            return _modelopt(found, config.where)
    schemed = found or config.section("quantization_config") or config.section("compression_config", True)
    if schemed is None or mla or _method(schemed).replace("_", "-") != "compressed-tensors":
        return None
    scheme = schemed.get("kv_cache_scheme")
    if scheme is None:
        return None
    if (
        not isinstance(scheme, Mapping)
        or scheme.get("num_bits") != 8
        or scheme.get("type", "float") != "float"
    ):
        raise UserError(
            f"{config.where}: quantization_config.kv_cache_scheme is {scheme!r}; vLLM takes 8-bit floats only; set kv_dtype"
        )
    return "fp8"


def _method(section: Mapping[str, Any]) -> str:
    """quant_method, and for ModelOpt's older forms what vLLM makes of them (_normalize_quantization_config)."""
    producer, nested = section.get("producer"), section.get("quantization")
    nested = nested if isinstance(nested, Mapping) else {}
    older = isinstance(producer, Mapping) and producer.get("name") == "modelopt"
    if (older or "modelopt_quant_config" in nested) and nested.get("quant_algo") is not None:
        return "modelopt"
    return str(section.get("quant_method") or "").lower()


def _modelopt(section: Mapping[str, Any], where: str) -> str | None:
    nested = section.get("quantization")
    nested = nested if isinstance(nested, Mapping) else section
    places = [(part, key) for key in ("kv_cache_scheme", "kv_cache_quant_algo") for part in (nested, section)]
    algorithm = next((part[key] for part, key in places if part.get(key)), None)
    if isinstance(algorithm, Mapping):
        bits, kind = algorithm.get("num_bits"), algorithm.get("type")
        if bits == 8 and kind == "float" and algorithm.get("dynamic") is False:
            algorithm = "fp8"
        else:
            algorithm = "nvfp4" if bits == 4 and kind == "float" else None
    word = str(algorithm).lower()
    if word == "nvfp4":
        raise UserError(
            f"{where}: quantization_config has KV in NVFP4, which is not counted here; set kv_dtype to fp8 or bfloat16"
        )
    return "fp8" if word == "fp8" else None


def _check_dtype(config: ModelConfig) -> None:
    """Refuse a dtype that is no number format, in any of the places where transformers looks."""
    for values in (config.values, config.outer):
        for key in ("dtype", "torch_dtype"):
            value = values.get(key)
            if value is not None and str(value).removeprefix("torch.") not in _DTYPES:
                raise UserError(
                    f"{config.where}: {key} is {value!r}, which is no number format; set kv_dtype to one of "
                    f"{', '.join(KV_DTYPE_BYTES)}"
                )
