"""Kvrocks's source is fetched, checked and compiled, and every failure is one line that names a way out."""

import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import eventually, hear_the_keyboard, refused
from tests.kvrocks_tree import (
    VERSION_PATCH,
    seen_by_x_py,
    write_dependencies,
    write_kvrocks,
    write_program,
    write_tarball,
    write_tools,
    write_tree,
)
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build import kvrocks_patches
from workflow.hyperkv.build.build_kvrocks import link_spec
from workflow.hyperkv.build.compile_kvrocks import build, build_spec, error_line, unpack
from workflow.hyperkv.build.fetch_kvrocks import fetch_source, fetch_spec, tree_digest
from workflow.hyperkv.build.kvrocks_patches import PATCHES, needs_of, patch_file
from workflow.hyperkv.build.kvrocks_program import (
    describe,
    install_program,
    link_program,
    parse_version,
    sha256_of,
)
from workflow.hyperkv.build.toolchain import check_tools, cmake_options
from workflow.hyperkv.config.models.kvrocks import DEFAULTS
from workflow.hyperkv.machine import download as fetch
from workflow.hyperkv.machine.processes import free_port

COMMIT = "1234567890abcdef1234567890abcdef12345678"
WAYS = ("conda", "binary", "path", "git", "deps_dir")
BASIC = ["CMAKE_BUILD_TYPE=Release", "ENABLE_LUAJIT=ON", "ENABLE_STATIC_LIBSTDCXX=ON"]


