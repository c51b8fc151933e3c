"""What the cmake files of Kvrocks's source name as its dependencies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

BUILD_OPTIONS = {"ENABLE_LUAJIT": "ON"}
LIST_FILE = "CMakeLists.txt"
_COMMENT = re.compile(r"(?m)#.*$")
_COMMAND = re.compile(r'\b(\w+)\s*\(((?:[^()"]|"(?:[^"\\]|\\.)*"|\([^()]*\))*)\)')
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)')
_DECLARES = "fetchcontent_declare"
_HASH = re.compile(r"(?:URL_HASH\s+)?(MD5|SHA1|SHA224|SHA256|SHA384|SHA512)=([0-9a-fA-F]+)")
DIGITS = re.compile(r"\d+(?:\.\d+)+")
_PLATFORM = {
    "UNIX": True,
    "LINUX": True,
    "APPLE": False,
    "CMAKE_HOST_APPLE": False,
    "WIN32": False,
    "MSVC": False,
}
_TRUE, _FALSE = ("ON", "TRUE", "YES", "Y", "1"), ("OFF", "FALSE", "NO", "N", "0", "IGNORE", "NOTFOUND", "")


@dataclass(frozen=True)
class Dependency:
    """What a cmake file declares: name, version (a tag or commit), where it comes from, and its hash as CMake has it.

    needed: whether this build includes it; None where that hangs on something only CMake knows. archive: whether
    `url` is one, rather than a repository.
    """

    name: str
    version: str
    url: str
    digest: str | None = None
    needed: bool | None = True
    archive: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.url})"


def declared(tree: Path, options: Mapping[str, str] = BUILD_OPTIONS) -> list[Dependency]:
    """Dependencies that the cmake files of an unpacked source name, in the order in which they are included.

    options: -D of the build. Understands FetchContent_Declare and functions whose names begin so (name, then
    owner/repository and a tag, or a URL), include(), option(), set() of a switch, and if(), whose conditions of one
    known switch decide and whose others leave it open.
    """
    variables: dict[str, bool | None] = {
        **_PLATFORM,
        **{key: _switch(value) for key, value in options.items()},
    }
    found: dict[str, Dependency] = {}
    for item in _walk(tree, tree / LIST_FILE, True, variables, set(options), {Path(LIST_FILE)}):
        before = found.get(item.name)
        if before is None or before.needed is False:
            found[item.name] = item
    return list(found.values())


def _walk(
    tree: Path,
    file: Path,
    needed: bool | None,
    variables: dict[str, bool | None],
    given: set[str],
    seen: set[Path],
) -> Iterator[Dependency]:
    """Declarations of one cmake file and of those it includes. seen: files already walked, relative to the tree."""
    if not file.is_file():
        return
    stack: list[tuple[bool | None, bool | None]] = []  # of each if(): any branch so far, this branch
    for command, arguments in commands_of(file.read_text(errors="replace")):
        here = _all([needed, *(branch for _, branch in stack)])
        words = [quoted or plain for quoted, plain in _WORD.findall(arguments)]
        if command == "if":
            value = _condition(words, variables)
            stack.append((value, value))
        elif command in ("elseif", "else") and stack:
            before, _ = stack.pop()
            value = True if command == "else" else _condition(words, variables)
            stack.append((_any([before, value]), _all([_not(before), value])))
        elif command == "endif" and stack:
            stack.pop()
        elif command in ("option", "set") and len(words) >= 2 and words[0] not in given:
            value = _switch(words[-1] if command == "option" else words[1])
            if here is True and (command == "set" or words[0] not in variables):
                variables[words[0]] = value
            elif here is None and variables.get(words[0]) is not value:
                variables[words[0]] = None
        elif command == "include" and words:
            path = Path(words[0].replace("${PROJECT_SOURCE_DIR}/", "").replace("${CMAKE_SOURCE_DIR}/", ""))
            if path not in seen:
                yield from _walk(tree, tree / path, here, variables, given, seen | {path})
        elif command.startswith(_DECLARES) and words and "$" not in words[0]:
            yield _declaration(words, arguments, command, needed if file.name != LIST_FILE else here)


def _declaration(words: list[str], arguments: str, command: str, needed: bool | None) -> Dependency:
    digest = f"{found[1]}={found[2]}" if (found := _HASH.search(arguments)) else None
    keyed = dict(pairwise(words))
    name = words[0].lower()
    if "GIT_REPOSITORY" in keyed:
        return Dependency(
            name, keyed.get("GIT_TAG", "HEAD"), keyed["GIT_REPOSITORY"], None, needed, archive=False
        )
    if "URL" in keyed or (len(words) > 1 and "://" in words[1]):
        url = keyed.get("URL", words[1]).replace("${DEPS_FETCH_PROXY}", "")
        version = found[0] if (found := DIGITS.search(url.rpartition("/")[2])) else url.rpartition("/")[2]
        return Dependency(name, version, url, digest, needed)
    repository, version = (*words[1:3], "?", "?")[:2]
    suffix = "tar.gz" if "tar" in command.removeprefix(_DECLARES) else "zip"
    url = f"https://github.com/{repository}/archive/{version}.{suffix}"
    return Dependency(name, version, url, digest, needed)


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    for found in _COMMAND.finditer(_COMMENT.sub("", text)):
        yield found[1].lower(), found[2]


def _condition(words: Sequence[str], variables: Mapping[str, bool | None]) -> bool | None:
    if len(words) == 2 and words[0] == "NOT":
        return _not(_condition(words[1:], variables))
    if len(words) != 1:
        return None
    constant = _switch(words[0])
    return constant if constant is not None else variables.get(words[0])


def _switch(word: str) -> bool | None:
    word = word.upper()
    return True if word in _TRUE else False if word in _FALSE else None


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _all(values: Iterable[bool | None]) -> bool | None:
    values = list(values)
    return False if False in values else None if None in values else True


def _any(values: Iterable[bool | None]) -> bool | None:
    return _not(_all(_not(value) for value in values))
