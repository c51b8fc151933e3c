"""Stage compile_kvrocks: compile Kvrocks from a tarball of its source.

python -m workflow.hyperkv.build.compile_kvrocks --spec JSON --source TARBALL --out FILE --record FILE --jobs N

It works in a folder beside that of `out`, named <out>-work, which stays when the build fails. The folders of deps_dir, or of what
rule fetch_kvrocks_dependencies made, are copied into it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...plugin.lmcache_striped.deadline import Deadline
from ..base.cli import run_stage
from ..base.digests import sha256_of
from ..base.durable import appearing
from ..base.errors import UserError
from ..base.options import Spec
from ..base.threads import within
from ..machine.processes import OwnedProcess, describe_exit
from .cmake_files import declared
from .fetch_kvrocks import identity
from .kvrocks_dependencies import HOW_TO_FILL, copied, fetched_for, locate, told_versions, unlike
from .kvrocks_patches import apply_patches, check_patches, planned
from .kvrocks_program import describe
from .toolchain import check_tools, cmake_options, cmake_version, environment

GIT_HOST = "https://github.com"
_HOST_TIMEOUT_S = 10
_MADE_BEFORE_CMAKE = ("jemalloc-build", "luajit-build")
_PERCENT = re.compile(r"^\[ *(\d+)%\]")
_ERROR = re.compile(r"\b(?:fatal )?error: |undefined reference|No space left on device|Killed")
_MAYBE_ERROR = re.compile(r"error|\*\*\*", re.IGNORECASE)
_CMAKE_ERROR = "CMake Error"


def main(*, spec: Spec, source: Path, out: Path, record: Path, jobs: int) -> None:
    """Build the program.

    Args:
        spec: JSON: source, deps_dir, march, patches.
        source: tarball.
        out: the program.
        record: what was built, JSON.
    """
    build(spec, source, out, record, jobs)


def build_spec(kvrocks: Mapping[str, Any], source: str, patched: bool = False) -> str:
    """JSON of what the program depends on besides the tarball's contents. kvrocks: the config section.

    patched: with its patches, by name and contents. Raises UserError.
    """
    spec = identity(kvrocks, source) | {key: kvrocks[key] for key in ("deps_dir", "march")}
    if patched:
        check_patches(kvrocks["patches"])
        spec["patches"] = [planned(name) for name in kvrocks["patches"]]
    return json.dumps(spec, sort_keys=True)


def build(
    spec: Mapping[str, Any], source: Path, out: Path, record: Path, jobs: int, git_host: str = GIT_HOST
) -> None:
    """Compile the tarball `source` into the program `out` and describe it in `record`, both only at the end.

    git_host: where the dependencies come from, when no folder has them. Raises UserError.
    """
    started = time.monotonic()
    sha256 = _checked_sha256(source, spec)
    check_tools()
    deps_dir = spec["deps_dir"] or fetched_for(source, sha256)
    if deps_dir is None:
        check_host(git_host)
    scratch = out.absolute().parent.with_name(f"{out.name}-work")
    shutil.rmtree(scratch, ignore_errors=True)
    tree, commit = unpack(source, scratch / "source")
    patches = apply_patches(tree, spec.get("patches", []))
    folders, versions = find_dependencies(tree, deps_dir, scratch / "deps")
    options = cmake_options(spec["march"], folders, cmake_version())
    compiled = run_x_py(tree, scratch, options, jobs)
    described = describe(compiled)
    document = {
        **{
            key: value for key, value in spec.items() if key not in ("deps_dir", "march", "sha256", "patches")
        },
        **({"patches": patches} if patches else {}),
        "tarball_sha256": sha256,
        "version": described["version"],
        "commit": commit or described["commit"],
        "program_sha256": described["sha256"],
        **environment(spec["march"]),
        "needs": described["needs"],
        "dependencies": versions,
        "cmake_options": options,
        "jobs": jobs,
        "seconds": round(time.monotonic() - started, 1),
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with appearing(record) as partial_record, appearing(out) as partial:
        shutil.copyfile(compiled, partial)
        partial.chmod(0o755)
        partial_record.write_text(json.dumps(document, indent=2) + "\n")
    shutil.rmtree(scratch)


def find_dependencies(tree: Path, deps_dir: str | None, into: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Copies below `into` of the dependencies that deps_dir has, by name (none without deps_dir), and all versions by name.

    tree: the unpacked source, whose cmake files name them. A version that is not the pinned one is a warning.
    Raises UserError naming those that are missing.
    """
    wanted = [item for item in declared(tree) if item.needed is not False]
    versions = {item.name: item.version for item in wanted}
    if deps_dir is None:
        return {}, versions
    found = locate(deps_dir, wanted)
    told = told_versions(found)
    for difference in unlike(wanted, told):
        for stream in (sys.stdout, sys.stderr):
            print(
                f"hyperkv compile_kvrocks: warning: kvrocks.deps_dir: {difference}", file=stream, flush=True
            )
        versions[difference.partition(" ")[0]] = told[difference.partition(" ")[0]]
    return copied(found, into), versions


