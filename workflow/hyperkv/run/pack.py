"""Pack what a run takes from the internet, and this checkout, for a machine without: parts that unpack.py puts together there.

    python -m workflow.hyperkv.run.pack --config config/scenarios.yaml config/config.yaml config/gpu-box.yaml --out results/pack

`make pack` gets the files first (rule downloads).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import parse_wheel_filename

from ..base.cli import run_stage
from ..base.digests import canonical_digest, sha256_of
from ..base.errors import UserError, say
from ..base.options import Files
from ..build.build_striped import compiler
from ..build.toolchain import PACKAGES
from ..config.environments import OWN_ENVIRONMENT, environment_record
from ..connectors.registry import LIBRARY
from ..machine.machine_code import needs_of
from . import unpack
from .configuration import merged
from .stages import PAIRS, SOURCE, Stages

DEFAULTS = ("config/scenarios.yaml", "config/config.yaml")
WHEELS = "wheels"  # the folder that Makefile looks for
_MEGABYTE = 10**6
_BLOCK = 4096  # of a file's last block, what is not used
_TIME_S = 946_684_800  # of every file of a pack, 2000: none is newer than what was made of it
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_|manylinux(1|2010|2014)_")
_LEGACY = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}


class Parts(io.RawIOBase):
    """A file to write to that becomes files of at most `most` bytes in `folder`, with the size and SHA-256 of each."""

    def __init__(self, folder: Path, most: int):
        self.folder, self.most = folder, most
        self.told: dict[str, dict[str, Any]] = {}
        self._file: io.BufferedWriter | None = None
        self._digest = hashlib.sha256()
        self._left = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        while rest:
            if not self._left:
                self._finish()
                self._file, self._left = (self.folder / f"part-{len(self.told):03d}").open("wb"), self.most
            block, rest = rest[: self._left], rest[self._left :]
            assert self._file is not None
            self._file.write(block)
            self._digest.update(block)
            self._left -= len(block)
        return len(data)

    def close(self) -> None:
        self._finish()
        super().close()

    def _finish(self) -> None:
        if self._file is not None:
            size, name = self._file.tell(), Path(self._file.name).name
            self._file.close()
            self.told[name] = {"bytes": size, "sha256": self._digest.hexdigest()}
            self._file, self._digest, self._left = None, hashlib.sha256(), 0


def main(*, config: Files, part_mb: int = 1000, out: Path = Path("results/pack")) -> None:
    """Pack.

    Args:
        config: the configuration's files, in order.
        part_mb: megabytes of a part, at most.
        out: folder to make; one that holds the same stays.
    """
    if part_mb < 1:
        raise UserError(f"--part-mb {part_mb}: a part has at least 1 MB")
    configuration = merged(config, "CONFIG", "name the files that the run is to have")
    stages = Stages.of(configuration)
    downloads = list(map(Path, stages.downloads()))
    if missing := [str(path) for path in downloads if not path.exists()]:
        raise UserError(f"{', '.join(missing)}: not there; `make pack` gets what a pack holds")
    commit, tracked = _git("rev-parse", "HEAD").strip(), _tracked()
    texts = [*(("CONFIG", str(path)) for path in config), *named(configuration)]
    texts += [("kvrocks.binary", stages.kvrocks.binary or "")]  # of `auto`, what is on PATH here
    own, foreign = beside_git(texts, tracked)
    for key, path in foreign:
        if key == "CONFIG":
            raise UserError(
                f"CONFIG: {path}: name a file of this checkout, by its path in it; others are not packed"
            )
        say(f"not packed, and needed there at the same place: {key} {path}")
    files = [*tracked, *own]
    made_of = {
        "commit": commit,
        "config": list(map(str, config)),
        "files": {str(path): sha256_of(path) for path in files if path.is_file()},
        "downloads": {str(path): path.stat().st_mtime_ns for path in downloads},
        "part_mb": part_mb,
    }
    told = {"made_of": canonical_digest(made_of), "commit": commit}
    if not _is_whole(out, told["made_of"]):
        _write(out, files, downloads, part_mb * _MEGABYTE, told | needs(stages, downloads, own, config))
    _tell(out, own)


def named(section: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a configuration that may be a path, with its key; where something is measured is the other machine's."""
    for name, value in section.items():
        full = f"{key}.{name}".lstrip(".")
        if isinstance(value, Mapping):
            yield from named(value, full)
        elif name != "data_dir" and not full.startswith("array."):
            texts = value if isinstance(value, list) else [value]
            yield from ((full, text) for text in texts if isinstance(text, str))


