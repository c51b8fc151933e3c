"""Stage fetch_kvrocks_dependencies: which ones the cmake files of a source name, and a folder of them.

python -m workflow.hyperkv.build.fetch_kvrocks_dependencies --source TARBALL [--into FOLDER]

Prints a line per dependency: name, version, URL. --into downloads and unpacks each into a folder of its name, for
kvrocks.deps_dir on a machine without internet. compile_kvrocks takes the folder beside a tarball by itself: a file in it says for which
tarball it was filled.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ..base.cli import run_stage
from ..base.digests import sha256_of
from ..base.errors import UserError
from ..machine.download import fetch
from .cmake_files import LIST_FILE, Dependency, declared
from .kvrocks_dependencies import MARK, is_tree


def main(*, source: Path, into: Path | None = None) -> None:
    """Print the dependencies, and fetch them when asked to.

    Args:
        source: tarball of Kvrocks's source, or its folder.
        into: folder to fill.
    """
    for item in dependencies_of(source):
        if item.needed is False:
            continue
        print(f"{item.name}\t{item.version}\t{item.url}", flush=True)
        if into and (item.archive or item.needed):
            fetch_dependency(item, into)
    if into and source.is_file():
        (into / MARK).write_text(sha256_of(source))


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
                    and (member.name.endswith((".cmake", LIST_FILE)))
                ]
                tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 has it
                tar.extractall(scratch, members=wanted)
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{source} is no readable tarball: {error}; delete it and run again") from error
        folders = [path.parent for path in Path(scratch).glob(f"*/{LIST_FILE}")]
        return declared(folders[0]) if folders else []


def fetch_dependency(item: Dependency, into: Path) -> Path:
    """Download a dependency, check it, unpack it (by cmake, as a build does): its folder, which appears when it is whole.

    One that is there stays. Raises UserError.
    """
    folder = into / item.name
    if is_tree(folder):
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


if __name__ == "__main__":
    sys.exit(run_stage("fetch_kvrocks_dependencies", main))
