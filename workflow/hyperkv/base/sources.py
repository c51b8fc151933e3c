"""Which source files a stage depends on: the import closure of a module of this package, read with `ast`, and what lies beside."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .documents import data_in
from .durable import appearing

_PACKAGE = "workflow.hyperkv"
_PACKAGES = (_PACKAGE, "workflow.plugin.lmcache_striped")
_BESIDE = (".py", ".yaml", ".j2", ".c")  # a module, its data, its template and its compiled part


_WORDED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class _Read(NamedTuple):
    """A file as it was read: its bytes, what they say, and the files of this package that they import."""

    source: bytes
    said: str
    imports: tuple[Path, ...]


class _Parsed(NamedTuple):
    """What a module says, and the names that it imports, those of its own package with dots before them."""

    said: str
    imports: list[str]


_known: dict[Path, _Read] = {}
_found: dict[str, tuple[Path, ...]] = {}
_parsed: dict[str, _Parsed] = {}  # by a digest of the module's bytes and of what parses them
_recalled: set[str] = set()  # those of them that a file has
_PARSER = Path(__file__).read_bytes() + sys.version.encode()


def sources(*modules: str) -> list[str]:
    """Paths, relative to the repository root, of the modules, of all they import from this package, and of their templates and
    data: the .j2, .yaml and .c beside a module, of its name, and what such a .c includes.

    modules: dotted names below workflow.hyperkv, e.g. "tables.cost", "stores.files", or whole ones. Imports inside
    functions count; modules loaded by name (import_module) do not, so name them here. Raises FileNotFoundError.
    """
    found: set[Path] = set()
    whole = (module if _is_ours(module) else f"{_PACKAGE}.{module}" for module in modules)
    pending = [path for module in whole for path in _ours(module)]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        pending.extend(_known_as(path).imports)
    return sorted(str(path) for path in found)


def code_digest(paths: Iterable[str]) -> str:
    """12 hex digits that name what source files do: their syntax trees, without comments and docstrings, and what lies beside."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.encode() + b"\0" + _known_as(Path(path)).said.encode() + b"\0")
    return digest.hexdigest()[:12]


def recall(path: Path) -> None:
    """Take over what an earlier process kept of the modules that it parsed; what is damaged is parsed again."""
    with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, AttributeError):
        kept = json.loads(path.read_text())
        _parsed.update({key: _Parsed(str(said), [*map(str, names)]) for key, (said, names) in kept.items()})
        _recalled.update(_parsed)


def keep(path: Path) -> None:
    """Keep what the modules said for the next process, which then need not parse them: that is a third of a start of Snakemake.

    Nothing is kept in a folder that cannot be written.
    """
    keys = {_key(read.source) for module, read in _known.items() if module.suffix == ".py"}
    if keys - _recalled:
        with contextlib.suppress(OSError), appearing(path) as partial:
            partial.write_text(json.dumps({key: _parsed[key] for key in keys}))


def same_code(one: Path, other: Path) -> bool:
    """Whether two files say the same, but for comments and docstrings."""
    said = [_read(path, path.read_bytes()).said for path in (one, other)]
    return said[0] == said[1]


def edited() -> list[str]:
    """The files that say something else now than when a digest was made of them; from now on digests are of what they say."""
    before = dict(_known)
    _known.clear()
    _found.clear()
    return sorted(str(path) for path, read in before.items() if _is_edited(path, read))


def _is_edited(path: Path, read: _Read) -> bool:
    try:
        now = path.read_bytes()
        return now != read.source and _read(path, now).said != read.said
    except (OSError, SyntaxError, ValueError):
        return True


def _known_as(path: Path) -> _Read:
    """A module as it is, read once."""
    if path not in _known:
        _known[path] = _read(path, path.read_bytes())
    return _known[path]


def _read(path: Path, source: bytes) -> _Read:
    """A module's syntax tree, or its data, as text that neither layout nor comments nor docstrings change; all of a template and of C."""
    if path.suffix == ".j2":
        return _Read(source, source.decode(), ())
    if path.suffix == ".c":
        parts = re.findall(r'^#include "(.+)"', source.decode(), re.MULTILINE)
        return _Read(source, source.decode(), tuple(path.parent / part for part in parts))
    if path.suffix == ".yaml":
        return _Read(source, json.dumps(data_in(source)), ())
    key = _key(source)
    if key not in _parsed:
        _parsed[key] = _parse(source)
    said, names = _parsed[key]
    ours = (
        found for name in sorted({_whole(name, path) for name in names}) for found in _paths_if_ours(name)
    )
    return _Read(source, said, tuple(dict.fromkeys(ours)))


def _key(source: bytes) -> str:
    return hashlib.sha256(_PARSER + source).hexdigest()


def _parse(source: bytes) -> _Parsed:
    said: list[str] = []
    named: list[ast.Import | ast.ImportFrom] = []
    _say(ast.parse(source), said, named)
    names: set[str] = set()
    for node in named:
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names.add(base)
            names.update(f"{base}{'.' if node.module else ''}{alias.name}" for alias in node.names)
        else:
            names.update(alias.name for alias in node.names)
    return _Parsed(" ".join(said), sorted(names))


def _whole(name: str, path: Path) -> str:
    """The whole name of what the module at a path imports as `name`."""
    if not (level := len(name) - len(name.lstrip("."))):
        return name
    above = path.parent.parts[: len(path.parent.parts) - level + 1]
    return ".".join([*above, *filter(None, [name[level:]])])


def _say(node: ast.AST, said: list[str], imports: list[ast.Import | ast.ImportFrom]) -> None:
    """Add what a tree says, node by node and field by field, to `said`, and its imports to the others. It is asked of every file at
    every start, and takes less than half of what `ast.dump` and `ast.walk` do."""
    kind = node.__class__
    said.append(kind.__name__)
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        imports.append(node)
    for name in node._fields:
        value = getattr(node, name, None)
        if name == "type_params" and not value:  # since Python 3.12
            continue
        if value.__class__ is list:
            if name == "body" and kind in _WORDED:
                value = [part for part in value if not _is_wording(part)] or [ast.Pass()]
            said.append("[")
            for part in value:
                if isinstance(part, ast.AST):
                    _say(part, said, imports)
                else:
                    said.append(repr(part))
            said.append("]")
        elif isinstance(value, ast.AST):
            if name != "ctx":
                _say(value, said, imports)
        else:
            said.append(repr(value))


def _is_wording(node: ast.stmt) -> bool:
    """Whether a statement is a string alone: the docstring of what it is in, or of the field before it."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _ours(module: str) -> tuple[Path, ...]:
    """The files that importing a module of this package loads first. Raises FileNotFoundError."""
    base = Path(*module.split("."))
    if not base.with_suffix(".py").exists() and not (base / "__init__.py").exists():
        raise FileNotFoundError(f"no module {module} under {Path.cwd()}")
    return _paths_if_ours(module)


def _is_ours(module: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in _PACKAGES)


def _paths_if_ours(module: str) -> tuple[Path, ...]:
    """The files that are loaded for a module of this package, looked for once."""
    if not _is_ours(module):
        return ()
    if module not in _found:
        base = Path(*module.split("."))
        candidates = [*(base.with_suffix(suffix) for suffix in _BESIDE), base / "__init__.py"]
        parents = [parent / "__init__.py" for parent in base.parents if _is_ours(".".join(parent.parts))]
        _found[module] = tuple(path for path in (*candidates, *parents) if path.exists())
    return _found[module]