def beside_git(
    texts: Iterable[tuple[str, str]], tracked: Sequence[Path]
) -> tuple[list[Path], list[tuple[str, Path]]]:
    """Of keys and paths that are there: the files and folders in this checkout that git does not track, a program's record
    too, and those that are elsewhere."""
    known = {each for path in tracked for each in (path, *path.parents)}
    inside: dict[Path, None] = {}
    outside: dict[Path, str] = {}
    for key, text in texts:
        path = Path(os.path.normpath(Path(text).expanduser())) if text else Path()
        if not (path.is_file() or path.is_dir()):
            continue
        if path.is_absolute() or path.parts[:1] == ("..",):
            outside.setdefault(path, key)
            continue
        for each in (path, path.with_name(f"{path.name}.json")) if path.name else ():
            if each.exists() and each not in known:
                inside[each] = None
    return list(inside), [(key, path) for path, key in outside.items()]


def needs(
    stages: Stages, downloads: Sequence[Path], own: Sequence[Path], config: Sequence[Path]
) -> dict[str, Any]:
    """What a pack asks of the machine that it is unpacked on. own: files beside git, of which some are programs."""
    tars = [path for path in downloads if path.suffix == ".tar"]
    asked = {"measure_scenario": stages.scenarios, "profile_store": [*stages.profiled, *stages.layered]}
    read = {path for stage, names in asked.items() for name in names for path in stages.files(stage, name)}
    # Triton compiles for the GPU what vLLM asks of it, with Python's headers.
    on_gpu = stages.config["vllm"]["device"] == "cuda" and bool(read & {*map(environment_record, PAIRS)})
    files = " ".join(str(path) for path in config[len(DEFAULTS) :])
    quoted = f' CONFIG="{files}"' if " " in files else f" CONFIG={files}" if files else ""
    programs = {"make": "make"}
    if on_gpu or str(LIBRARY) in read:
        programs |= {"cc": "gcc"}
    if Path(SOURCE) in downloads:
        programs |= {name: debian for name, (debian, _) in PACKAGES.items()} | {"c++": "g++"}
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "headers": on_gpu,
        "machine": platform.machine(),
        "glibc": oldest_glibc([name for tar in tars for name in _names(tar)], platform.libc_ver()[1], own),
        "programs": programs,
        # Environments, and while one is made the wheels once more; the pack's own bytes are added.
        "room_bytes": sum(map(_bytes_installed, tars)) + max(tar.stat().st_size for tar in tars),
        "command": f"make run{quoted}",
    }


def oldest_glibc(wheels: Sequence[str], here: str, programs: Sequence[Path] = ()) -> str:
    """The oldest C library that all wheels, by their names, and programs run with; `here` is that of what was compiled here."""
    asking = [needs_of(path) for path in programs if path.is_file()]
    asked = [each.versions["GLIBC"] for each in asking if each and "GLIBC" in each.versions]
    needed = [(2, 17), *map(_release, asked)]
    for name in wheels:
        platforms = {tag.platform for tag in parse_wheel_filename(name)[3]}
        many = [
            _LEGACY[found[3]] if found[3] else (int(found[1]), int(found[2]))
            for each in platforms
            if (found := _MANYLINUX.match(each))
        ]
        if many:
            needed.append(min(many))
        elif platforms != {"any"}:
            needed.append(_release(here))
    return "{}.{}".format(*max(needed))


def _release(version: str) -> tuple[int, int]:
    major, minor, *_ = version.split(".")
    return int(major), int(minor)


