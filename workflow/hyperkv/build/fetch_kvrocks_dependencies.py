"""Kvrocks's dependencies: which ones its cmake files name, which of them a folder has, and how to fill such a folder.

python -m workflow.hyperkv.build.fetch_kvrocks_dependencies --source TARBALL [--into FOLDER]

Prints a line per dependency: name, version, URL. --into downloads and unpacks each into a folder of its name, for
kvrocks.deps_dir on a machine without internet.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..base.cli import run_stage
from ..base.errors import UserError
from ..machine.download import fetch

HOW_TO_FILL = (
    "on a machine with internet `make kvrocks-deps` fills results/build/kvrocks-deps: carry that here, and set "
    "kvrocks.deps_dir to it"
)
BUILD_OPTIONS = {"ENABLE_LUAJIT": "ON"}
_LIST_FILE = "CMakeLists.txt"
_COMMENT = re.compile(r"(?m)#.*$")
_COMMAND = re.compile(r'\b(\w+)\s*\(((?:[^()"]|"(?:[^"\\]|\\.)*"|\([^()]*\))*)\)')
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)')
_DECLARES = "fetchcontent_declare"
_HASH = re.compile(r"(?:URL_HASH\s+)?(MD5|SHA1|SHA224|SHA256|SHA384|SHA512)=([0-9a-fA-F]+)")
_DIGITS = re.compile(r"\d+(?:\.\d+)+")
_PLATFORM = {
    "UNIX": True,
    "LINUX": True,
    "APPLE": False,
    "CMAKE_HOST_APPLE": False,
    "WIN32": False,
    "MSVC": False,
}
_TRUE, _FALSE = ("ON", "TRUE", "YES", "Y", "1"), ("OFF", "FALSE", "NO", "N", "0", "IGNORE", "NOTFOUND", "")
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
    "tbb": ("include/oneapi/tbb/version.h",),
    "xxhash": ("xxhash.h",),
    "zlib": ("zlib.h",),
    "zstd": ("lib/zstd.h",),
}


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


def main() -> None:
    """Parse the command line; print the dependencies, and fetch them when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.build.fetch_kvrocks_dependencies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--source", required=True, type=Path, help="tarball of Kvrocks's source, or its folder"
    )
    parser.add_argument("--into", type=Path, help="folder to fill")
    arguments = parser.parse_args()
    found = [item for item in dependencies_of(arguments.source) if item.needed is not False]
    for item in found:
        print(f"{item.name}\t{item.version}\t{item.url}", flush=True)
        if arguments.into and (item.archive or item.needed):
            fetch_dependency(item, arguments.into)


def dependencies_of(source: Path) -> list[Dependency]:
    """The declared dependencies of a tarball, or of a folder. Raises UserError."""
    if source.is_dir():
        return declared(source)
    with tempfile.TemporaryDirectory(prefix="kvrocks-cmake-") as scratch:
        try:
            with tarfile.open(source) as tar:
                wanted = [
                    member
                    for member in tar
                    if member.isfile()
                    and (member.name.endswith(".cmake") or member.name.count("/") == 1)
                    and (member.name.endswith((".cmake", _LIST_FILE)))
                ]
                tar.extractall(scratch, members=wanted, filter="data")
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{source} is no readable tarball: {error}; delete it and run again") from error
        folders = [path.parent for path in Path(scratch).glob(f"*/{_LIST_FILE}")]
        return declared(folders[0]) if folders else []


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
    for item in _walk(tree, tree / _LIST_FILE, True, variables, set(options), {Path(_LIST_FILE)}):
        before = found.get(item.name)
        if before is None or before.needed is False:
            found[item.name] = item
    return list(found.values())


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
    missing = [item for item in wanted if item.needed and not _is_tree(there.get(item.name))]
    if missing:
        hints = [hint for item in missing if (hint := _hint(folder, item))]
        raise UserError(
            f"kvrocks.deps_dir: {deps_dir} lacks {len(missing)} of the {sum(item.needed is True for item in wanted)} "
            f"dependencies of this Kvrocks: {_listed(missing)}; unpack each into a folder of that name"
            + "".join(f"; {hint}" for hint in hints)
            + f"; or {HOW_TO_FILL}"
        )
    names = [item.name for item in wanted if item.needed is not False]
    return {name: there[name] for name in names if _is_tree(there.get(name))}


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
    pinned = {item.name: digits[0] for item in wanted if (digits := _DIGITS.search(item.version))}
    return [
        f"{name} is {version}, not {pinned[name]}"
        for name, version in told.items()
        if name in pinned and _parts(version) != _parts(pinned[name])
    ]


def fetch_dependency(item: Dependency, into: Path) -> Path:
    """Download a dependency, check it, unpack it (by cmake, as a build does): its folder, which appears when it is whole.

    One that is there stays. Raises UserError.
    """
    folder = into / item.name
    if _is_tree(folder):
        return folder
    if not item.archive:
        raise UserError(
            f"{item.name} is declared as a repository: git clone {item.url}, check out {item.version}, and call the "
            f"folder {folder}"
        )
    if shutil.which("cmake") is None:
        raise UserError("unpacking needs cmake: install it (Debian, conda, PyPI: cmake)")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{item.name}-", dir=into) as scratch:
        archive, tree = Path(scratch, item.url.rpartition("/")[2]).absolute(), Path(scratch, "tree")
        algorithm, _, digest = (item.digest or "").partition("=")
        fetch(item.url, digest.lower() or None, archive, algorithm.lower() or "sha256")
        tree.mkdir()
        done = subprocess.run(
            ["cmake", "-E", "tar", "xf", str(archive)], cwd=tree, capture_output=True, text=True, timeout=600
        )
        if done.returncode:
            raise UserError(f"{item.url} is no readable archive: {done.stderr.strip()[-200:]}")
        entries = list(tree.iterdir())
        top = entries[0] if len(entries) == 1 and entries[0].is_dir() else tree
        shutil.rmtree(folder, ignore_errors=True)
        top.rename(folder)
    return folder


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
    for command, arguments in _commands(file.read_text(errors="replace")):
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
            yield _declaration(words, arguments, command, needed if file.name != _LIST_FILE else here)


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
        version = found[0] if (found := _DIGITS.search(url.rpartition("/")[2])) else url.rpartition("/")[2]
        return Dependency(name, version, url, digest, needed)
    repository, version = (*words[1:3], "?", "?")[:2]
    suffix = "tar.gz" if "tar" in command.removeprefix(_DECLARES) else "zip"
    url = f"https://github.com/{repository}/archive/{version}.{suffix}"
    return Dependency(name, version, url, digest, needed)


def _commands(text: str) -> Iterator[tuple[str, str]]:
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


def _is_tree(folder: Path | None) -> bool:
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
    list_file = folder / _LIST_FILE
    if list_file.is_file():
        for command, arguments in _commands(list_file.read_text(errors="replace")):
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
    kinds = ("MAJOR", "MINOR", "(?:PATCH|RELEASE)")
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


if __name__ == "__main__":
    sys.exit(run_stage("kvrocks_dependencies", main))
