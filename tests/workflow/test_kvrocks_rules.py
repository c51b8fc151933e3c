"""The rules that build or link Kvrocks: `snakemake build_kvrocks` for every source, again only for a reason."""

import hashlib
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

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
from tests.workflow_helpers import TINY, Checkout, changed
from workflow.hyperkv.build.kvrocks_program import describe, sha256_of

pytestmark = pytest.mark.slow

PROGRAM = "results/build/kvrocks/kvrocks"
PATCHED_PROGRAM = "results/build/kvrocks-patched/kvrocks"
ALL = {"fetch_kvrocks", "compile_kvrocks", "build_kvrocks"}
PATCHED = {"compile_patched_kvrocks", "build_patched_kvrocks"}


@pytest.fixture(autouse=True)
def tools(tmp_path, monkeypatch) -> Path:
    """A compiler and so on first on PATH."""
    monkeypatch.setenv("PATH", f"{write_tools(tmp_path / 'tools')}:{os.environ['PATH']}")
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "tools"


def release(tarball: Path) -> dict[str, Any]:
    """The config section of a release whose dependencies are there."""
    deps = tarball.parent / "deps"
    if not deps.exists():
        write_dependencies(deps)
    return {"source": "release", "url": tarball.as_uri(), "sha256": sha256_of(tarball), "deps_dir": str(deps)}


def checkout_with(folder: Path, section: dict[str, Any]) -> Checkout:
    return Checkout.new(folder, changed(TINY, {"kvrocks": section}))


def built(checkout: Checkout, *options: str) -> str:
    """Run build_kvrocks, which must succeed: what it printed."""
    status, output = checkout.snakemake("build_kvrocks", *options)
    assert status == 0, output
    return output


def record(checkout: Checkout) -> dict[str, Any]:
    return json.loads((checkout / f"{PROGRAM}.json").read_text())


def errors(checkout: Checkout) -> list[str]:
    """Run build_kvrocks, which must fail: the lines in which a stage says why, each once."""
    status, output = checkout.snakemake("build_kvrocks")
    assert status == 1, output
    assert not (checkout / PROGRAM).exists()
    return list(dict.fromkeys(line for line in output.splitlines() if line.startswith("hyperkv ")))


def touch_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        if ".snakemake" not in path.parts:
            os.utime(path)


def test_a_release_is_built_once(tmp_path):
    tarball = write_tarball(tmp_path / "v2.10.0.tar.gz")
    checkout = checkout_with(tmp_path / "checkout", release(tarball))
    output = built(checkout)
    assert output.count("hyperkv compile_kvrocks: 100%") == 1
    made = f"HyperKV is done. Made: {PROGRAM}, {PROGRAM}.json"
    assert made in output
    assert "results/tables" not in output
    assert describe(checkout / PROGRAM)["version"] == "2.10.0"
    assert record(checkout)["program_sha256"] == sha256_of(checkout / PROGRAM)
    assert record(checkout)["tarball_sha256"] == sha256_of(tarball)
    assert seen_by_x_py(checkout / PROGRAM)["jobs"] == 2
    assert "FETCHCONTENT_FULLY_DISCONNECTED=ON" in record(checkout)["cmake_options"]
    assert not (checkout / "results/build/kvrocks-work").exists()
    with (checkout / "workflow/hyperkv/build/compile_kvrocks.py").open("a") as file:
        file.write("# an edit\n")
    touch_all(checkout.folder)
    assert checkout.planned("build_kvrocks") == set()
    checkout.configure(changed(TINY, {"kvrocks": release(tarball) | {"march": "x86-64-v3"}}))
    assert checkout.planned("build_kvrocks") == ALL - {"fetch_kvrocks"}


def test_a_wrong_checksum_and_a_failing_build(tmp_path):
    section = release(write_tarball(tmp_path / "v2.10.0.tar.gz", "fail"))
    checkout = checkout_with(tmp_path / "checkout", section | {"sha256": "0" * 64})
    [line] = errors(checkout)
    assert "does not match the known hash" in line
    _, output = checkout.snakemake("build_kvrocks")
    assert output.count("hyperkv fetch_kvrocks: error: ") == 1, "what stays wrong is not tried again"
    assert not (checkout / "results/build/kvrocks-source.tar.gz").exists()
    checkout.configure(changed(TINY, {"kvrocks": section}))
    *_, line = errors(checkout)
    assert line.startswith(
        "hyperkv compile_kvrocks: error: Kvrocks did not build (status 1): src/server.cc:7:3: error:"
    )
    assert "results/build/kvrocks-work is kept" in line
    assert (checkout / "results/build/kvrocks-work/build.log").exists()


