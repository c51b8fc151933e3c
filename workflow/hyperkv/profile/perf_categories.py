"""From `perf script` to where a server's CPU went: pure functions over its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..base.documents import own_data

CATEGORIES = (
    "memory_management",
    "copying",
    "socket_copy",
    "network",
    "file_and_block",
    "storage_engine",
    "server",
    "other_kernel",
)

_KERNEL = re.compile(
    r"^\[(kernel|guest\.kernel|unknown kernel)|\.ko(\.\w+)?$|^\[(?!unknown|vdso|heap|stack|anon)\w+\]$"
)
_FRAME = re.compile(r"^\s+[0-9a-f]+\s+(.*?)(?:\+0x[0-9a-f]+)?\s+\((.*)\)\s*$")

_LIBC = re.compile(r"/(libc|libpthread|ld-linux)[.\-]|vdso")


_DATA = own_data(__file__)


def _pattern(name: str) -> re.Pattern[str]:
    """What the data beside this module says of a kind of symbol."""
    ways = {"starts": "^(?:%s)", "begins": "^(?:__)?(?:%s)", "has": "%s"}
    return re.compile("|".join(way % word for key, way in ways.items() for word in _DATA[name].get(key, ())))


_KERNEL_COPY, _SOCKET = _pattern("kernel_copy"), _pattern("socket")
_MEMORY_KERNEL, _FILES_KERNEL = _pattern("memory_kernel"), _pattern("files_kernel")
_MEMORY_USER, _COPY_USER = _pattern("memory_user"), _pattern("copy_user")
_ENGINE_USER, _ENGINE_DSO = _pattern("engine_user"), _pattern("engine_dso")


@dataclass(frozen=True)
class Sample:
    """One sample: its weight (the event's period) and its frames, the innermost first, as (symbol, dso)."""

    weight: int
    frames: tuple[tuple[str, str], ...]


def samples(text: str) -> Iterator[Sample]:
    """The samples of `perf script -F period,event,ip,sym,dso`, in order. Lines that are not understood are left out."""
    weight, frames = None, []
    for line in [*text.splitlines(), ""]:
        if frame := _FRAME.match(line):
            frames.append((frame[1], frame[2]))
        elif found := re.match(r"^\s*(\d+)\s+[\w:\-/]+:\s*$", line):
            if weight is not None and frames:
                yield Sample(weight, tuple(frames))
            weight, frames = int(found[1]), []
        elif not line.strip():
            if weight is not None and frames:
                yield Sample(weight, tuple(frames))
            weight, frames = None, []


def user_only(text: str) -> bool:
    """Whether perf left the kernel out, as it does by itself for a user who may not sample it: events end in `:u`."""
    found = re.search(r"^\s*\d+\s+[\w:\-/]+?(?:[:/]([A-Za-z]*))?:\s*$", text, re.MULTILINE)
    return found is not None and "u" in (found[1] or "")


def shares(text: str) -> dict[str, float] | None:
    """Each category's share of the sampled time, in sum 1; None without a sample."""
    found = dict.fromkeys(CATEGORIES, 0)
    for sample in samples(text):
        found[category(sample.frames)] += sample.weight
    total = sum(found.values())
    return {name: weight / total for name, weight in found.items()} if total else None


def category(frames: Sequence[tuple[str, str]]) -> str:
    """Where a sample belongs: the innermost frame that some category knows decides.

    In the kernel only the kernel's frames are asked: what none of them tells is other_kernel. A copy in the kernel is
    the socket's when a frame around it is.
    """
    kernel = [symbol for symbol, dso in frames if _KERNEL.search(dso)]
    if kernel and _KERNEL.search(frames[0][1]):
        return _kernel_category(kernel)
    user = [(symbol, dso) for symbol, dso in frames if not _KERNEL.search(dso)]
    for symbol, dso in user:
        if _COPY_USER.search(symbol):
            return "copying"
        if _MEMORY_USER.search(symbol):
            return "memory_management"
        if _ENGINE_USER.search(symbol) or _ENGINE_DSO.search(dso):
            return "storage_engine"
        if not _LIBC.search(dso) and symbol != "[unknown]":
            return "server"
    return "server"


def _kernel_category(symbols: Sequence[str]) -> str:
    for index, symbol in enumerate(symbols):
        if _KERNEL_COPY.search(symbol):
            around = symbols[index + 1 :]
            return "socket_copy" if any(_SOCKET.search(name) for name in around) else "copying"
        if _MEMORY_KERNEL.search(symbol):
            return "memory_management"
        if _FILES_KERNEL.search(symbol):
            return "file_and_block"
        if _SOCKET.search(symbol):
            return "network"
    return "other_kernel"
