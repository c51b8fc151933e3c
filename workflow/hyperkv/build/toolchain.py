"""What compiles Kvrocks: which tools there are, what they are told, and what they say they are."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..machine.machine_code import instructions_of
from ..machine.probe import call
from .fetch_kvrocks import OTHER_SOURCES

_CMAKE_MIN = (3, 16)
_CMAKE_STRICT = (4, 0)
PACKAGES = {
    "cmake": ("cmake", "cmake"),
    "make": ("make", "make"),
    "autoconf": ("autoconf", "autoconf"),
    "git": ("git", "git"),
    "python3": ("python3", "python"),
}
_TELL_TARGET = ("-Q", "--help=target")


def environment(march: str) -> dict[str, Any]:
    """What compiled: compiler, cmake, march and what the compiler takes that to be, and the instructions that it may use,
    by Linux's names; None where it does not tell."""
    return {
        "compiler": first_line(compiler(), "--version"),
        "cmake": ".".join(map(str, cmake_version())),
        "march": march,
        "march_resolved": resolved_march(march),
        "instructions": instructions_of(_output(compiler(), *_flags(march).split(), *_TELL_TARGET) or ""),
    }


def cmake_options(march: str, dependencies: Mapping[str, Path], cmake: tuple[int, ...]) -> list[str]:
    """KEY=VALUE options of a release build for an instruction set.

    march: `native` or a -march name. dependencies: unpacked source of each by name; empty downloads them.
    RocksDB makes -march=native of PORTABLE=0 and -march=NAME of PORTABLE=NAME; PORTABLE=1 would turn its
    hardware CRC32C off. It uses carry-less multiplication, which the levels x86-64-v2 to v4 do not name although
    every such processor has it. CMake 4 refuses what several dependencies declare as their oldest version.
    """
    flags = _flags(march)
    options = [
        "CMAKE_BUILD_TYPE=Release",
        "ENABLE_LUAJIT=ON",
        "ENABLE_STATIC_LIBSTDCXX=ON",
        f"PORTABLE={0 if march == 'native' else march}",
        f"CMAKE_C_FLAGS={flags}",
        f"CMAKE_CXX_FLAGS={flags}",
    ]
    if cmake >= _CMAKE_STRICT:
        options.append("CMAKE_POLICY_VERSION_MINIMUM=3.5")
    if dependencies:
        options += [f"FETCHCONTENT_SOURCE_DIR_{name.upper()}={path}" for name, path in dependencies.items()]
        options.append("FETCHCONTENT_FULLY_DISCONNECTED=ON")
    return options


def check_tools() -> None:
    """Raises UserError, one line with all tools that are missing and where they come from."""
    missing = []
    if compiler() is None:
        missing.append("a C++ compiler (Debian: g++; conda: gxx)")
    for program, (debian, conda) in PACKAGES.items():
        if shutil.which(program) is None:
            least = f" >= {_CMAKE_MIN[0]}.{_CMAKE_MIN[1]}" if program == "cmake" else ""
            missing.append(f"{program}{least} (Debian: {debian}; conda: {conda})")
    if shutil.which("cmake") and cmake_version() < _CMAKE_MIN:
        version = ".".join(map(str, cmake_version()))
        missing.append(f"cmake >= 3.16, this one is {version} (Debian: cmake; conda, PyPI: cmake)")
    if missing:
        raise UserError(
            f"cannot build Kvrocks, missing: {', '.join(missing)}; install it or run with --sdm conda; {OTHER_SOURCES}"
        )


def compiler() -> str | None:
    """Path of the C++ compiler that CMake is going to take: $CXX, else the first of the usual names on PATH."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name))), None)


def cmake_version() -> tuple[int, ...]:
    """Version of the cmake on PATH; (0,) when there is none or it does not tell."""
    found = re.search(r"cmake version (\d+(?:\.\d+)*)", first_line("cmake", "--version") or "")
    return tuple(int(part) for part in found[1].split(".")) if found else (0,)


def resolved_march(march: str) -> str | None:
    """The instruction set that the compiler takes -march=`march` to be, such as znver3; None if it does not tell."""
    listing = _output(compiler(), f"-march={march}", *_TELL_TARGET) or ""
    found = re.search(r"^\s*-march=\s+(\S+)\s*$", listing, re.MULTILINE)
    return found[1] if found else None


def _flags(march: str) -> str:
    return f"-march={march}" + (" -mpclmul" if march.startswith("x86-64-v") else "")


def first_line(program: str | None, *arguments: str) -> str | None:
    """First line of a program's output; None when it fails or there is none."""
    lines = (_output(program, *arguments) or "").splitlines()
    return lines[0] if lines else None


def _output(program: str | None, *arguments: str) -> str | None:
    with contextlib.suppress(OSError):
        if program is not None and not (done := call([program, *arguments])).status:
            return done.text
    return None