@pytest.fixture(autouse=True)
def tools(tmp_path, monkeypatch) -> Path:
    """A compiler and so on first on PATH; no proxy between a test and a closed port."""
    folder = write_tools(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("CXX", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def spec(tmp_path) -> dict[str, Any]:
    """A build of a release whose dependencies are there."""
    deps = write_dependencies(tmp_path / "deps")
    return {"source": "release", "url": "file:///v2.10.0.tar.gz", "deps_dir": str(deps), "march": "native"}


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "results" / "compiled" / "kvrocks"


@pytest.fixture
def made(tmp_path, out):
    """Builds by a spec from a tarball whose x.py behaves so: the build's record."""

    def make(spec: dict, behaviour: str = "", **words) -> dict[str, Any]:
        tarball = write_tarball(tmp_path / "kvrocks.tar.gz", *([behaviour] if behaviour else []), **words)
        build(spec, tarball, out, record_of(out), jobs=3)
        return json.loads(record_of(out).read_text())

    return make


def record_of(out: Path) -> Path:
    return out.with_name("kvrocks.json")


def one_line(caught: pytest.ExceptionInfo[UserError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


def repository(folder: Path) -> str:
    """Make a tree a repository with one commit: its hash."""
    git(folder, "init", "--quiet")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "tree")
    return git(folder, "rev-parse", "HEAD")


def members(tarball: Path) -> list[str]:
    """Files of a tarball, those apart that say its dependencies and its patches."""
    with tarfile.open(tarball) as tar:
        names = [member.name for member in tar if member.isfile()]
    return [name for name in names if not re.search(r"/cmake/|/src/cli/|/CMakeLists\.txt$", name)]


def comment(tarball: Path) -> str | None:
    with tarfile.open(tarball) as tar:
        return tar.pax_headers.get("comment")


@pytest.fixture
def patches(tmp_path, monkeypatch) -> Path:
    """The folder of patches, with one that changes the version."""
    folder = tmp_path / "patches"
    folder.mkdir()
    monkeypatch.setattr(kvrocks_patches, "PATCHES", folder)
    (folder / "other-version.patch").write_text(VERSION_PATCH)
    return folder


def patched(spec, *names: str) -> dict:
    """What the rule passes for a config with these patches."""
    kvrocks = {**spec, "sha256": "0" * 64, "patches": list(names)}
    return {**spec, "patches": json.loads(build_spec(kvrocks, "release", patched=True))["patches"]}


def test_patches_are_applied_and_recorded(made, spec, patches, tmp_path, out):
    repository(tmp_path)  # as the results folder lies in the repository of the workflow
    names = ["other-version"]
    record = made(patched(spec, *names))
    assert record["version"] == describe(out)["version"] == "2.10.9"
    digest = sha256_of(patches / "other-version.patch")
    assert record["patches"] == [{"name": "other-version", "sha256": digest}]


def test_a_patch_that_does_not_apply_is_one_line_before_anything_is_compiled(made, spec, patches, out):
    (patches / "other-version-again.patch").write_text(VERSION_PATCH)
    spec = patched(spec, "other-version", "other-version-again")
    with pytest.raises(UserError) as caught:
        made(spec)
    assert re.match(
        r"kvrocks\.patches: other-version-again does not apply to this source of Kvrocks \(error: patch failed: version:1\)",
        one_line(caught),
    )
    assert not out.exists()


def test_a_patch_that_is_not_there_or_changed(made, spec, patches):
    with pytest.raises(UserError, match=r"there is no .*/nothing\.patch; .*patches has other-version$"):
        patched(spec, "nothing")
    planned = patched(spec, "other-version")
    (patches / "other-version.patch").write_text(VERSION_PATCH + "\n")
    with pytest.raises(UserError, match="has changed since this run began"):
        made(planned)


def test_the_patches_of_this_repository_say_what_they_change_and_what_they_apply_to():
    """Those that check less, or that only a bound needs, are asked for by name."""
    names = sorted(path.stem for path in PATCHES.glob("*.patch"))
    assert sorted([*DEFAULTS["patches"], "values-from-files", "locate-values", "compaction-by-keys"]) == names
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (PATCHES / "README.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    columns = next(row for row in rows if row[0] == "source")[1:]
    default = next(row for row in rows if row[0].startswith(f"v{DEFAULTS['version']} "))[1:]
    assert sorted(columns) == [f"`{name}`" for name in names]
    assert {cell.split(";")[0] for cell in default} == {"applies"}
    for name in names:
        assert not patch_file(name).read_text().startswith("diff --git "), "what it changes"
        assert set(needs_of(name)) <= {*names} - {name}


def test_a_build_leaves_a_program_and_its_record(spec, tmp_path, out, capfd):
    repository(write_tree(tmp_path))
    tarball = write_tarball(tmp_path / "kvrocks.tar.gz", commit=COMMIT)
    build(spec, tarball, out, record_of(out), jobs=3)
    record = json.loads(record_of(out).read_text())
    described = {"version": "2.10.0", "commit": "abc1234", "sha256": sha256_of(out), "needs": None}
    assert describe(out) == described
    seen = seen_by_x_py(out)
    flags = ["PORTABLE=0", "CMAKE_C_FLAGS=-march=native", "CMAKE_CXX_FLAGS=-march=native"]
    copies = out.parents[1] / "kvrocks-work" / "deps"
    sources = [
        f"FETCHCONTENT_SOURCE_DIR_{name.upper()}={copies}/{name}"
        for name in ("jemalloc", "rocksdb", "luajit")
    ]
    assert seen["options"] == [*BASIC, *flags, *sources, "FETCHCONTENT_FULLY_DISCONNECTED=ON"]
    assert seen["jobs"] == 3
    assert {"jemalloc-build", "luajit-build"} <= set(seen["made"])
    assert seen["git"] == "", "the commit of a repository around the build is not Kvrocks's"
    seconds, built_at = record.pop("seconds"), record.pop("built_at")
    assert 0 < seconds < 60
    assert built_at.endswith("+00:00")
    assert record == {
        "source": "release",
        "url": "file:///v2.10.0.tar.gz",
        "tarball_sha256": sha256_of(tarball),
        "version": "2.10.0",
        "commit": COMMIT,
        "program_sha256": sha256_of(out),
        "compiler": "c++ (Test) 12.2.0",
        "cmake": "3.25.1",
        "cmake_options": seen["options"],
        "march": "native",
        "march_resolved": "znver9",
        "instructions": ["avx2", "pclmulqdq"],
        "needs": None,
        "dependencies": {
            "jemalloc": "5.3.0",
            "rocksdb": "v9.6.1",
            "luajit": "c0a8e68325ec261a77bde1c8eabad398168ffe74",
            "span": "v0.11.0",
        },
        "jobs": 3,
    }
    assert sorted(path.name for path in out.parent.parent.rglob("*")) == [
        "compiled",
        "kvrocks",
        "kvrocks.json",
    ]
    terminal, log = capfd.readouterr()
    assert terminal.splitlines() == [f"hyperkv compile_kvrocks: {percent}%" for percent in (10, 40, 100)]
    assert "[  9%] Building CXX object\n" in log


def test_a_named_instruction_set_and_a_strict_cmake():
    flags = [
        "PORTABLE=x86-64-v3",
        "CMAKE_C_FLAGS=-march=x86-64-v3 -mpclmul",
        "CMAKE_CXX_FLAGS=-march=x86-64-v3 -mpclmul",
    ]
    assert cmake_options("x86-64-v3", {}, (3, 31, 6)) == [*BASIC, *flags]
    assert cmake_options("x86-64-v3", {}, (4, 0)) == [*BASIC, *flags, "CMAKE_POLICY_VERSION_MINIMUM=3.5"]


def test_a_failing_build_says_why_and_keeps_its_folder(made, spec, out):
    with pytest.raises(
        UserError,
        match=r"error: expected ';' before '}' token; see .*/kvrocks-work/build.log, .*/kvrocks-work is kept",
    ) as caught:
        made(spec, "fail")
    assert "status 1" in one_line(caught)
    assert not out.parent.exists()
    assert "Error 2" in (out.parents[1] / "kvrocks-work" / "build.log").read_text()
    made(spec)
    assert not (out.parents[1] / "kvrocks-work").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.cc:1: error: x\nmake: *** [all] Error 2\nRuntimeError: \nfailed to run: x", "a.cc:1: error: x"),
        (
            "CMake Error at x.cmake:3 (message):\n\n  no libstdc++\n-- Configuring incomplete, errors",
            "CMake Error at x.cmake:3 (message): no libstdc++",
        ),
        ("c++: fatal error: Killed signal\nmake: *** x", "c++: fatal error: Killed signal"),
        ("gmake: *** No rule\nexit with code: 2", "gmake: *** No rule"),
        ("something\nexit with code: 2", "something"),
        ("\n", "it wrote nothing"),
    ],
)
def test_the_line_that_says_why(text, expected):
    assert error_line(text.splitlines()) == expected


def test_all_that_is_missing_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="missing: ") as caught:
        check_tools()
    message = one_line(caught)
    packages = (
        "Debian: g++; conda: gxx",
        "cmake >= 3.16 (",
        "make (",
        "autoconf (",
        "git (",
        "python3 (",
    )
    assert [word for word in (*packages, *WAYS) if word not in message] == []


def test_an_old_cmake(tools):
    write_tools(tools, cmake="3.10.2")
    with refused(r"missing: cmake >= 3\.16, this one is 3\.10\.2 \(Debian: cmake"):
        check_tools()


def test_a_host_that_does_not_answer_stops_before_the_build(spec, tmp_path, out):
    tarball = write_tarball(tmp_path / "kvrocks.tar.gz")
    spec |= {"deps_dir": None}
    host = f"http://127.0.0.1:{free_port()}/"
    with pytest.raises(UserError, match="where its dependencies come from, does not answer") as caught:
        build(spec, tarball, out, record_of(out), 1, git_host=host)
    message = one_line(caught)
    assert [
        word
        for word in (host, "make kvrocks-deps", "deps_dir", "conda", "binary", "proxy")
        if word not in message
    ] == []
    assert "install" not in message
    assert not out.parents[1].exists()


def test_a_tarball_of_something_else(tmp_path):
    (tmp_path / "text").write_text("no tarball")
    with pytest.raises(UserError, match="is no readable tarball"):
        unpack(tmp_path / "text", tmp_path / "a")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "text", "top/README")
    with pytest.raises(UserError, match=r"has no x.py"):
        unpack(tmp_path / "other.tar.gz", tmp_path / "b")


