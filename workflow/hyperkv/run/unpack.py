"""Put a pack together on a machine without internet, once it is known that it can be used there.

    python3 unpack.py [FOLDER]      FOLDER: a new one, hyperkv by default

It lies in the pack, needs nothing but Python's standard library, and reads with a Python that is too old for the workflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MANIFEST = "pack.json"
_BLOCK = 1 << 20
_LOOK = """
import sys; print('%d.%d' % sys.version_info[:2])
import venv, ensurepip; print('whole')
import os, sysconfig; print(*['headers'][:os.path.exists(sysconfig.get_path('include') + '/Python.h')])
"""
_OLDEST = (3, 11)  # of Python, that the workflow runs with


class Refusal(Exception):
    """Why nothing was unpacked, with the remedy, in one line."""


class Chain:
    """The parts one after the other, as a file to read from."""

    def __init__(self, parts: list[Path]):
        self._blocks = self._read(parts)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self._rest) < size:
            block = next(self._blocks, b"")
            if not block:
                break
            self._rest += block
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _read(self, parts: list[Path]) -> Iterator[bytes]:
        for part in parts:
            with part.open("rb") as file:
                yield from _blocks(file)


def main(pack: Path, words: list[str]) -> None:
    """Check this machine and the parts, and unpack. Raises Refusal."""
    folder = Path(words[0] if words else "hyperkv").absolute()
    manifest = read_manifest(pack)
    python = usable_python(manifest["python"], manifest["headers"])
    require_machine(manifest)
    require_programs(manifest["programs"])
    if os.path.lexists(str(folder)):
        raise Refusal(f"{folder} is there already: name a new folder, `python3 unpack.py FOLDER`")
    require_room(manifest, folder.parent)
    require_parts(pack, manifest["parts"])
    unpack([pack / name for name in manifest["parts"]], folder)
    own = "" if python == "python3" else f" PYTHON={python}"
    print(f"{folder} is there, of commit {manifest['commit'][:12]}. Now:")
    print(f"  cd {folder} && {manifest['command']}{own}")


def read_manifest(pack: Path) -> dict[str, Any]:
    """What the pack says of itself. Raises Refusal."""
    try:
        found: dict[str, Any] = json.loads((pack / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise Refusal(f"{pack / MANIFEST}: {error}; copy that file of the pack again") from None
    return found


def usable_python(wanted: str, headers: bool) -> str:
    """The command of a Python of this version that can make environments, with its headers if asked for. Raises Refusal."""
    said = {}
    names = ["python3", *(f"python3.{minor}" for minor in range(_OLDEST[1], 20)), sys.executable]
    for name in filter(shutil.which, filter(None, names)):
        looked = subprocess.run([name, "-c", _LOOK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        said[name] = looked.stdout.decode().split()
    of_it = {name: words[1:] for name, words in said.items() if words[:1] == [wanted]}
    whole = [name for name, words in of_it.items() if "whole" in words]
    ready = [name for name in whole if not headers or "headers" in of_it[name]]
    if ready:
        return ready[0]
    if whole:
        raise Refusal(
            f"{whole[0]} has no Python.h, with which Triton compiles for the GPU: install python{wanted}-dev (Debian)"
        )
    if of_it:
        raise Refusal(f"{min(of_it)} makes no environments: install python{wanted}-venv (Debian)")
    have = sorted({words[0] for words in said.values() if words}, key=_numbers)
    packed = [version for version in have if tuple(_numbers(version)) >= _OLDEST]
    again = f", or pack again by `make pack PYTHON=python{packed[0]}` and the same CONFIG" if packed else ""
    raise Refusal(
        f"the packages are for Python {wanted}, and here is {', '.join(have)}: install Python {wanted}{again}"
    )


def require_machine(manifest: dict[str, Any]) -> None:
    """Raises Refusal for another processor or an older C library than the packages need."""
    machine, needed = platform.machine(), manifest["glibc"]
    if machine != manifest["machine"]:
        raise Refusal(
            f"the packages are for {manifest['machine']}, and this is {machine}: pack on such a machine"
        )
    try:
        name, found = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError):
        name, found = "", ""
    if name != "glibc":
        raise Refusal("the packages need the GNU C library, which is not here: take a system that has it")
    if _numbers(found) < _numbers(needed):
        raise Refusal(
            f"the packages need the GNU C library {needed}, and here is {found}: pack on a system with {found} or older, "
            f"which gets packages for it"
        )


def require_programs(programs: dict[str, str]) -> None:
    """programs: Debian's package of each. Raises Refusal naming all that are missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        packages = sorted({programs[name] for name in missing})
        raise Refusal(f"missing: {', '.join(missing)}; install (Debian) {' '.join(packages)}")


def require_room(manifest: dict[str, Any], parent: Path) -> None:
    """Raises Refusal where files and environments do not fit; what is measured needs room of its own."""
    parent.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(str(parent)).free, manifest["room_bytes"]
    if free < needed:
        raise Refusal(
            f"{parent} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} are needed with the environments: name a folder "
            f"elsewhere, `python3 unpack.py FOLDER`"
        )


def require_parts(pack: Path, parts: dict[str, dict[str, Any]]) -> None:
    """Raises Refusal naming every part that is missing or not as it was packed."""
    sizes = {name: (pack / name).stat().st_size if (pack / name).is_file() else -1 for name in parts}
    wrong = [name for name, part in parts.items() if sizes[name] != part["bytes"]]
    wrong += [
        name for name, part in parts.items() if name not in wrong and sha256_of(pack / name) != part["sha256"]
    ]
    if wrong:
        raise Refusal(f"not as they were packed: {', '.join(sorted(wrong))}; copy them again")


def unpack(parts: list[Path], folder: Path) -> None:
    """The parts' files as a folder, which appears when it is whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(str(partial), ignore_errors=True)
    stream: Any = Chain(parts)
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(str(partial))
    os.replace(str(partial), str(folder))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(_BLOCK), b"")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    try:
        main(Path(__file__).resolve().parent, sys.argv[1:])
    except Refusal as why:
        sys.exit(f"hyperkv unpack: error: {why}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"hyperkv unpack: error: {where}{error.strerror or error}; mend that and run again")