def xxhash_headers() -> list[Path]:
    """The headers that connector striped's client `native` is compiled with; none where they or a compiler are not here."""
    if (program := shutil.which(compiler())) is None:
        return []
    asked = subprocess.run(
        [program, "-M", "-x", "c", "-"],
        input="#include <xxhash.h>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return [Path(word) for word in asked.stdout.split() if Path(word).name.startswith("xxh")]


def _write(
    out: Path, files: Sequence[Path], downloads: Sequence[Path], most: int, told: dict[str, Any]
) -> None:
    """Write the parts, the manifest and unpack.py; `out` appears when it is whole."""
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    size, free = sum(map(_size, (*files, *downloads))), shutil.disk_usage(partial).free
    if free < size:
        raise UserError(
            f"{out} needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} are free; make room and run again"
        )
    say(f"packing {size / 1e9:.2f} GB")
    headers = xxhash_headers()
    parts = Parts(partial, most)
    with parts, tarfile.open(fileobj=parts, mode="w|", bufsize=_MEGABYTE) as archive:
        for path in downloads:
            if path.parent.name == OWN_ENVIRONMENT:
                _add_wheels(archive, path)
            else:
                archive.add(path, str(path), filter=_plain)
        for path in headers:
            archive.add(path, f"{WHEELS}/{path.name}", filter=_plain)
        for path in files:
            archive.add(path, str(path), filter=_plain)
        with tempfile.TemporaryDirectory() as clone:
            _git("clone", "--quiet", "--template=", "--depth=1", Path.cwd().as_uri(), clone)
            _git("-C", clone, "remote", "remove", "origin")
            archive.add(Path(clone, ".git"), ".git", filter=_plain)
    if not headers:
        say(
            "not packed, as it is not here (Debian: gcc, libxxhash-dev): xxhash.h, for scenarios with client native"
        )
    told["room_bytes"] += sum(part["bytes"] for part in parts.told.values())
    shutil.copyfile(unpack.__file__, partial / "unpack.py")
    (partial / unpack.MANIFEST).write_text(json.dumps(told | {"parts": parts.told}, indent=1) + "\n")
    os.replace(partial, out)


def _add_wheels(archive: tarfile.TarFile, tar: Path) -> None:
    with tarfile.open(tar) as wheels:
        for member in wheels:
            own = tarfile.TarInfo(f"{WHEELS}/{member.name}")  # a long name of `member` is in its headers, too
            own.size = member.size
            archive.addfile(_plain(own), wheels.extractfile(member))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Of nobody, and of one time."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = _TIME_S
    return member


def _tell(out: Path, own: Sequence[Path]) -> None:
    told = json.loads((out / unpack.MANIFEST).read_text())
    sizes = [part["bytes"] for part in told["parts"].values()]
    changed = _git("status", "--porcelain", "--untracked-files=no").strip()
    say(
        f"{out}: {sum(sizes) / 1e9:.2f} GB in {len(sizes)} part{'s' * (len(sizes) > 1)}, commit {told['commit'][:12]}"
    )
    for line in (["changes that are not committed"] if changed else []) + list(map(str, own)):
        say(f"{out}: with {line}")
    say(
        f"it needs Python {told['python']}{' with headers' * told['headers']}, {told['machine']}, the C library {told['glibc']} or newer, and "
        f"{told['room_bytes'] / 1e9:.1f} GB. There: python3 pack/unpack.py"
    )


def _is_whole(out: Path, made_of: str) -> bool:
    try:
        told = json.loads((out / unpack.MANIFEST).read_text())
        sizes = {name: (out / name).stat().st_size for name in told["parts"]}
    except (OSError, ValueError, KeyError):
        return False
    return told.get("made_of") == made_of and sizes == {
        name: part["bytes"] for name, part in told["parts"].items()
    }


def _bytes_installed(tar: Path) -> int:
    """Bytes on a disk of all files of the wheels in a tar, with the bytecode that pip makes, about as large as its source."""
    total = 0
    with tarfile.open(tar) as wheels:
        for member in wheels:
            with zipfile.ZipFile(wheels.extractfile(member)) as wheel:  # type: ignore[arg-type]
                for entry in wheel.infolist():
                    total += (entry.file_size + _BLOCK) * (1 + entry.filename.endswith(".py"))
    return total


def _names(tar: Path) -> list[str]:
    with tarfile.open(tar) as wheels:
        return wheels.getnames()


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())
    return path.lstat().st_size


def _tracked() -> list[Path]:
    """The files that git tracks and that are there."""
    names = filter(None, _git("ls-files", "-z").split("\0"))
    return [path for path in map(Path, names) if os.path.lexists(path)]


def _git(*words: str) -> str:
    """What git says. Raises UserError."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except OSError:
        raise UserError("a pack is of a commit, and git is not here; install it (Debian: git)") from None
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise UserError(
            f"a pack is of a commit, and git says here: {said}; pack in a clone of the repository"
        )
    return done.stdout


if __name__ == "__main__":
    sys.exit(run_stage("pack", main))
