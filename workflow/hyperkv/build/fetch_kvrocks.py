"""Stage fetch_kvrocks: one tarball of Kvrocks's source, with one folder at its top.

python -m workflow.hyperkv.build.fetch_kvrocks --spec JSON --out FILE

The tarball says which commit it holds, when that is known, in the header that `git get-tar-commit-id` reads.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.durable import appearing
from ..base.errors import PassingError, UserError
from ..base.options import Spec
from ..machine.download import attempted, fetch

ARCHIVE = "https://github.com/apache/kvrocks/archive/refs/tags/v{version}.tar.gz"
# As published: to 2.15.0 by conda-forge's recipe of kvrocks, 2.16.0 by Arch's.
SHA256 = {
    "2.10.0": "51f07d17bf2df0920fd9d6090266286ef426693d0b74e927584382f8b2b5f48a",
    "2.10.1": "1dc60ef0c9e92ce2d881ec16ecca14fa8ec057aba4e002098de6160bc2d1c03b",
    "2.11.0": "da99fd272971a088b0c81556b62a8f57c7a80d22c13f76718ac99ade9af1d03c",
    "2.11.1": "b5ea5305e2f6cfa38a7c16d19e28f0b16b40ad911366f85809b0413fb0964598",
    "2.12.0": "505ba8ad08d27944ae6aceccce8667b83d62d38876e10b3c6095838f84d9eb17",
    "2.12.1": "7fb95327532371d05a1293fc99fdb39d296ea4a9fa02425b8723a2cdaf062b9d",
    "2.13.0": "6153af397deeb56af98e78cdbe093727dc6c62040467381c92eb7d1b694d1177",
    "2.14.0": "6e578e82e0511d32eed70ce71d195eaa7bf6a7cf13ecd9ea65eb741a4f398f19",
    "2.15.0": "be9a74e95b6b13a262a2c5b7e80bb9f0b2086b101cc78c07dd0a7bd68304f489",
    "2.16.0": "066284fcaae2d1c60e8b75f1e94d9878fba6a75787f95b6b9c7b63be420dd2c3",
}
OTHER_SOURCES = (
    "other ways: kvrocks.source conda, binary, path or git; kvrocks.deps_dir on a machine without internet"
)
_KEYS = {"git": ("git_url", "commit"), "path": ("path",)}
_NO_SUCH_COMMIT = ("not our ref", "couldn't find remote ref", "unadvertised object", "bad object")
_MAY_PASS = re.compile(
    r"timed out|early EOF|reset by peer|hung up unexpectedly|unexpected disconnect|RPC failed|transfer closed|too slow|"
    r"Connection refused|error: (?:408|425|429|5\d\d)",
    re.IGNORECASE,
)
_STALLED = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60")


def main(*, spec: Spec, out: Path) -> None:
    """Fetch the source.

    Args:
        spec: JSON: source and its keys of the config.
    """
    fetch_source(spec, out)


def identity(kvrocks: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What names the source that is built: `source` and its own keys of the config section, of a release url and sha256. Raises UserError for a
    source that builds none, and for a release without a SHA-256."""
    if source == "release":
        return {"source": source, **tarball_of(kvrocks)}
    if source not in _KEYS:
        raise UserError(f"config: kvrocks.source: {source} builds none; set it to release, git or path")
    return {"source": source, **{key: kvrocks[key] for key in _KEYS[source]}}


def tarball_of(kvrocks: Mapping[str, Any]) -> dict[str, str]:
    """url and sha256 of the release that section `kvrocks` of the config asks for: its own keys, else those of its
    version. Raises UserError when the SHA-256 is neither given nor known."""
    url = kvrocks["url"] or ARCHIVE.format(version=kvrocks["version"])
    sha256 = kvrocks["sha256"] or SHA256.get(kvrocks["version"])
    if sha256 is None:
        raise UserError(
            f"config: kvrocks.sha256: none is known here for version {kvrocks['version']} (known: {', '.join(SHA256)}); "
            f"set it to that of {url}: `curl -L URL | sha256sum`, held against what a distribution's recipe of that "
            f"version says"
        )
    return {"url": url, "sha256": sha256}


def fetch_spec(kvrocks: Mapping[str, Any], source: str) -> str:
    """JSON of what the tarball depends on; for source path that includes the contents of the checkout."""
    spec = identity(kvrocks, source)
    if source == "path":
        spec["digest"] = tree_digest(_expanded(kvrocks["path"])) if kvrocks["path"] else None
    return json.dumps(spec, sort_keys=True)