def test_a_tarball_that_changed_after_the_check(made, spec):
    with pytest.raises(UserError, match=r"not kvrocks.sha256 000"):
        made(spec | {"sha256": "0" * 64})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interruption_ends_the_whole_build(number, spec, tmp_path, out):
    tarball = write_tarball(tmp_path / "kvrocks.tar.gz", "hang")
    log = out.parents[1] / "kvrocks-work" / "build.log"
    files = ["--source", str(tarball), "--out", str(out), "--record", str(record_of(out))]
    argv = ["-m", "workflow.hyperkv.build.compile_kvrocks", "--spec", json.dumps(spec), *files, "--jobs", "1"]
    child = None
    with subprocess.Popen(
        [sys.executable, *argv],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=hear_the_keyboard,
    ) as stage:
        try:
            assert eventually(lambda: log.exists() and "child" in log.read_text().split()[:-1])
            words = log.read_text().split()
            child = psutil.Process(int(words[words.index("child") + 1]))
            stage.send_signal(number)
            output, _ = stage.communicate(timeout=20)
            killed = number == signal.SIGKILL
            assert stage.returncode == (-number if killed else 130)
            assert killed or output.splitlines()[-1] == "hyperkv compile_kvrocks: interrupted; run again"
            assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        finally:
            stage.kill()
            if child and child.is_running():
                child.kill()
    assert not out.exists()


