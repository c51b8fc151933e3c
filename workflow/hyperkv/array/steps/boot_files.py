"""/etc/fstab and mdadm.conf as their readers take them apart: entries with the lines that they stand on. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...base.errors import printable

_OCTAL = re.compile(r"\\([0-7]{3})")
_ESCAPED = re.compile(r"[ \t\n\\]")
_TAG = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL|ID)=(.*)", re.DOTALL)
_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'?|"[^"]*"?)+""")


@dataclass(frozen=True)
class FstabEntry:
    """A mount that fstab(5) lists, escapes resolved. lines: the numbers of its lines, from 1, so one here."""

    lines: tuple[int, ...]
    source: str
    target: str
    file_system: str
    options: tuple[str, ...]

    def tag(self, name: str) -> str | None:
        """The value of a source such as UUID=…, by its tag or by its link under /dev/disk; None for another source."""
        if (found := _TAG.fullmatch(self.source)) is not None and found[1] == name:
            return found[2].strip("\"'")
        folder = f"/dev/disk/by-{name.lower()}/"
        return self.source.removeprefix(folder) if self.source.startswith(folder) else None

    def option(self, name: str) -> str | None:
        """The value of `name=value` among the options."""
        return next((word.partition("=")[2] for word in self.options if word.startswith(f"{name}=")), None)

    def __str__(self) -> str:
        return printable(f"line {self.lines[0]} mounts {self.source} at {self.target}")


@dataclass(frozen=True)
class ArrayEntry:
    """An ARRAY of mdadm.conf(5). lines: numbers of its lines, from 1, those that continue it included.

    device: as written, '' without one. values: its other words by key in lower case.
    """

    lines: tuple[int, ...]
    device: str
    values: tuple[tuple[str, str], ...]

    def value(self, key: str) -> str | None:
        """The value of `key=value`."""
        return dict(self.values).get(key)

    def __str__(self) -> str:
        which = next(
            (word for key in ("uuid", "name", "devices") if (word := self.value(key))), "without a UUID"
        )
        return printable(f"line {self.lines[0]} calls the array {which} {self.device or 'nothing'}")


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends; only a line feed ends one."""
    return re.findall(r"[^\n]*\n|[^\n]+\Z", text)


def fstab_entries(text: str) -> list[FstabEntry]:
    """The entries in order. Source: fstab(5): fields apart by blanks and tabs, # starts a comment line, octal escapes."""
    found = []
    for number, line in enumerate(lines_of(text), 1):
        fields = [unescaped(field) for field in re.split("[ \t]+", line.strip(" \t\r\n"))]
        if len(fields) < 2 or fields[0].startswith("#"):
            continue
        source, target, kind, options = (*fields[:4], *("auto", "defaults")[len(fields) - 2 :])[:4]
        found.append(FstabEntry((number,), source, plain_path(target), kind, tuple(options.split(","))))
    return found


def unescaped(field: str) -> str:
    """A field of fstab with its octal escapes resolved."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)


def escaped(field: str) -> str:
    """A text as a field of fstab: blanks, tabs, line ends and backslashes as octal escapes."""
    return _ESCAPED.sub(lambda found: f"\\{ord(found[0]):03o}", field)


def plain_path(path: str) -> str:
    """An absolute path without doubled or trailing slashes, as mount and systemd compare them."""
    return re.sub("^/+", "/", posixpath.normpath(path)) if path.startswith("/") else path


def array_entries(text: str) -> list[ArrayEntry]:
    """The ARRAY entries in order. Source: mdadm.conf(5) and conf_word() of mdadm.

    A line that starts with white space continues the one before; a keyword may be cut to three letters.
    """
    found: list[tuple[list[int], list[str]]] = []
    for number, line in enumerate(lines_of(text), 1):
        words = list(_words(line))
        if not words:
            continue
        if line[0] in " \t" and found:
            found[-1][0].append(number)
            found[-1][1].extend(words)
        else:
            found.append(([number], words))
    return [_array_entry(numbers, words) for numbers, words in found if _is_array(words[0])]


def _words(line: str) -> Iterator[str]:
    for word in _WORD.findall(line):
        if word.startswith("#"):
            return
        yield word.replace("'", "").replace('"', "")


def _is_array(word: str) -> bool:
    return len(word) >= 3 and "array".startswith(word.lower())


def _array_entry(numbers: Sequence[int], words: Sequence[str]) -> ArrayEntry:
    device, values = "", []
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if word.startswith("/") or not equals:
            device = device or word
        else:
            values.append((key.lower(), value))
    return ArrayEntry(tuple(numbers), device, tuple(values))
