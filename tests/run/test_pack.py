"""What a machine without internet needs, packed and put together there."""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow_helpers import TINY, Checkout, changed, merged
from workflow.hyperkv.build.kvrocks_dependencies import fetched_for
from workflow.hyperkv.machine.machine_code import Needs
from workflow.hyperkv.run import pack, unpack
from workflow.hyperkv.run.stages import Stages

SHIPPED = ("config", "scenarios")
OWN = "results/build/workflow/wheels.tar"
LONG = f"tiny-0.0.1-{'.'.join(f'cp3{minor}' for minor in range(11, 40))}-none-any.whl"  # longer than a tar's header
NATIVE = {"tier": "dram", "store": "valkey", "connector": "striped", "chunk_tokens": 64, "client": "native"}
HAS_GLIBC = "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")


def shipped(config: str, changes: Mapping[str, Any] | None = None) -> Stages:
    """What a shipped configuration asks for."""
    layers = [yaml.safe_load(Path(f"config/{name}.yaml").read_text()) for name in (*SHIPPED, config)]
    return Stages.of(changed(merged(*layers), changes or {}))


def wheel(folder: Path, name: str = LONG) -> Path:
    """A package `tiny`, with one module."""
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("tiny.py", "value = 1\n" * 100)
        info = "tiny-0.0.1.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 0.0.1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: cp311-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder / name


