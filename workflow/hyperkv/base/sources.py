"""Which source files a stage depends on: the import closure of a module of this package, read with `ast`."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..connectors.registry import STRIPED, alone
from .digests import sha256_of
from ..records.journal import canonical_digest
from ..records.record_file import Identity

_PACKAGE = "workflow.hyperkv"


def sources(*modules: str) -> list[str]:
    """Paths, relative to the repository root, of the modules and of all they import from this package.

    modules: dotted names below workflow.hyperkv, e.g. "sweep", "stores.rocksdb". Imports inside functions
    count; modules loaded by name (import_module) do not, so name them here. Raises FileNotFoundError.
    """
    found: set[Path] = set()
    pending = [_path_of(f"{_PACKAGE}.{module}") for module in modules]
    while pending:
        path = pending.pop()
        if path is None or path in found:
            continue
        found.add(path)
        pending.extend(_imported(path))
    return sorted(str(path) for path in found)


def scenario_sources(spec: Mapping[str, Any]) -> list[str]:
    """Paths of everything that measuring one scenario runs: its own engine, workload, store and connector only.

    spec: the scenario's slice of the config, as given to the sweep.
    """
    scenario = spec["scenario"]
    modules = ["sweep", f"{spec['engine']}_cells", f"workloads.{spec['workload']['kind']}"]
    if spec["engine"] == "vllm":
        server = scenario["tier"] != "none" and scenario["store"] not in ("dram", "files")
        modules += [name for name in _store_modules(scenario) if name.startswith("stores.")] if server else []
        plugin = {"striped": ["connectors.lmcache_striped"], "striped_mp": ["connectors.lmcache_striped_l2"]}
        modules += plugin.get(scenario.get("connector"), [])
    elif scenario["tier"] != "none":
        modules += _store_modules(scenario)
        if scenario["dram_pool_bytes"]:
            modules += ["stores.dram", "connectors.inprocess"]
    return sources(*modules)


def profile_sources(scenario: Mapping[str, Any]) -> list[str]:
    """Paths of everything that profiling one store through its connector runs."""
    return sources("profile", *_store_modules(scenario))


def layers_sources(scenario: Mapping[str, Any]) -> list[str]:
    """Paths of everything that measuring the layers of one scenario runs."""
    modules = {"layers", *_store_modules(scenario)}
    if scenario["connector"] != "inprocess":
        modules |= {"stores.null_server", "stores.valkey", "connectors.resp"}
    if scenario["tier"] == "ssd":
        modules |= {"stores.files", "connectors.inprocess"}
    return sources(*sorted(modules))


def trial_sources(scenario: Mapping[str, Any]) -> list[str]:
    """Paths of everything that a trial of the tuner on a store alone runs, whatever its values."""
    sharded = ["stores.sharded"] if scenario["connector"] in STRIPED else []
    return sources("tuning.study", "tuning.store_load", *_store_modules(scenario), *sharded)


def tune_sources(spec: Mapping[str, Any]) -> list[str]:
    """Paths of everything that tuning one scenario runs, its engine included."""
    scenario = spec["sweep"]["scenario"]
    return sorted({*sources("tune"), *trial_sources(scenario), *scenario_sources(spec["sweep"])})


def _store_modules(scenario: Mapping[str, Any]) -> list[str]:
    server = ["stores.rocksdb_server"] if scenario["store"] == "rocksdb" else []
    sharded = ["stores.sharded"] if scenario.get("processes", 1) > 1 else []
    return [f"stores.{scenario['store']}", f"connectors.{alone(scenario['connector'])}", *server, *sharded]


def identity_of(spec: Mapping[str, Any], paths: Iterable[str]) -> Identity:
    """What records of a stage depend on: its spec, what the files say that the spec names, and the source files `paths`."""
    files = {path: _contents_digest(path) for path in files_of(spec)}
    return Identity(canonical_digest([spec, files]), code_digest(paths))


def files_of(spec: Mapping[str, Any]) -> list[str]:
    """The files of a configuration that a stage's spec names and that are there: model, GPU and trace."""
    told = spec.get("sweep", spec)
    named = [told.get("model"), told.get("gpu"), told.get("workload", {}).get("trace")]
    return [path for path in named if path and Path(path).is_file()]


def _contents_digest(path: str) -> str:
    """12 hex digits that name the contents of a file."""
    found = os.stat(path)
    return _digest_of(path, found.st_mtime_ns, found.st_size)


@cache
def _digest_of(path: str, mtime_ns: int, size: int) -> str:
    return sha256_of(Path(path))[:12]


def code_digest(paths: Iterable[str]) -> str:
    """12 hex digits that name the contents of source files."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.encode() + b"\0" + Path(path).read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _path_of(module: str) -> Path:
    base = Path(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"no module {module} under {Path.cwd()}")


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    package = list(path.parent.parts)
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return tuple(path for name in sorted(names) for path in _paths_if_ours(name))


def _paths_if_ours(module: str) -> list[Path]:
    if module != _PACKAGE and not module.startswith(_PACKAGE + "."):
        return []
    base = Path(*module.split("."))
    candidates = [base.with_suffix(".py"), base / "__init__.py"]
    parents = [parent / "__init__.py" for parent in base.parents if parent.is_relative_to("workflow/hyperkv")]
    return [path for path in (*candidates, *parents) if path.exists()]