def test_a_checkout_is_built_again_when_its_contents_change(tmp_path):
    tree = write_tree(tmp_path / "tree")
    deps = write_dependencies(tmp_path / "deps")
    section = {"source": "path", "path": str(tree), "deps_dir": str(deps)}
    checkout = checkout_with(tmp_path / "checkout", section)
    built(checkout)
    write_program(tree / "build" / "kvrocks", "somebody's build")
    touch_all(tree)
    assert checkout.planned("build_kvrocks") == set()
    (tree / "version").write_text("unstable\n")
    built(checkout)
    assert record(checkout)["version"] == describe(checkout / PROGRAM)["version"] == "unstable"
    assert record(checkout)["path"] == str(tree)


def test_a_program_is_linked_and_linked_again_after_an_upgrade(tmp_path):
    program = write_program(tmp_path / "kvrocks", "#!/bin/sh\necho redis-server v=7\n")
    checkout = checkout_with(tmp_path / "checkout", {"source": "binary", "binary": str(program)})
    [line] = errors(checkout)
    assert line.startswith(f"hyperkv build_kvrocks: error: {program} is not a Kvrocks")
    write_kvrocks(program)
    built(checkout)
    assert (checkout / PROGRAM).readlink() == program
    assert record(checkout)["version"] == "2.10.0"
    write_kvrocks(program, "version 2.11.0")
    assert checkout.planned("build_kvrocks") == {"build_kvrocks"}


def test_two_checkouts_with_a_cache_compile_once(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(cache))
    section = release(write_tarball(tmp_path / "v2.10.0.tar.gz"))
    first, second = (checkout_with(tmp_path / name, section) for name in ("first", "second"))
    assert "hyperkv compile_kvrocks: 100%" in built(first, "--cache")
    assert "hyperkv compile_kvrocks: 100%" not in built(second, "--cache")
    assert record(first) == record(second)
    for checkout in (first, second):
        assert not (checkout / PROGRAM).is_symlink()
        assert describe(checkout / PROGRAM)["version"] == "2.10.0"


def test_a_patched_program_is_one_more_and_only_for_who_asks(tmp_path):
    section = release(write_tarball(tmp_path / "v2.10.0.tar.gz")) | {"patches": ["other-version"]}
    kvrocks = {"tier": "ssd", "store": "kvrocks", "connector": "resp", "chunk_tokens": 16}
    scenarios = {"kv": kvrocks, "kv_patched": kvrocks | {"patched": True}}
    config = changed(TINY, {"kvrocks": section, "experiment.scenarios": ["none", "kv"]})
    config["scenarios"] |= scenarios
    checkout = Checkout.new(tmp_path / "checkout", config)
    (checkout / "workflow/patches/kvrocks/other-version.patch").write_text(VERSION_PATCH)
    assert {job.split()[0] for job in checkout.planned("sweep")} >= ALL
    assert not PATCHED & {job.split()[0] for job in checkout.planned("sweep")}
    config["experiment"]["scenarios"].append("kv_patched")
    checkout.configure(config)
    assert {job.split()[0] for job in checkout.planned("sweep")} >= ALL | PATCHED
    status, output = checkout.snakemake("build_kvrocks", "build_patched_kvrocks")
    assert status == 0, output
    assert describe(checkout / PROGRAM)["version"] == "2.10.0"
    assert describe(checkout / PATCHED_PROGRAM)["version"] == "2.10.9"
    with (checkout / "workflow/patches/kvrocks/other-version.patch").open("a") as file:
        file.write("\n")
    assert checkout.planned("build_kvrocks", "build_patched_kvrocks") == PATCHED