def fetched(spec: str, out: Path) -> Path:
    fetch_source(json.loads(spec), out)
    return out


def test_a_release_is_checked(tmp_path):
    tarball = write_tarball(tmp_path / "v.tar.gz")
    section = {"url": tarball.as_uri(), "sha256": sha256_of(tarball), "deps_dir": None, "march": "native"}
    out = fetched(fetch_spec(section, "release"), tmp_path / "out" / "kvrocks-source.tar.gz")
    assert out.read_bytes() == tarball.read_bytes()
    assert json.loads(build_spec(section, "release")) == section | {"source": "release"}
    for wrong, text in (
        ({"sha256": "0" * 64}, "does not match the known hash"),
        ({"url": "file:///nowhere"}, "cannot download"),
    ):
        with pytest.raises(UserError, match=text) as caught:
            fetched(fetch_spec(section | wrong, "release"), tmp_path / "wrong")
        assert [word for word in WAYS if word not in one_line(caught)] == []


def test_the_stage_ends_with_status_2_and_one_line(tmp_path):
    tarball = write_tarball(tmp_path / "v.tar.gz")
    spec = json.dumps({"source": "release", "url": tarball.as_uri(), "sha256": "0" * 64})
    command = [sys.executable, "-m", "workflow.hyperkv.build.fetch_kvrocks", "--spec", spec, "--out"]
    finished = subprocess.run(
        [*command, str(tmp_path / "out")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("hyperkv fetch_kvrocks: error: cannot download file://")
    assert finished.stderr.count("\n") == 1


def test_a_commit_is_packed_the_same_every_time(tmp_path):
    tree = write_tree(tmp_path / "tree")
    commit = repository(tree)
    (tree / "later").write_text("not in that commit")
    git(tree, "add", "-A")
    git(tree, "commit", "--quiet", "-m", "later")
    spec = fetch_spec({"git_url": tree.as_uri(), "commit": commit}, "git")
    first, second = (fetched(spec, tmp_path / name).read_bytes() for name in ("a.tar.gz", "b.tar.gz"))
    assert first == second
    folder = f"kvrocks-{commit[:12]}"
    assert members(tmp_path / "a.tar.gz") == [f"{folder}/{name}" for name in ("behaviour", "version", "x.py")]
    assert comment(tmp_path / "a.tar.gz") == commit
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "b.tar.gz", "tools", "tree"]


def test_what_git_cannot_give(tmp_path, monkeypatch):
    repository(write_tree(tmp_path / "tree"))
    url = (tmp_path / "tree").as_uri()
    out = tmp_path / "out"
    with refused(f"has no commit {COMMIT}"):
        fetched(fetch_spec({"git_url": url, "commit": COMMIT}, "git"), out)
    with refused(r"cannot fetch 1234567890ab from file:///nowhere: .*kvrocks.source"):
        fetched(fetch_spec({"git_url": "file:///nowhere", "commit": COMMIT}, "git"), out)
    with pytest.raises(UserError, match=r"kvrocks.commit: "):
        fetched(fetch_spec({"git_url": url, "commit": None}, "git"), out)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="needs git: install it"):
        fetched(fetch_spec({"git_url": url, "commit": COMMIT}, "git"), out)
    assert not out.exists()


