"""What a program needs of the machine that runs it: processor, loader, versions of libraries, instructions.

Read from its ELF headers (System V ABI, "Dynamic Linking"; Linux Standard Base, "Symbol Versioning"), without starting it.
"""

from __future__ import annotations

import os
import platform
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_MACHINES = {
    62: "x86_64",
    183: "aarch64",
    3: "i686",
    40: "armv7l",
    243: "riscv64",
    21: "ppc64le",
    22: "s390x",
}
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_STRINGS, _VERSIONS_NEEDED, _VERSIONS_COUNT = 5, 0x6FFFFFFE, 0x6FFFFFFF
_HOW = "build it here (kvrocks.source: release, git or path) or on a machine like this one"
# GCC's names of what a CPU may lack, and Linux's.
_INSTRUCTIONS = {
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "pclmul": "pclmulqdq",
    "aes": "aes",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "movbe": "movbe",
    "adx": "adx",
    "sha": "sha_ni",
    "gfni": "gfni",
    "vaes": "vaes",
    "vpclmulqdq": "vpclmulqdq",
    **{f"avx512{kind}": f"avx512{kind}" for kind in ("f", "bw", "cd", "dq", "vl", "ifma", "vbmi")},
    "avx512vnni": "avx512_vnni",
    "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512bitalg": "avx512_bitalg",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "amx-tile": "amx_tile",
}


@dataclass(frozen=True)
class Needs:
    """machine: as `uname -m` has it. loader: the interpreter's path. versions: the newest symbol
    version that is asked for, by its kind (GLIBC, GLIBCXX, ...)."""

    machine: str
    loader: str | None
    versions: dict[str, str]


def needs_of(program: Path) -> Needs | None:
    """What a program needs; None of what is no whole ELF file (a script). A file of 32 bits tells its processor only."""
    try:
        return _read(program)
    except (struct.error, StopIteration, OverflowError, ValueError):
        return None


def _read(program: Path) -> Needs | None:
    with program.open("rb") as file:
        data = file.read(64)
        if len(data) < 64 or data[:4] != b"\x7fELF" or data[5] != 1:
            return None
        machine = _MACHINES.get(int.from_bytes(data[18:20], "little"), "another processor")
        if data[4] != 2:
            return Needs(machine, None, {})
        offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
        whole = os.fstat(file.fileno()).st_size
        if offset > whole:
            return None
        file.seek(offset)
        table = file.read(size * count)
        segments = [struct.unpack_from("<IIQQQQQQ", table, number * size) for number in range(count)]

        def at(position: int, length: int) -> bytes:
            file.seek(min(position, whole))
            return file.read(min(length, whole))

        loaded = [
            (start, address, length) for kind, _, start, address, _, length, *_ in segments if kind == _LOAD
        ]
        loaders = [at(start, length) for kind, _, start, _, _, length, *_ in segments if kind == _INTERPRETER]
        dynamic = b"".join(
            at(start, length) for kind, _, start, _, _, length, *_ in segments if kind == _DYNAMIC
        )
        entries = struct.iter_unpack("<qQ", dynamic[: len(dynamic) // 16 * 16])
        tags = dict(reversed(list(entries)))

        def offset_of(address: int) -> int:
            return next(
                start + address - base for start, base, length in loaded if base <= address < base + length
            )

        if _STRINGS not in tags:
            return Needs(machine, _text(loaders[0]) if loaders else None, {})
        strings = offset_of(tags[_STRINGS])
        wanted = []
        if _VERSIONS_NEEDED in tags:
            position = offset_of(tags[_VERSIONS_NEEDED])
            for _ in range(tags.get(_VERSIONS_COUNT, 0)):
                _, of_library, _, first, following = struct.unpack("<HHIII", at(position, 16))
                inner = position + first
                for _ in range(of_library):
                    *_, name, step = struct.unpack("<IHHII", at(inner, 16))
                    wanted.append(_text(at(strings + name, 64)))
                    inner += step
                position += following
        return Needs(machine, _text(loaders[0]) if loaders else None, _newest(wanted))


def unmet(needs: Needs | None, machine: str | None = None, glibc: str | None = None) -> str | None:
    """Why a program cannot start on this machine, and what to do: a piece of text; None when it can, or that is not known.

    machine, glibc: this machine's, as `uname -m` and the C library tell them.
    """
    if needs is None:
        return None
    machine = platform.machine() if machine is None else machine
    glibc = glibc_version() if glibc is None else glibc
    if (
        machine in _MACHINES.values()
        and needs.machine != machine
        and (needs.machine, machine) != ("i686", "x86_64")
    ):
        return f"is built for {needs.machine}, this machine is {machine}: {_HOW}"
    if needs.loader and not Path(needs.loader).exists():
        return f"needs the loader {needs.loader}, which this machine lacks (its C library is another one): {_HOW}"
    wanted = needs.versions.get("GLIBC")
    if wanted and glibc and _numbers(wanted) > _numbers(glibc):
        return f"needs glibc {wanted}, this machine has {glibc}: {_HOW}"
    return None


def glibc_version() -> str | None:
    """This machine's glibc, such as 2.36; None where the C library is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        return None
    return version if name == "glibc" else None


def instructions_of(listing: str) -> list[str]:
    """What a compiler may use of a CPU, by Linux's names, from its answer to `-march=… -Q --help=target`."""
    enabled = set(re.findall(r"^\s*-m(\S+)\s+\[enabled\]", listing, re.MULTILINE))
    return sorted(linux for gcc, linux in _INSTRUCTIONS.items() if gcc in enabled)


def lacking(instructions: Iterable[str], cpuinfo: str | None = None) -> list[str]:
    """Those of the instructions that this machine's CPU lacks. cpuinfo: the text of /proc/cpuinfo."""
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return [name for name in instructions if name not in found[1].split()] if found else []


def _newest(names: Iterable[str]) -> dict[str, str]:
    newest: dict[str, str] = {}
    for name in names:
        kind, _, version = name.partition("_")
        if name == "GLIBC_ABI_DT_RELR":
            version = "2.36"
        if re.fullmatch(r"\d+(\.\d+)*", version) and _numbers(version) > _numbers(newest.get(kind, "0")):
            newest[kind] = version
    return dict(sorted(newest.items()))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode(errors="replace")
