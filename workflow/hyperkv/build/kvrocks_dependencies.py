"""A folder of Kvrocks's dependencies, kvrocks.deps_dir: what it has of those that are wanted, and which versions."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..base.errors import UserError
from .cmake_files import DIGITS, LIST_FILE, Dependency, commands_of

FETCHED = "kvrocks-deps"  # beside the tarball
MARK = "source.sha256"
HOW_TO_FILL = (
    "on a machine with internet `make kvrocks-deps` fills results/build/kvrocks-deps: carry that here, and set "
    "kvrocks.deps_dir to it"
)
# Where each says its version, when its CMakeLists.txt does not; luajit and trie are commits and say none.
_VERSION_FILES = {
    "fmt": ("include/fmt/base.h", "include/fmt/core.h"),
    "gtest": ("CMakeLists.txt",),
    "jemalloc": ("VERSION",),
    "jsoncons": ("include/jsoncons/config/version.hpp",),
    "libevent": ("configure.ac",),
    "lz4": ("lib/lz4.h",),
    "pegtl": ("include/tao/pegtl/version.hpp",),
    "rangev3": ("include/range/v3/version.hpp",),
    "rocksdb": ("include/rocksdb/version.h",),
    "spdlog": ("include/spdlog/version.h",),
    "tbb": ("include/oneapi/tbb/version.h",),
    "xxhash": ("xxhash.h",),
    "zlib": ("zlib.h", "zlib-ng.h.in"),
    "zstd": ("lib/zstd.h",),
}


def fetched_for(tarball: Path, sha256: str) -> str | None:
    """The folder that fetch_kvrocks_dependencies filled beside a tarball for its very bytes, if any."""
    mark = tarball.with_name(FETCHED) / MARK
    return str(mark.parent) if mark.is_file() and mark.read_text() == sha256 else None


def locate(deps_dir: str, wanted: Sequence[Dependency]) -> dict[str, Path]:
    """The folder of every dependency in deps_dir by its name. Raises UserError naming all that are missing, and how to
    get them.

    wanted: empty when the source does not tell its dependencies; then every folder counts.
    """
    folder = Path(deps_dir).expanduser().absolute()
    there = {path.name: path for path in sorted(folder.glob("*")) if path.is_dir()}
    if not there:
        named = f": {_listed(wanted)}" if wanted else " (rocksdb, jemalloc, ...)"
        raise UserError(
            f"kvrocks.deps_dir: {deps_dir} has no folders; it needs one unpacked source tree per dependency of "
            f"Kvrocks{named}; {HOW_TO_FILL}"
        )
    if not wanted:
        return there
    missing = [item for item in wanted if item.needed and not is_tree(there.get(item.name))]
    if missing:
        hints = [hint for item in missing if (hint := _hint(folder, item))]
        raise UserError(
            f"kvrocks.deps_dir: {deps_dir} lacks {len(missing)} of the {sum(item.needed is True for item in wanted)} "
            f"dependencies of this Kvrocks: {_listed(missing)}; unpack each into a folder of that name"
            + "".join(f"; {hint}" for hint in hints)
            + f"; or {HOW_TO_FILL}"
        )
    names = [item.name for item in wanted if item.needed is not False]
    return {name: there[name] for name in names if is_tree(there.get(name))}


def copied(found: Mapping[str, Path], into: Path) -> dict[str, Path]:
    """Copies of the dependencies' folders below `into`, writable: jemalloc, luajit, lz4 and zstd build in their source.

    Raises UserError when a folder cannot be read.
    """
    copies = {}
    for name, path in found.items():
        copies[name] = into / name
        try:
            shutil.copytree(path, copies[name], symlinks=True)
        except shutil.Error as error:
            source, _, why = error.args[0][0]
            raise UserError(
                f"kvrocks.deps_dir: {source} cannot be copied to {into}: {why}; make it readable, and room for its copy"
            ) from error
        for parent, folders, files in os.walk(copies[name]):
            for entry in (".", *folders, *files):
                target = Path(parent, entry)
                if not target.is_symlink():
                    target.chmod(stat.S_IMODE(target.stat().st_mode) | stat.S_IWUSR)
    return copies


def told_versions(found: Mapping[str, Path]) -> dict[str, str]:
    """The version that each folder's own files tell, by name; without those that tell none."""
    told = {name: _told_version(name, path) for name, path in found.items()}
    return {name: version for name, version in told.items() if version}


def unlike(wanted: Iterable[Dependency], told: Mapping[str, str]) -> list[str]:
    """What is not as the cmake files pin it: `rocksdb is 9.3.1, not 9.6.1`, a piece of text each."""
    pinned = {item.name: digits[0] for item in wanted if (digits := DIGITS.search(item.version))}
    return [
        f"{name} is {version}, not {pinned[name]}"
        for name, version in told.items()
        if name in pinned and _parts(version) != _parts(pinned[name])
    ]


def is_tree(folder: Path | None) -> bool:
    """Whether a folder holds a source: a file at its top."""
    return folder is not None and folder.is_dir() and any(path.is_file() for path in folder.iterdir())


def _hint(folder: Path, item: Dependency) -> str | None:
    """What in the folder may be meant for a dependency that is missing."""
    own = folder / item.name
    inner = [path.name for path in own.iterdir() if path.is_dir()] if own.is_dir() else []
    if len(inner) == 1:
        return f"{item.name} holds only the folder {inner[0]}, whose contents belong into {item.name}"
    known = {item.name.lower(), item.url.partition("/archive/")[0].rpartition("/")[2].lower()}
    for path in sorted(folder.iterdir()):
        if path != own and any(path.name.lower().startswith(name) for name in known):
            what = f"call it {item.name}" if path.is_dir() else f"unpack it as {item.name}"
            return f"{path.name} is there, {what}"
    return None


def _listed(items: Sequence[Dependency]) -> str:
    return ", ".join(str(item) for item in items if item.needed is not False)


def _told_version(name: str, folder: Path) -> str | None:
    list_file = folder / LIST_FILE
    if list_file.is_file():
        for command, arguments in commands_of(list_file.read_text(errors="replace")):
            if command == "project" and (found := re.search(r"\bVERSION\s+(\d+(?:\.\d+)+)", arguments)):
                return found[1]
    for file in _VERSION_FILES.get(name, ()):
        if (folder / file).is_file() and (
            version := _version_in((folder / file).read_text(errors="replace"))
        ):
            return version
    return None


def _version_in(text: str) -> str | None:
    """The version that a header, a list file or a VERSION file tells: as numbers apart, as text, or as fmt packs it."""
    kinds = ("MAJOR", "MINOR", "(?:PATCH|RELEASE|REVISION)")
    parts = [re.search(rf"(?:#\s*define\s+|set\s*\()\w*_{kind}\w*\s+(\d+)", text) for kind in kinds]
    if parts[0] and parts[1]:
        return ".".join(found[1] for found in parts if found)
    if packed := re.search(r"\bFMT_VERSION (\d+)(\d\d)(\d\d)\b", text):
        return ".".join(str(int(part)) for part in packed.groups())
    named = r'(?:\b\w+_VERSION"?[ (]*"?v?|AC_INIT\([^,]*,\s*\[?)(\d+(?:\.\d+)+)'
    found = re.search(named, text) or re.match(r"(\d+(?:\.\d+)+)", text)
    return found[1] if found else None


def _parts(version: str) -> list[int]:
    parts = [int(part) for part in version.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return parts