def test_a_checkout_is_packed_by_its_contents(tmp_path):
    tree = write_tree(tmp_path / "tree")
    (tree / "src" / "link").symlink_to("../version")
    (tree / "src" / "twin").hardlink_to(tree / "version")
    commit = repository(tree)
    for name in ("build", "build-debug", "cmake-build-release"):
        write_program(tree / name / "kvrocks", "object code")
    spec = fetch_spec({"path": str(tree)}, "path")
    first = fetched(spec, tmp_path / "a.tar.gz")
    assert members(first) == [f"kvrocks/{name}" for name in ("behaviour", "src/twin", "version", "x.py")]
    assert comment(first) == commit
    for path in tree.rglob("*"):
        os.utime(path)
    assert fetch_spec({"path": str(tree)}, "path") == spec
    assert fetched(spec, tmp_path / "b.tar.gz").read_bytes() == first.read_bytes()
    unpacked, found = unpack(first, tmp_path / "unpacked")
    assert found == commit
    assert tree_digest(unpacked) == json.loads(spec)["digest"]
    (tree / "version").write_text("unstable\n")
    assert fetch_spec({"path": str(tree)}, "path") != spec
    assert comment(fetched(spec, tmp_path / "c.tar.gz")) == f"{commit}-dirty"
    assert gzip.decompress(first.read_bytes()) != gzip.decompress((tmp_path / "c.tar.gz").read_bytes())


def test_an_execute_bit_is_content(tmp_path):
    tree = write_tree(tmp_path / "tree")
    before = tree_digest(tree)
    (tree / "x.py").chmod(0o644)
    assert tree_digest(tree) != before


def test_no_checkout(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, text in (
        (None, "needs the checkout"),
        (str(tmp_path / "nowhere"), "there is no folder"),
        (str(tmp_path / "empty"), "has no x.py"),
    ):
        with refused(f"kvrocks.path: .*{text}"):
            fetched(fetch_spec({"path": path}, "path"), tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kvrocks version 2.10.0 (commit 5fccd57c)\n", ("2.10.0", "5fccd57c")),
        ("kvrocks version 2.10.0\n", ("2.10.0", None)),
        ("kvrocks unstable (commit 5fccd57c)\n", ("unstable", "5fccd57c")),
        ("kvrocks unstable\n", ("unstable", None)),
        ("redis-server v=7.0.15", None),
        ("", None),
    ],
)
def test_versions(text, expected):
    assert parse_version(text) == expected


def test_a_program_is_linked(tmp_path, monkeypatch):
    program, out, record = (
        write_kvrocks(tmp_path / "bin" / "kvrocks"),
        tmp_path / "a" / "kvrocks",
        tmp_path / "a.json",
    )
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for _ in range(2):
        link_program("kvrocks", out, record, "binary")
    assert out.readlink() == program
    assert json.loads(record.read_text()) == {
        "source": "binary",
        "program": str(program),
        "version": "2.10.0",
        "commit": "abc1234",
        "program_sha256": hashlib.sha256(program.read_bytes()).hexdigest(),
        "needs": None,
    }
    with pytest.raises(UserError, match="--sdm conda"):
        link_program("kvrocks", out, record, "conda")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path))
    link_program("kvrocks", out, record, "conda")
    with pytest.raises(UserError, match="the workflow itself makes"):
        link_program(str(out), out, record, "binary")


def test_a_program_that_is_no_kvrocks(tmp_path):
    out, record = tmp_path / "kvrocks", tmp_path / "kvrocks.json"
    redis = write_program(tmp_path / "redis", "#!/bin/sh\necho redis-server v=7\n")
    broken = write_program(tmp_path / "broken", "#!/bin/sh\necho no libc >&2; exit 127\n")
    crash = write_program(tmp_path / "crash", "#!/bin/sh\nkill -ILL $$\n")
    binary = write_program(tmp_path / "binary", "\x7fELF")
    (tmp_path / "text").write_text("text")
    for name, text in {
        str(redis): "said 'redis-server v=7'",
        str(broken): "status 127 and said 'no libc'",
        str(crash): r"SIGILL.*another CPU",
        str(binary): "does not start",
        str(tmp_path / "text"): "not executable",
        str(tmp_path / "nowhere"): "there is no program",
        "kvrocks-nowhere": "on PATH",
    }.items():
        with pytest.raises(UserError, match=text) as caught:
            link_program(name, out, record, "binary")
        assert "kvrocks.source: release, git or path" in one_line(caught)
    assert not out.exists()
    assert not record.exists()