def test_both_programs_are_carried_and_linked(tmp_path):
    for name in ("c++", "g++", "gcc", "cc", "cmake", "make", "autoconf"):
        write_program(tmp_path / "tools" / name, "#!/bin/sh\necho no compiler here\nexit 1\n")
    stock, patched = (write_kvrocks(tmp_path / name) for name in ("stock", "patched"))
    kvrocks = {"tier": "ssd", "store": "kvrocks", "connector": "resp", "chunk_tokens": 16}
    section = {"source": "binary", "binary": str(stock), "patched_binary": str(patched)}
    config = changed(TINY, {"kvrocks": section, "experiment.scenarios": ["none", "kv", "kv_patched"]})
    config["scenarios"] |= {"kv": kvrocks, "kv_patched": kvrocks | {"patched": True}}
    checkout = Checkout.new(tmp_path / "checkout", config)
    jobs = {job.split()[0] for job in checkout.planned("sweep")}
    assert jobs >= {"build_kvrocks", "build_patched_kvrocks"}
    assert not jobs & {"fetch_kvrocks", "compile_kvrocks", "compile_patched_kvrocks"}
    status, output = checkout.snakemake("build_patched_kvrocks")
    assert status == 1
    assert (
        f"hyperkv build_kvrocks: error: kvrocks.patched_binary: {patched} does not say that it is patched"
        in output
    )
    with patched.open("a") as file:
        file.write('#hyperkv-patches: [{"name": "mine", "sha256": "0"}]\n')
    status, output = checkout.snakemake("build_kvrocks", "build_patched_kvrocks")
    assert status == 0, output
    assert (checkout / PROGRAM).readlink() == stock
    assert (checkout / PATCHED_PROGRAM).readlink() == patched
    assert json.loads((checkout / f"{PATCHED_PROGRAM}.json").read_text())["patches"] == [
        {"name": "mine", "sha256": "0"}
    ]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"path": "/tmp"}, "config: kvrocks.path: source release, which auto took, does not read it"),
        ({"version": "99.0.0"}, "config: kvrocks.sha256: none is known here for version 99.0.0"),
        ({"patches": ["values-from-files"]}, "needs large-transfers and fewer-copies before it"),
        ({"git_url": "--upload-pack=touch pwned"}, "kvrocks.git_url: '--upload-pack=touch pwned' is wrong"),
    ],
)
def test_a_wrong_section_stops_before_anything_runs(section, words, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/usr/bin:/bin")
    status, output = checkout_with(tmp_path / "checkout", section).snakemake("build_kvrocks", "--dry-run")
    assert status == 1
    assert words in output
    assert "Traceback" not in output


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not here")
def test_dependencies_are_fetched_and_carried_to_a_machine_without_internet(tmp_path):
    tree = write_tree(tmp_path / "tree-build")
    for name in ("jemalloc", "rocksdb", "luajit"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}-1/README", name)
        archived = tmp_path / f"{name}.zip"
        url, md5 = archived.as_uri(), hashlib.md5(archived.read_bytes()).hexdigest()
        text = f"include_guard()\nFetchContent_DeclareWithMirror({name}\n  {url}\n  MD5={md5}\n)\n"
        (tree / "cmake" / f"{name}.cmake").write_text(text)
    tarball = tmp_path / "v2.10.0.tar.gz"
    with tarfile.open(tarball, "w:gz") as tar:
        tar.add(tree, "kvrocks-2.10.0")
    (tmp_path / "tools" / "cmake").unlink()  # the real one unpacks
    section = {"source": "release", "url": tarball.as_uri(), "sha256": sha256_of(tarball)}
    checkout = checkout_with(tmp_path / "checkout", section)
    status, output = checkout.snakemake("fetch_kvrocks_dependencies")
    assert status == 0, output
    assert "HyperKV is done. Made: results/build/kvrocks-deps" in output
    built(checkout)  # which takes them by itself: a host of the name is never asked
    assert {option.partition("=")[0] for option in seen_by_x_py(checkout / PROGRAM)["options"]} > {
        "FETCHCONTENT_FULLY_DISCONNECTED",
        "FETCHCONTENT_SOURCE_DIR_ROCKSDB",
    }
    carried = tmp_path / "carried"
    (checkout / "results/build/kvrocks-deps").rename(carried)
    assert {"jemalloc", "luajit", "rocksdb"} <= {path.name for path in carried.iterdir()}
    (checkout / "results/build/kvrocks-source.tar.gz").rename(tmp_path / "carried.tar.gz")
    offline = section | {"url": (tmp_path / "carried.tar.gz").as_uri(), "deps_dir": str(carried)}
    checkout = checkout_with(tmp_path / "offline", offline)
    built(checkout)
    assert record(checkout)["dependencies"]["rocksdb"] == "rocksdb.zip"


def test_a_source_that_is_placed_by_hand_is_taken(tmp_path):
    tarball = write_tarball(tmp_path / "v2.10.0.tar.gz")
    section = release(tarball) | {"url": "file:///nowhere/v2.10.0.tar.gz"}
    checkout = checkout_with(tmp_path / "checkout", section)
    [line] = errors(checkout)
    assert "place the file at results/build/kvrocks-source.tar.gz yourself to go on" in line
    (checkout / "results/build").mkdir(exist_ok=True)
    shutil.copy(tarball, checkout / "results/build/kvrocks-source.tar.gz")
    built(checkout)
    assert record(checkout)["tarball_sha256"] == sha256_of(tarball)