def fetch_source(spec: Mapping[str, Any], out: Path) -> None:
    """Make the tarball of spec's source; `out` appears only when it is whole. Raises UserError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if spec["source"] == "release":
        try:
            fetch(spec["url"], spec["sha256"], out)
        except UserError as error:
            raise UserError(f"{error}; {OTHER_SOURCES}") from error
    elif spec["source"] == "git":
        _fetch_commit(spec["git_url"], spec["commit"], out)
    else:
        _pack_checkout(spec["path"], out)


def tree_digest(folder: Path) -> str | None:
    """SHA-256 of a checkout's names, contents and execute bits, .git and build folders apart; None without one."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for name in _files_of(folder):
        path = folder / name
        if path.is_symlink():
            kind, content = "link", os.readlink(path).encode()
        else:
            kind, content = ("program" if os.access(path, os.X_OK) else "file"), path.read_bytes()
        digest.update(f"{name}\0{kind}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _expanded(path: str) -> Path:
    return Path(path).expanduser()


def _fetch_commit(url: str, commit: str | None, out: Path) -> None:
    if not commit:
        raise UserError("kvrocks.commit: source git needs the commit to build, all 40 digits")
    if shutil.which("git") is None:
        raise UserError(f"kvrocks.source git needs git: install it (Debian, conda: git); {OTHER_SOURCES}")
    with tempfile.TemporaryDirectory(prefix="kvrocks-git-", dir=out.parent) as scratch:
        repository, archive = Path(scratch, "repository"), Path(scratch, "source.tar")
        _git("init", "--quiet", "--bare", str(repository))
        attempted(lambda: _fetch_into(repository, url, commit))
        prefix = f"--prefix=kvrocks-{commit[:12]}/"
        command = ["-C", str(repository), "-c", "tar.umask=0022", "archive", "--format=tar", prefix]
        _git(*command, "-o", str(archive.absolute()), commit)
        with archive.open("rb") as tar, _written(out) as sink:
            shutil.copyfileobj(tar, sink)


def _fetch_into(repository: Path, url: str, commit: str) -> None:
    """Fetch one commit. Raises PassingError when another attempt may help, else UserError."""
    options = [*_STALLED, "fetch", "--quiet", "--depth", "1", "--"]
    fetched = _run_git("-C", str(repository), *options, os.path.expanduser(url), commit)
    if not fetched.returncode:
        return
    said = (fetched.stderr.strip() or "it said nothing").splitlines()
    if any(text in line for line in said for text in _NO_SUCH_COMMIT):
        raise UserError(f"kvrocks.commit: {url} has no commit {commit}; give one that it has, all 40 digits")
    kind = PassingError if _MAY_PASS.search(fetched.stderr) else UserError
    raise kind(f"cannot fetch {commit[:12]} from {url}: {said[0]}; {OTHER_SOURCES}")


def _pack_checkout(path: str | None, out: Path) -> None:
    if not path:
        raise UserError("kvrocks.path: source path needs the checkout to build")
    folder = _expanded(path)
    if not folder.is_dir():
        raise UserError(f"kvrocks.path: there is no folder {path}; {OTHER_SOURCES}")
    if not (folder / "x.py").is_file():
        raise UserError(f"kvrocks.path: {path} has no x.py, so it is not a checkout of Kvrocks")
    commit = _commit_of(folder)
    header = {"comment": commit} if commit else {}
    with _written(out) as sink, tarfile.open(fileobj=sink, mode="w", pax_headers=header) as tar:
        for name in _files_of(folder):
            _add(tar, folder, name)


def _add(tar: tarfile.TarFile, folder: Path, name: str) -> None:
    """Add one file or symlink of a checkout without its owner and time."""
    path = folder / name
    member = tarfile.TarInfo(f"kvrocks/{name}")
    if path.is_symlink():
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
        tar.addfile(member)
        return
    member.size = path.stat().st_size
    member.mode = 0o755 if os.access(path, os.X_OK) else 0o644
    with path.open("rb") as file:
        tar.addfile(member, file)


def _commit_of(folder: Path) -> str | None:
    """The commit of a checkout, `-dirty` after it when tracked files differ; None where git does not tell."""
    if not (folder / ".git").exists() or shutil.which("git") is None:
        return None
    head = _run_git("-C", str(folder), "rev-parse", "HEAD")
    if head.returncode:
        return None
    changes = _run_git("-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return head.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")


def _files_of(folder: Path) -> list[str]:
    """Names, relative to the folder and sorted, of its files and symlinks, .git and build folders apart."""
    names = []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        top = here == folder
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in links and not (top and _is_left_out(name))]
        names += [
            str((here / name).relative_to(folder)) for name in files + links if not (top and name == ".git")
        ]
    return sorted(name for name in names if (folder / name).is_file() or (folder / name).is_symlink())


def _is_left_out(name: str) -> bool:
    return name == ".git" or name.startswith(("build", "cmake-build"))


@contextmanager
def _written(out: Path) -> Iterator[gzip.GzipFile]:
    """A gzip stream, the same bytes for the same content, that becomes `out` when the block ends well."""
    with appearing(out) as partial, partial.open("wb") as file:
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as sink:
            yield sink


def _git(*arguments: str) -> None:
    finished = _run_git(*arguments)
    if finished.returncode:
        raise UserError(
            f"git {' '.join(arguments[:3])} failed: {finished.stderr.strip()[-200:]}; {OTHER_SOURCES}"
        )


def _run_git(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes", **os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    return subprocess.run(
        ["git", *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )


if __name__ == "__main__":
    sys.exit(run_stage("fetch_kvrocks", main))