def check_host(git_host: str) -> None:
    """Raises UserError, with what helps on a machine without internet, when a URL does not answer."""
    if reason := unreachable(git_host):
        raise UserError(
            f"cannot build Kvrocks: {git_host}, where its dependencies come from, does not answer ({reason}); set "
            f"https_proxy if there is a proxy; without internet {HOW_TO_FILL}; other ways: kvrocks.source conda or binary"
        )


def unreachable(url: str) -> str:
    """Why a host does not answer within 10 s, through the environment's proxy if there is one; '' if it does."""
    try:
        asked = urllib.request.Request(url, method="HEAD")
        within(
            Deadline(_HOST_TIMEOUT_S), lambda: urllib.request.urlopen(asked, timeout=_HOST_TIMEOUT_S).close()
        )
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""


def unpack(tarball: Path, folder: Path) -> tuple[Path, str | None]:
    """Unpack a tarball with one folder at its top: that folder, and the commit in the header. Raises UserError."""
    folder.mkdir(parents=True)
    try:
        with tarfile.open(tarball) as tar:
            commit = tar.pax_headers.get("comment")
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(folder)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{tarball} is no readable tarball: {error}; delete it and run again") from error
    found = [path.parent for path in folder.glob("*/x.py")]
    if len(found) != 1:
        raise UserError(f"{tarball} has no x.py in one top folder, so it is not Kvrocks's source")
    return found[0], commit


def run_x_py(tree: Path, scratch: Path, options: Iterable[str], jobs: int) -> Path:
    """Run x.py in its own process group, its output line by line to stderr, progress to stdout: the program.

    Raises UserError with the line that says why when it fails.
    """
    build_dir, log = scratch / "build", scratch / "build.log"
    for name in _MADE_BEFORE_CMAKE:
        (build_dir / "_deps" / name).mkdir(parents=True)
    defines = [word for option in options for word in ("-D", option)]
    argv = [str(tree / "x.py"), "build", str(build_dir), f"-j{jobs}", *defines]
    env = {"GIT_CEILING_DIRECTORIES": str(scratch.resolve())}
    lines: list[str] = []
    with OwnedProcess(argv, log=log, label="the build of Kvrocks", env=env) as process:
        for line in with_progress(_followed(process)):
            print(line, file=sys.stderr, flush=True)
            lines.append(line)
        code = process.exit_code()
    program = build_dir / "kvrocks"
    if code or not program.is_file():
        how = describe_exit(code) if code else "status 0 and no program"
        raise UserError(
            f"Kvrocks did not build ({how}): {error_line(lines)}; see {log}, {scratch} is kept until the next build"
        )
    return program


def with_progress(lines: Iterable[str]) -> Iterator[str]:
    """Pass a build's lines through; print each 10 % that CMake reports to stdout."""
    shown = 0
    for line in lines:
        yield line
        if (found := _PERCENT.match(line)) and (percent := int(found[1]) // 10 * 10) > shown:
            shown = percent
            print(f"hyperkv compile_kvrocks: {shown}%", flush=True)


def error_line(lines: list[str]) -> str:
    """The last line of a build that says what failed; CMake's errors together with their explanation.

    x.py's own traceback, which follows every failure, says nothing and counts last.
    """
    text = [line.strip() for line in lines if line.strip()]
    for position in reversed(range(len(text))):
        if text[position].startswith(_CMAKE_ERROR):
            return " ".join(text[position : position + 2])
        if _ERROR.search(text[position]):
            return text[position]
    unhelpful = ("RuntimeError:", "failed to run:", "exit with code:", "error message:")
    rest = [line for line in text if not line.startswith(unhelpful)]
    likely = [line for line in rest if _MAYBE_ERROR.search(line)]
    return next(iter([*likely[-1:], *rest[-1:]]), "it wrote nothing")


def _followed(process: OwnedProcess) -> Iterator[str]:
    """Lines of a process's log as they come, until it has ended."""
    with process.log.open(errors="replace") as log:
        pending = ""
        while True:
            ended = process.exit_code() is not None
            while chunk := log.readline():
                pending += chunk
                if pending.endswith("\n"):
                    yield pending.rstrip("\n")
                    pending = ""
            if ended:
                break
            time.sleep(0.05)
        if pending:
            yield pending


def _checked_sha256(tarball: Path, spec: Mapping[str, Any]) -> str:
    found = sha256_of(tarball)
    if found != spec.get("sha256", found):
        raise UserError(
            f"{tarball} has SHA-256 {found}, not kvrocks.sha256 {spec['sha256']}; delete it and run again"
        )
    return found


if __name__ == "__main__":
    sys.exit(run_stage("compile_kvrocks", main))