def test_linking_depends_on_the_programs_contents(tmp_path):
    program = write_kvrocks(tmp_path / "kvrocks")
    before = link_spec({"binary": None}, "binary", str(program))
    os.utime(program, (1, 1))
    assert link_spec({"binary": str(program)}, "binary", None) == before
    write_kvrocks(program, "unstable")
    assert link_spec({"binary": None}, "binary", str(program)) != before
    assert json.loads(link_spec({"binary": None}, "conda", None)) == {"program": "kvrocks", "source": "conda"}
    asked = link_spec({"binary": None, "patched_binary": None}, "conda", None, patched=True)
    assert json.loads(asked)["patched"] is True


@pytest.mark.parametrize("source", ["conda", "binary"])
def test_a_source_that_builds_none_is_named(source):
    with pytest.raises(UserError, match=f"kvrocks.source: {source} builds none"):
        fetch_spec({"path": None}, source)


def test_a_cached_program_is_made_executable_and_must_match_its_record(tmp_path):
    compiled, out = write_kvrocks(tmp_path / "compiled"), tmp_path / "new" / "kvrocks"
    compiled.chmod(0o666)
    record = {"source": "release", "program_sha256": sha256_of(compiled)}
    (tmp_path / "compiled.json").write_text(json.dumps(record))
    install_program(compiled, out, record_of(out))
    assert describe(out)["version"] == "2.10.0"
    assert json.loads(record_of(out).read_text()) == record
    out.unlink()
    (tmp_path / "compiled.json").write_text(json.dumps(record | {"program_sha256": "0"}))
    with pytest.raises(UserError, match="is not the program its record describes"):
        install_program(compiled, out, record_of(out))
    assert [path.name for path in out.parent.iterdir()] == ["kvrocks.json"]


def test_a_patched_program_says_so_itself(made, spec, patches, tmp_path, out):
    made(patched(spec, "other-version"))
    digest = sha256_of(patches / "other-version.patch")
    carried = tmp_path / "carried" / "my-kvrocks"
    carried.parent.mkdir()
    carried.write_bytes(out.read_bytes() + b"# stripped, so that its digest is another\n")
    carried.chmod(0o755)
    linked, record = tmp_path / "linked" / "kvrocks", tmp_path / "linked" / "kvrocks.json"
    link_program(str(carried), linked, record, "binary", patched=True)
    assert json.loads(record.read_text())["patches"] == [{"name": "other-version", "sha256": digest}]
    with refused(r"is patched with other-version, .*kvrocks\.patched_binary"):
        link_program(str(carried), linked, record, "binary")


def test_an_older_patched_program_is_told_from_the_record_that_is_carried_with_it(tmp_path):
    program = write_kvrocks(tmp_path / "opt" / "kvrocks-2.10")
    linked, record = tmp_path / "linked" / "kvrocks", tmp_path / "linked" / "kvrocks.json"
    with pytest.raises(
        UserError, match=r"kvrocks\.patched_binary: .*does not say that it is patched"
    ) as caught:
        link_program(str(program), linked, record, "binary", patched=True)
    assert "make kvrocks-patched" in one_line(caught)
    built = {
        "patches": [{"name": "a", "sha256": "0"}],
        "march": "x86-64-v3",
        "program_sha256": sha256_of(program),
    }
    (program.parent / "kvrocks.json").write_text(json.dumps(built | {"program_sha256": "0"}))
    with pytest.raises(UserError, match="does not say that it is patched"):
        link_program(str(program), linked, record, "binary", patched=True)
    (program.parent / "kvrocks.json").write_text(json.dumps(built))
    link_program(str(program), linked, record, "binary", patched=True)
    found = json.loads(record.read_text())
    assert found["patches"] == built["patches"]
    assert found["built"] == {"march": "x86-64-v3"}


