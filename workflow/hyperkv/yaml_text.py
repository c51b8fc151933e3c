"""YAML as people write it: what is wrong with a text is told with its line, and a key that stands twice is wrong."""

from __future__ import annotations

from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_TAB = "a tab indents it; write blanks instead"


class YamlFault(Exception):
    """What is wrong with a text, as 'line 3: ...' where that is known. line: from 1."""

    def __init__(self, words: str, line: int | None = None):
        super().__init__(words if line is None else f"line {line}: {words}")


class _Loader(yaml.SafeLoader):
    """The safe loader, which lets the last of equal keys win, but refusing them. Keys that << brings along may be replaced."""

    def __init__(self, text: str):
        super().__init__(text)
        self._seen: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) not in self._seen:
            self._seen.add(id(node))
            _refuse_equal_keys(node)
        super().flatten_mapping(node)


def parsed(text: str) -> Any:
    """The document of a YAML text. Raises YamlFault."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise YamlFault(_TAB if _tab_in(text, line) else _words(error), line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlFault(f"it has the character U+{error.character:04X}, which is not text", line) from None
    except (RecursionError, ValueError) as error:
        raise YamlFault(
            "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        ) from None


def decoded(content: bytes) -> str:
    """The text of a file. Raises YamlFault when it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlFault("bytes that are not UTF-8", content.count(b"\n", 0, error.start) + 1) from None


def _refuse_equal_keys(node: yaml.MappingNode) -> None:
    marks: dict[tuple[str, str], yaml.Mark] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        first = marks.setdefault((key.tag, key.value), key.start_mark)
        if first is not key.start_mark:
            told = f"the key {key.value} stands twice, first in line {first.line + 1}; leave one out"
            raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)


def _words(error: yaml.MarkedYAMLError) -> str:
    context = f" ({error.context})" if error.context else ""
    return " ".join(f"{error.problem}{context}".split())


def _tab_in(text: str, line: int | None) -> bool:
    lines = text.splitlines()
    if line is None or not 0 < line <= len(lines):
        return False
    return "\t" in lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