def git(folder: Path, *words: str) -> None:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Checkout:
    """A clone of the repository, with what `make pack` gets for a run without engine: one made-up package."""
    folder = tmp_path_factory.mktemp("clone") / "hyperkv"
    checkout = Checkout.new(folder, changed(TINY, {"data_dir": "/nowhere/disk"}))
    (folder / "requirements.txt").write_text("tiny==0.0.1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "rm", "--quiet", "--cached", "tiny.yaml")
    git(folder, "commit", "--quiet", "--message", "all")
    (folder / OWN).parent.mkdir(parents=True)
    with tarfile.open(folder / OWN, "w") as archive:
        archive.add(wheel(tmp_path_factory.mktemp("wheel")), LONG)
    return checkout


def output(words: list[object], folder: Path, **environment: str) -> tuple[int, str]:
    """A command's exit status and what it said, as at a terminal."""
    done = subprocess.run(
        list(map(str, words)),
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout


def packed(
    checkout: Checkout, *options: object, configs: tuple[str, ...] = ("tiny.yaml",)
) -> tuple[int, str]:
    """The command that `make pack` gives, in a clone."""
    module = [sys.executable, "-m", "workflow.hyperkv.run.pack"]
    return output([*module, "--config", *pack.DEFAULTS, *configs, *options], checkout.folder)


def unpacked(folder: Path, *words: object, **environment: str) -> tuple[int, str]:
    """The command on the machine without internet."""
    return output([sys.executable, folder / "unpack.py", *words], folder, **environment)


def without_network() -> list[str]:
    """What runs a command without any network, where this user may."""
    words = ["unshare", "--map-root-user", "--net"]
    with contextlib.suppress(OSError):
        if not subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
            return words
    return []


@pytest.mark.slow
def test_a_pack_is_put_together_and_the_workflows_environment_made_of_it_alone(clone, tmp_path):
    status, said = packed(clone, "--part-mb", 1, "--out", tmp_path / "pack")
    assert status == 0, said
    told = json.loads((tmp_path / "pack/pack.json").read_text())
    sizes = [(tmp_path / "pack" / name).stat().st_size for name in told["parts"]]
    assert len(sizes) > 2
    assert {*sizes[:-1]} == {1_000_000}
    assert f"{len(sizes)} parts" in said
    assert "with tiny.yaml" in said
    status, said = unpacked(tmp_path / "pack", tmp_path / "there")
    assert status == 0, said
    assert f"  cd {tmp_path / 'there'} && make run CONFIG=tiny.yaml" in said
    there = tmp_path / "there"
    assert (there / "tiny.yaml").read_bytes() == (clone / "tiny.yaml").read_bytes()
    _, listed = output(["git", "status", "--porcelain"], there)
    assert listed == "?? tiny.yaml\n"
    assert [path.name for path in (there / "wheels").glob("*.whl")] == [LONG]
    indexes = {"PIP_INDEX_URL": "file:///nowhere", "PIP_FIND_LINKS": str(tmp_path)}
    make = [*without_network(), "make", ".venv/installed", f"PYTHON={sys.executable}"]
    status, said = output(make, there, **indexes)
    assert status == 0, said
    subprocess.run([there / ".venv/bin/python", "-c", "import tiny"], check=True)


def test_a_second_pack_is_the_first_until_something_of_it_changes(clone, tmp_path):
    out = tmp_path / "pack"
    made = []
    for _ in range(2):
        status, said = packed(clone, "--out", out)
        assert status == 0, said
        made.append((out / "part-000").stat().st_ino)
        assert ("packing" in said) is (len(made) == 1)
    assert made[0] == made[1]
    (out / "part-000").write_bytes(b"cut")
    assert "packing" in packed(clone, "--out", out)[1]
    (clone / "README.md").write_text("another\n")
    assert "with changes that are not committed" in packed(clone, "--out", out)[1]
    git(clone.folder, "checkout", "--quiet", "README.md")


def test_paths_of_a_configuration_are_packed_or_named(clone, tmp_path):
    kept = clone / "mine/kvrocks"
    kept.parent.mkdir()
    kept.write_text("#!/bin/sh\n")
    kept.chmod(0o755)
    kept.with_suffix(".json").write_text("{}")
    (tmp_path / "other").mkdir()
    config = {
        "kvrocks": {"source": "binary", "binary": "mine/kvrocks", "patched_binary": sys.executable},
        "data_dir": str(tmp_path / "other"),
    }
    (clone / "mine.yaml").write_text(yaml.safe_dump(config))
    status, said = packed(clone, "--out", tmp_path / "pack", configs=("tiny.yaml", "mine.yaml"))
    assert status == 0, said
    own = [line.partition(": with ")[2] for line in said.splitlines() if ": with " in line]
    assert own == ["tiny.yaml", "mine.yaml", "mine/kvrocks", "mine/kvrocks.json"]
    assert f"needed there at the same place: kvrocks.patched_binary {sys.executable}" in said
    assert str(tmp_path / "other") not in said
    with tarfile.open(tmp_path / "pack/part-000") as archive:
        assert {*own} < {*archive.getnames()}
    assert json.loads((tmp_path / "pack/pack.json").read_text())["command"] == (
        'make run CONFIG="tiny.yaml mine.yaml"'
    )


def test_what_cannot_be_packed_is_told_in_one_line(clone, tmp_path):
    (tmp_path / "my.yaml").write_text("{}")
    for options, configs, words in (
        ((), (str(tmp_path / "my.yaml"),), f"CONFIG: {tmp_path}/my.yaml: name a file of this checkout"),
        (("--part-mb", 0), ("tiny.yaml",), "--part-mb 0: a part has at least 1 MB"),
        ((), ("config/engine-cpu.yaml",), "results/build/current/wheels.tar, "),
    ):
        status, said = packed(clone, "--out", tmp_path / "pack", *options, configs=configs)
        assert (status, len(said.splitlines())) == (2, 1), said
        assert words in said
    status, said = packed(Checkout.new(tmp_path / "no-clone"), "--out", tmp_path / "pack")
    assert "not there; `make pack` gets" in said
    (tmp_path / "no-clone" / OWN).parent.mkdir(parents=True)
    shutil.copy(clone / OWN, tmp_path / "no-clone" / OWN)
    status, said = packed(Checkout(tmp_path / "no-clone"), "--out", tmp_path / "pack")
    assert (status, len(said.splitlines())) == (2, 1), said
    assert "pack in a clone of the repository" in said


@pytest.fixture
def small(tmp_path) -> Path:
    """A pack of one file in three parts, of this machine."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (tmp_path / "content").write_bytes(os.urandom(250_000))
    parts = pack.Parts(folder, 100_000)
    with parts, tarfile.open(fileobj=parts, mode="w|") as archive:
        archive.add(tmp_path / "content", "content")
    told = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "headers": False,
        "machine": platform.machine(),
        "glibc": "2.17",
        "programs": {"make": "make"},
        "room_bytes": 1,
        "commit": "c" * 40,
        "command": "make run",
        "parts": parts.told,
    }
    (folder / "pack.json").write_text(json.dumps(told))
    shutil.copy(unpack.__file__, folder / "unpack.py")
    return folder


@pytest.mark.skipif(not HAS_GLIBC, reason="no GNU C library here")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"python": "3.99"},
            rf"for Python 3\.99, and here is .*3\.{sys.version_info.minor}\b.*: install Python 3\.99, or .*`make pack PYTHON=python3\.\d+`",
        ),
        ({"machine": "riscv128"}, r"for riscv128, and this is \w+: pack on such a machine"),
        ({"glibc": "9.9"}, r"C library 9\.9, and here is 2\.\d+: pack on a system with 2\.\d+ or older"),
        (
            {"programs": {"make": "make", "no-cmake": "cmake", "no-c++": "g++"}},
            r"missing: no-cmake, no-c\+\+; install \(Debian\) cmake g\+\+",
        ),
        ({"room_bytes": 10**18}, r"GB free, and 1000000000\.0 are needed .*`python3 unpack\.py FOLDER`"),
    ],
)
def test_a_machine_that_is_not_like_it_is_told_before_anything_is_unpacked(small, tmp_path, changes, words):
    told = json.loads((small / "pack.json").read_text())
    (small / "pack.json").write_text(json.dumps(told | changes))
    status, said = unpacked(small, tmp_path / "there")
    assert (status, len(said.splitlines())) == (1, 1), said
    assert re.search(words, said), said
    assert not list(tmp_path.glob("there*"))
    (small / "pack.json").write_text(json.dumps(told))
    assert unpacked(small, tmp_path / "there")[0] == 0


def test_parts_that_are_not_as_they_were_packed_are_named_and_copied_again(small, tmp_path):
    shutil.copytree(small, kept := tmp_path / "kept")
    (small / "part-000").unlink()
    (small / "part-001").write_bytes((small / "part-001").read_bytes()[:-1])
    content = bytearray((small / "part-002").read_bytes())
    content[0] ^= 1
    (small / "part-002").write_bytes(content)
    status, said = unpacked(small, tmp_path / "there")
    assert (status, len(said.splitlines())) == (1, 1), said
    assert "not as they were packed: part-000, part-001, part-002; copy them again" in said
    (small / "pack.json").write_text("{")
    assert "copy that file of the pack again" in unpacked(small, tmp_path / "there")[1]
    assert not (tmp_path / "there").exists()
    for path in kept.iterdir():
        shutil.copy(path, small)
    (tmp_path / "there.partial").mkdir()  # of one that was ended
    assert unpacked(small, tmp_path / "there")[0] == 0
    assert (tmp_path / "there/content").read_bytes() == (tmp_path / "content").read_bytes()
    status, said = unpacked(small, tmp_path / "there")
    assert (status, len(said.splitlines())) == (1, 1), said
    assert "is there already: name a new folder" in said


def pythons(folder: Path, **said: str) -> str:
    """A PATH of nothing but Pythons that say so."""
    folder.mkdir()
    for name, words in said.items():
        path = folder / name.replace("_", ".")
        path.write_text(f"#!/bin/sh\nprintf '{words}'\n")
        path.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("said", "headers", "expected"),
    [
        ({"python3": "3.12\nwhole\n", "python3_11": "3.11\nwhole\n"}, False, "python3.11"),
        ({"python3": "3.11\nwhole\n", "python3_11": "3.11\nwhole\nheaders\n"}, True, "python3.11"),
        (
            {"python3": "3.11\nwhole\n"},
            True,
            "python3 has no Python.h, with which Triton compiles for the GPU: install python3.11-dev (Debian)",
        ),
        (
            {"python3": "3.10\nwhole\n"},
            False,
            "the packages are for Python 3.11, and here is 3.10: install Python 3.11",
        ),
        (
            {"python3": "3.10\nwhole\n", "python3_12": "3.12\nwhole\n"},
            True,
            "the packages are for Python 3.11, and here is 3.10, 3.12: install Python 3.11, or pack again by "
            "`make pack PYTHON=python3.12` and the same CONFIG",
        ),
    ],
)
def test_which_python_of_a_machine_is_taken(said, headers, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", pythons(tmp_path / "bin", **said))
    monkeypatch.setattr(sys, "executable", "")
    try:
        told = unpack.usable_python("3.11", headers)
    except unpack.Refusal as why:
        told = str(why)
    assert told == expected


def test_a_python_without_environments_names_the_package_and_another_one_is_taken(small, tmp_path):
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for program in ("python3", name):
        path = tmp_path / "bin" / program
        path.parent.mkdir(exist_ok=True)
        version = json.loads((small / "pack.json").read_text())["python"]
        path.write_text(f"#!/bin/sh\necho {version}\nexit 1\n")
        path.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    status, said = unpacked(small, tmp_path / "there", PATH=path)
    assert status == 0, said
    assert said.rstrip().endswith(f"make run PYTHON={sys.executable}")
    lines = f"import sys; sys.path.insert(0, {str(small)!r}); import unpack; sys.executable = ''; unpack.usable_python('{version}', False)"
    _, said = output([sys.executable, "-c", lines], tmp_path, PATH=path)
    assert f"python3 makes no environments: install {name}-venv (Debian)" in said


def test_the_oldest_c_library_is_that_of_every_wheel():
    many = "a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl"
    assert pack.oldest_glibc([many, "b-1-py3-none-any.whl"], "2.36") == "2.17"
    assert pack.oldest_glibc([many, "c-1-cp38-abi3-manylinux_2_34_x86_64.whl"], "2.36") == "2.34"
    assert pack.oldest_glibc([many, "d-1-cp311-cp311-linux_x86_64.whl"], "2.36") == "2.36"


def test_a_program_that_is_carried_has_a_say_in_the_c_library(monkeypatch, tmp_path):
    needs = {
        "kvrocks": Needs("x86_64", None, {"GLIBC": "2.36"}),
        "static": Needs("x86_64", None, {}),
    }
    monkeypatch.setattr(pack, "needs_of", lambda path: needs.get(path.name))
    for name in ("kvrocks", "static", "script"):
        (tmp_path / name).touch()
    programs = [tmp_path / name for name in ("static", "script", "folder", "kvrocks")]
    many = "a-1-py3-none-manylinux_2_28_x86_64.whl"
    assert pack.oldest_glibc([many], "2.40", programs) == "2.36"
    assert pack.oldest_glibc([many], "2.40", programs[:3]) == "2.28"


def test_bytecode_and_last_blocks_need_room_too(tmp_path):
    with zipfile.ZipFile(wheel(tmp_path), "a") as archive:
        for number in range(40):
            archive.writestr(f"module_{number}.py", f"value = {number}\n" * 100 * number)
            archive.writestr(f"data_{number}", b"x" * 500 * number)
    with tarfile.open(tmp_path / "wheels.tar", "w") as tar:
        tar.add(tmp_path / LONG, LONG)
    folder = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--target", folder]
    status, said = output([*pip, tmp_path / LONG], tmp_path, PIP_CONFIG_FILE=os.devnull)
    assert status == 0, said
    on_disk = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    told = pack.needs(shipped("smoke"), [tmp_path / "wheels.tar"], [], [])["room_bytes"]
    assert told - (tmp_path / "wheels.tar").stat().st_size == pytest.approx(on_disk, rel=0.25)
    assert told - (tmp_path / "wheels.tar").stat().st_size > on_disk * 0.95


@pytest.mark.parametrize(
    ("config", "changes", "headers", "programs"),
    [
        ("smoke", {}, False, {"make"}),
        ("smoke", {"scenarios.mine": NATIVE, "experiment.scenarios": ["mine"]}, False, {"make", "cc"}),
        ("smoke", {"scenarios.mine": NATIVE, "profile.scenarios": ["mine"]}, False, {"make", "cc"}),
        ("engine-cpu", {}, False, {"make"}),
        ("gpu-box", {"kvrocks": {"source": "auto"}}, True, {"make", "cc"}),
    ],
)
def test_a_pack_asks_for_what_is_compiled_with(config, changes, headers, programs, tmp_path):
    with tarfile.open(tmp_path / "wheels.tar", "w"):
        pass
    told = pack.needs(shipped(config, changes), [tmp_path / "wheels.tar"], [], [])
    assert (told["headers"], {*told["programs"]}) == (headers, programs)


def test_dependencies_are_taken_for_the_source_that_they_were_fetched_for(tmp_path):
    (tmp_path / "kvrocks-deps").mkdir()
    tarball = tmp_path / "kvrocks-source.tar.gz"
    assert fetched_for(tarball, "a") is None
    (tmp_path / "kvrocks-deps/source.sha256").write_text("a")
    assert fetched_for(tarball, "a") == str(tmp_path / "kvrocks-deps")
    assert fetched_for(tarball, "b") is None


BUILT = {"results/build/kvrocks-source.tar.gz", "results/build/kvrocks-deps"}


def wheels(*names: str) -> set[str]:
    return {f"results/build/{name}/wheels.tar" for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("smoke", wheels("workflow")),
        ("engine-cpu", wheels("workflow", "current", "loadgen", "smollm2-135m")),
        ("gpu-box", wheels("workflow", "current", "reference", "loadgen") | BUILT),
    ],
)
def test_downloads_are_those_of_a_whole_run(config, expected, tmp_path):
    """What is listed is what the rules of a dry run download; the workflow's own packages and Kvrocks's dependencies beside it."""
    assert {*shipped(config).downloads()} == expected
    checkout = Checkout.new(tmp_path / "checkout", {"data_dir": str(tmp_path / "data")})
    shutil.copy(Path(f"config/{config}.yaml"), checkout / "shipped.yaml")
    configs = ["--configfile", *pack.DEFAULTS, "shipped.yaml", "tiny.yaml"]
    status, said = checkout.forked("all", "--dry-run", "--cores", "2", *configs)
    assert status == 0, said
    jobs = re.findall(r"rule fetch_\w+:\n(?: +input: .*\n)? +output: (\S+)", said)
    assert {*jobs} == expected - wheels("workflow") - {"results/build/kvrocks-deps"}


@pytest.mark.slow
def test_packages_are_got_anew_for_another_python(tmp_path, monkeypatch):
    """Also where a cache keeps those of the first: a pack for a box's Python is made in any clone."""
    checkout = Checkout.new(tmp_path / "checkout", {"loadgen": {"requirements": "pins.txt"}})
    (checkout / "pins.txt").write_text("tiny==0.0.1\n")
    wheel(tmp_path)
    environment = {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": os.devnull}
    for name, value in environment.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    words = ["results/build/loadgen/wheels.tar", "--cores", "1", "--configfile", *pack.DEFAULTS, "tiny.yaml"]
    told = [checkout.forked(*words) for _ in range(2)]
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "another")
    told += [checkout.forked(*words)]
    assert [status for status, _ in told] == [0, 0, 0], told
    assert ["rule fetch_wheels:" in said for _, said in told] == [True, False, True]


@pytest.mark.slow
def test_a_python_that_is_named_takes_the_place_of_another_ones_environment(tmp_path):
    shutil.copy("Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text("tiny==0.0.1\n")
    wheel(tmp_path)
    own = tmp_path / ".venv/bin/python"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\necho '(3, 99)'\n")
    own.chmod(0o755)
    (tmp_path / ".venv/bin/activate").touch()
    (tmp_path / ".venv/installed").touch()
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    make = ["make", ".venv/installed"]
    for words, old in (([], True), ([f"PYTHON={sys.executable}"], False), ([], False)):
        status, said = output([*make, *words], tmp_path, **pip)
        assert status == 0, said
        assert own.is_symlink() is not old
    (tmp_path / ".venv/kept").touch()
    assert output([*make, f"PYTHON={sys.executable}"], tmp_path, **pip)[0] == 0
    assert (tmp_path / ".venv/kept").exists()
    status, said = output([*make, "PYTHON=no-such-python"], tmp_path, **pip)
    assert status == 2, said
    assert (tmp_path / ".venv/kept").exists()
