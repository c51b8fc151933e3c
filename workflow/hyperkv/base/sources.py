"""Which source files a stage depends on: the import closure of a module of this package, read with `ast`, and what lies beside."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .documents import data_in

_PACKAGE = "workflow.hyperkv"
_BESIDE = (".py", ".yaml", ".j2")  # a module, its data and its template
_known: dict[Path, tuple[bytes, str]] = {}  # of the files that were read: their bytes, and what they say


def sources(*modules: str) -> list[str]:
    """Paths, relative to the repository root, of the modules, of all they import from this package, and of their templates and
    data: the .j2 and .yaml beside a module, of its name.

    modules: dotted names below workflow.hyperkv, e.g. "tables.cost", "stores.files". Imports inside functions
    count; modules loaded by name (import_module) do not, so name them here. Raises FileNotFoundError.
    """
    found: set[Path] = set()
    pending = [path for module in modules for path in _ours(f"{_PACKAGE}.{module}")]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        pending.extend(_imported(path))
    return sorted(str(path) for path in found)


def code_digest(paths: Iterable[str]) -> str:
    """12 hex digits that name what source files do: their syntax trees, without comments and docstrings, and what lies beside."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.encode() + b"\0" + _statements(Path(path)).encode() + b"\0")
    return digest.hexdigest()[:12]


def edited() -> list[str]:
    """The files that say something else now than when a digest was made of them; from now on digests are of what they say."""
    before = dict(_known)
    _known.clear()
    _imported.cache_clear()
    return sorted(str(path) for path, read in before.items() if _is_edited(path, *read))


def _is_edited(path: Path, source: bytes, said: str) -> bool:
    try:
        now = path.read_bytes()
        return now != source and _said_by(path, now) != said
    except (OSError, SyntaxError, ValueError):
        return True


def _statements(path: Path) -> str:
    """What a module says, read once."""
    if path not in _known:
        source = path.read_bytes()
        _known[path] = source, _said_by(path, source)
    return _known[path][1]


def _said_by(path: Path, source: bytes) -> str:
    """A module's syntax tree, or its data, as text that neither layout nor comments nor docstrings change; all of a template."""
    if path.suffix == ".j2":
        return source.decode()
    if path.suffix == ".yaml":
        return json.dumps(data_in(source))
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_wording(part)] or [ast.Pass()]
    return ast.dump(tree)


def _is_wording(node: ast.stmt) -> bool:
    """Whether a statement is a string alone: the docstring of what it is in, or of the field before it."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _ours(module: str) -> list[Path]:
    """The files that importing a module of this package loads first. Raises FileNotFoundError."""
    base = Path(*module.split("."))
    if not base.with_suffix(".py").exists() and not (base / "__init__.py").exists():
        raise FileNotFoundError(f"no module {module} under {Path.cwd()}")
    return _paths_if_ours(module)


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    if path.suffix != ".py":
        return ()
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
    candidates = [*(base.with_suffix(suffix) for suffix in _BESIDE), base / "__init__.py"]
    parents = [parent / "__init__.py" for parent in base.parents if parent.is_relative_to("workflow/hyperkv")]
    return [path for path in (*candidates, *parents) if path.exists()]
