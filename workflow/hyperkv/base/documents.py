"""Texts that a user writes, YAML and JSON, and what holds for every value in one, so that nothing in it runs as something else.

A value is not nested too deep, no alias makes it larger than it was written to be, its numbers are finite and fit into 64
bits, and its texts are printable.
"""

from __future__ import annotations

import errno
import json
import math
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError, printable

DEEPEST = 50  # levels of mappings and lists
MOST = 200_000  # values, those of an alias counted wherever it stands
LONGEST = 4096  # characters; Linux takes no longer path
LARGEST = 2**63 - 1
_MERGE = "tag:yaml.org,2002:merge"
_TAB = "a tab indents it; write blanks instead"


class Unreadable(ValueError):
    """A text that is no YAML or JSON, or a value that is not as the module says. The message is one line, what it is.

    told: what is wrong with it, as 'line 3: ...' where the line, from 1, is known. language: what it is not.
    """

    def __init__(self, told: str, line: int | None = None, language: str | None = None):
        self.told = printable(" ".join(told.split()))[:400]
        if line is not None:
            self.told = f"line {line}: {self.told}"
        super().__init__(f"not {language} ({self.told})" if language else self.told)


def refuse_endless(path: Path) -> None:
    """Raise OSError for what is there and neither a file nor a folder: a pipe or a device may be read for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))


def text_in(content: bytes) -> str:
    """The text of a file. Raises Unreadable when it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(
            "bytes that are not UTF-8", content.count(b"\n", 0, error.start) + 1, "text"
        ) from None


def from_yaml(text: str) -> Any:
    """What a YAML text says, in which a key stands once. Raises Unreadable."""
    try:
        return yaml.load(text, _BoundedLoader)
    except Unreadable:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        context = f" ({error.context})" if error.context else ""
        told = _TAB if _tab_in(text, line) else f"{error.problem}{context}"
        raise Unreadable(told, line, "YAML") from None
    except yaml.reader.ReaderError as error:
        told, line = (
            f"it has the character U+{error.character:04X}, which is not text",
            text.count("\n", 0, error.position) + 1,
        )
        raise Unreadable(told, line, "YAML") from None
    except Exception as error:  # a constructor raises what it likes for a text such as `!!bool x`
        raise Unreadable(str(error) or type(error).__name__, language="YAML") from None


def from_json(text: str) -> Any:
    """What a JSON text says. Raises Unreadable."""
    try:
        return json.loads(text)
    except RecursionError:
        raise Unreadable(_too_deep()) from None
    except ValueError as error:
        raise Unreadable(str(error), language="JSON") from None


def check_values(value: Any, where: str = "config", lines: bool = False, largest: int = LARGEST) -> None:
    """Raise UserError, beginning with `where` and naming the key, for what the module does not let in, at any depth.

    lines: whether texts may have several lines and be of any length, as descriptions in a file of its own.
    """
    if isinstance(value, Mapping | list):
        try:
            _require_bounded(value, _parts)
        except Unreadable as error:
            raise UserError(f"{where}: it is {error}") from None
    for path, part in _scalars(value, "", set()):
        wrong = _fault_of_text(part, lines) if isinstance(part, str) else _fault_of_number(part, largest)
        if wrong:
            raise UserError(f"{where}: {printable(path)[:200]}: {wrong}")


def check_keys(value: Any, path: str = "config") -> None:
    """Raise UserError for a key of a mapping that YAML did not read as text, such as an unquoted no."""
    if isinstance(value, list):
        for item in value:
            check_keys(item, path)
    if isinstance(value, Mapping):
        where = path if path != "config" else "config:"
        for key, item in value.items():
            if not isinstance(key, str):
                text = {True: "yes", False: "no", None: "null"}.get(key, key)
                raise UserError(
                    f'{where.removesuffix(":")}: the key {shown(key)} is not text; write it in quotes, such as "{text}"'
                )
            check_keys(item, f"{where} {key}" if path == "config" else f"{path}.{key}")


def shown(value: Any) -> str:
    """A value as it is written in YAML: true, null, 'text'."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, str | int | float | list | Mapping) else str(value)


def own_data(module: str) -> dict[str, Any]:
    """The data of a module of this package: the YAML file beside it, of its name, which counts as its code (sources.py).

    module: its __file__.
    """
    return data_in(Path(module).with_suffix(".yaml").read_bytes())


def data_in(text: bytes) -> Any:
    """What such a file says. Raises ValueError."""
    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _scalars(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """(path, value) of every key, text and number; what an alias repeats once."""
    if isinstance(value, str | int | float):
        yield path, value
    if not isinstance(value, Mapping | list) or id(value) in seen:
        return
    seen.add(id(value))
    pairs: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in pairs:
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(key, str):
            yield inner, key
        yield from _scalars(item, inner, seen)


def _fault_of_text(text: str, lines: bool) -> str | None:
    """What is wrong with a text, which is not repeated: it may be a password."""
    if not lines and len(text) > LONGEST:
        return f"{len(text):,} characters are too many; at most {LONGEST:,} are allowed"
    odd = next((c for c in text if not c.isprintable() and not (lines and c in "\n\t")), None)
    if odd is None:
        return None
    return f"it has a line break or another control character (U+{ord(odd):04X}); leave that out"


def _fault_of_number(number: float, largest: int) -> str | None:
    if isinstance(number, float) and not math.isfinite(number):
        word = ".nan" if math.isnan(number) else str(number).replace("inf", ".inf")
        return f"{word} is wrong; it must be a finite number"
    return None if abs(number) <= largest else f"the number is too large; at most {largest} is allowed"


class _BoundedLoader(yaml.SafeLoader):
    """YAML's safe loader, less documents that aliases or merge keys would blow up, and keys that stand twice.

    Keys that << brings along may be replaced.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self._level = 0
        self._seen: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) not in self._seen:
            self._seen.add(id(node))
            _refuse_equal_keys(node)
        super().flatten_mapping(node)

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._level += 1
        if self._level > DEEPEST:
            raise Unreadable(_too_deep())
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        _require_bounded(node, _node_parts)
        return node


def _node_parts(node: Any) -> Iterable[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _require_bounded(root: Any, parts: Callable[[Any], Iterable[Any]]) -> None:
    """Raise Unreadable for more than DEEPEST levels or MOST values; an alias's are looked at once and counted each time."""
    known: dict[int, tuple[int, int]] = {}  # height and size

    def measured(value: Any, level: int) -> tuple[int, int]:
        if id(value) not in known:
            if level > DEEPEST:
                raise Unreadable(_too_deep())
            found = [measured(part, level + 1) for part in parts(value)]
            height = 1 + max((height for height, _ in found), default=-1)
            known[id(value)] = height, 1 + sum(size for _, size in found)
        height, size = known[id(value)]
        if level + height > DEEPEST:
            raise Unreadable(_too_deep())
        if size > MOST:
            raise Unreadable(f"larger than {MOST:,} values, those of an alias (*) counted wherever it stands")
        return height, size

    measured(root, 0)


def _too_deep() -> str:
    return f"nested more than {DEEPEST} deep, or inside itself"


def _refuse_equal_keys(node: yaml.MappingNode) -> None:
    marks: dict[tuple[str, str], yaml.Mark] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        first = marks.setdefault((key.tag, key.value), key.start_mark)
        if first is not key.start_mark:
            told = f"the key {key.value} stands twice, first in line {first.line + 1}; leave one out"
            raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)


def _tab_in(text: str, line: int | None) -> bool:
    lines = text.splitlines()
    if line is None or not 0 < line <= len(lines):
        return False
    return "\t" in lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