def test_instructions_that_this_cpu_lacks_stop_before_a_server_starts(tmp_path):
    compiled, out = write_kvrocks(tmp_path / "compiled"), tmp_path / "new" / "kvrocks"
    record = {"march_resolved": "znver9", "instructions": ["avx9999"], "program_sha256": sha256_of(compiled)}
    (tmp_path / "compiled.json").write_text(json.dumps(record))
    with pytest.raises(
        UserError, match=r"built for znver9 and may use avx9999, which this CPU lacks.*kvrocks.march"
    ):
        install_program(compiled, out, record_of(out))
    with pytest.raises(UserError, match="avx9999"):
        link_program(str(compiled), out, record_of(out), "binary")
    assert not out.exists()


def test_a_folder_of_dependencies_is_copied_and_may_be_read_only(made, spec):
    deps = Path(spec["deps_dir"])
    (deps / "jemalloc" / "link").symlink_to("README")
    for path in [*deps.rglob("*"), deps]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in [deps, *deps.rglob("*")]}
    digest = tree_digest(deps)
    made(spec)
    assert tree_digest(deps) == digest
    assert {
        path: (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in [deps, *deps.rglob("*")]
    } == before
    for path in deps.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)


def test_missing_dependencies_are_named_before_anything_is_compiled(made, spec, capfd):
    deps = Path(spec["deps_dir"])
    for name in ("rocksdb", "luajit"):
        (deps / name / "README").unlink()
        (deps / name).rmdir()
    with pytest.raises(UserError, match=r"lacks 2 of the 3 dependencies of this Kvrocks") as caught:
        made(spec)
    message = one_line(caught)
    assert "rocksdb v9.6.1 (https://github.com/facebook/rocksdb/archive/v9.6.1.zip)" in message
    assert "luajit c0a8e68325ec261a77bde1c8eabad398168ffe74 (https://" in message
    assert "Building" not in capfd.readouterr().err
    write_dependencies(deps, ("rocksdb", "luajit"))  # the remedy
    made(spec)


def test_another_version_of_a_dependency_is_said_and_recorded(made, spec, out, capfd):
    header = Path(spec["deps_dir"], "rocksdb", "include", "rocksdb", "version.h")
    header.parent.mkdir(parents=True)
    header.write_text("#define ROCKSDB_MAJOR 9\n#define ROCKSDB_MINOR 3\n#define ROCKSDB_PATCH 1\n")
    made(spec)
    warning = "hyperkv compile_kvrocks: warning: kvrocks.deps_dir: rocksdb is 9.3.1, not 9.6.1\n"
    terminal, log = capfd.readouterr()
    assert warning in terminal
    assert warning in log
    assert json.loads(record_of(out).read_text())["dependencies"]["rocksdb"] == "9.3.1"


@pytest.mark.parametrize(
    "url", ["--upload-pack=touch pwned", "-u", "file:///nowhere", "ssh://-oProxyCommand=touch%20pwned/x"]
)
def test_a_url_is_no_option_of_git(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot fetch 1234567890ab from"):
        fetch_source({"source": "git", "git_url": url, "commit": COMMIT}, tmp_path / "out")
    assert not list(tmp_path.rglob("pwned"))


def test_git_is_asked_again_only_when_that_may_help(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(fetch, "_FIRST_WAIT_S", 0)
    for said, attempts in (
        ("fatal: unable to access 'x': The requested URL returned error: 503", 3),
        ("error: RPC failed; curl 18 transfer closed with outstanding read data remaining", 3),
        ("fatal: unable to access 'x': Could not resolve host: nowhere.example", 1),
        ("fatal: unable to access 'x': The requested URL returned error: 404", 1),
        ("fatal: remote error: upload-pack: not our ref 1234", 1),
        ("fatal: Authentication failed for 'x'", 1),
    ):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        script = f'#!/bin/sh\ncase "$*" in *fetch*) echo x >> {calls}; echo "{said}" >&2; exit 128;; esac\n'
        write_program(tmp_path / "tools" / "git", script)
        with pytest.raises(UserError) as caught:
            fetch_source(
                {"source": "git", "git_url": "https://example.org/x", "commit": COMMIT}, tmp_path / "out"
            )
        assert len(calls.read_text().split()) == attempts, said
        assert ("tried 3 times" in one_line(caught)) == (attempts == 3)
