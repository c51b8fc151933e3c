"""The patches of Kvrocks: which there are, what each needs, how they are applied, and how a program says it has them.

A patch's text before its first `diff --git` says what it changes; a line `Needs: NAME, NAME` in it names the patches that
must come before it. A folder named as a version holds patches as the source has needed them from that version on.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.digests import sha256_of
from ..base.errors import UserError

PATCHES = Path("workflow/patches/kvrocks")
MARKED_FILE = Path("src/cli/main.cc")
VERSION_FILE = Path("src/VERSION.txt")
_MARK = b"hyperkv-patches: "
_NEEDS = re.compile(r"^Needs:\s*(.+?)\s*$", re.MULTILINE)


def patch_file(name: str) -> Path:
    """A patch of Kvrocks's source by its name in the config. Raises UserError when there is none."""
    path = PATCHES / f"{name}.patch"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in PATCHES.glob("*.patch")))
        raise UserError(f"config: kvrocks.patches: there is no {path}; {PATCHES} has {there or 'none'}")
    return path


def planned(name: str) -> dict[str, Any]:
    """A patch as a spec has it: name, and files, the SHA-256 of each of its texts by its path below the folder of patches,
    the one for the newest sources first. Raises UserError when there is none."""
    oldest = patch_file(name)
    newer = sorted(
        PATCHES.glob(f"*/{oldest.name}"),
        key=lambda path: [int(part) for part in path.parent.name.split(".")],
        reverse=True,
    )
    return {
        "name": name,
        "files": {str(path.relative_to(PATCHES)): sha256_of(path) for path in [*newer, oldest]},
    }


def needs_of(name: str) -> list[str]:
    """Names of the patches that must be applied before one."""
    preamble = patch_file(name).read_text().partition("\ndiff --git ")[0]
    return [need for line in _NEEDS.findall(preamble) for need in re.split(r"[,\s]+", line) if need]


def check_patches(names: Sequence[str]) -> None:
    """Raises UserError, with the list that would do, when a patch is not there or what it needs does not come before it."""
    for position, name in enumerate(names):
        missing = [need for need in needs_of(name) if need not in names[:position]]
        if missing:
            raise UserError(
                f"config: kvrocks.patches: {name} needs {' and '.join(missing)} before it; "
                f"write patches: [{', '.join(ordered(names))}]"
            )


def ordered(names: Sequence[str]) -> list[str]:
    """The patches with all that they need, each after what it needs, else in the order that was given."""
    found: list[str] = []

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise UserError(f"{patch_file(name)}: it needs itself, by way of {', '.join(above)}")
        for need in needs_of(name):
            add(need, (*above, name))
        if name not in found:
            found.append(name)

    for name in names:
        add(name, ())
    return found


def apply_patches(tree: Path, patches: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Apply patches, as `planned` has them, to an unpacked source, in order, and let its program say so (`patches_in`):
    name and SHA-256 of each. Raises UserError naming one that does not apply."""
    applied = [
        {"name": patch["name"], "sha256": _apply(tree, patch["name"], patch["files"])} for patch in patches
    ]
    if applied:
        _mark(tree / MARKED_FILE, applied)
    return applied


def patches_in(program: Path) -> list[dict[str, str]]:
    """The patches (name, sha256) that a program says it was compiled with, stripped or not; none in a stock one."""
    if program.stat().st_size == 0:
        return []
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.search(re.escape(_MARK) + rb"(\[[^\0\n]*\])", content)
        text = found[1] if found else b"[]"
    try:
        return json.loads(text)
    except ValueError:
        return []


def _apply(tree: Path, name: str, files: Mapping[str, str]) -> str:
    """Apply the first of a patch's texts that fits the source: its SHA-256. git applies all of a text or nothing."""
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent.resolve())}
    faults = []
    for file, sha256 in files.items():
        path = (PATCHES / file).absolute()
        if sha256_of(path) != sha256:
            raise UserError(f"{path} has changed since this run began; run again")
        applied = subprocess.run(
            ["git", "apply", str(path)],
            cwd=tree,
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        if not applied.returncode:
            return sha256
        faults += (applied.stderr.strip() or "git said nothing").splitlines()[:1]
    raise UserError(
        f"kvrocks.patches: {name} does not apply to {_source(tree)} ({faults[0]}); take another source, or leave the "
        f"patch out"
    )


def _source(tree: Path) -> str:
    """An unpacked source, in words: with its version when it is a release."""
    file = tree / VERSION_FILE
    version = file.read_text().strip() if file.is_file() else ""
    return f"Kvrocks {version}" if version[:1].isdigit() else "this source of Kvrocks"


def _mark(file: Path, patches: Sequence[Mapping[str, str]]) -> None:
    """Append a constant to a source file that is linked whatever the options; a source without that file goes unmarked."""
    if not file.is_file():
        return
    text = _MARK.decode() + json.dumps(list(patches))
    with file.open("a") as sink:
        sink.write(
            f"\n__attribute__((used)) static const char hyperkv_patches[] =\n    {json.dumps(text)};\n"
        )
