"""Environments of engine and load generator: what is refused, and a real one from a wheel made here."""

import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers import command
from tests.kvrocks_tree import write_program
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build import build_environment, fetch_wheels
from workflow.hyperkv.build.pairs import soundness

GOOD = {
    "python": "p",
    "versions": {"torch": "2.11.0", "vllm": "0.25.0", "lmcache": "0.5.0"},
    "errors": {},
    "cuda": "13.0",
    "gpus": ["NVIDIA H100"],
    "absent": [],
    "modules": {"kernels": "vllm._C", "storage": "lmcache.native_storage_ops", "resp": "r"},
}
NEWEST = {"torch": "2.14.0", "vllm": "0.33.0", "lmcache": "0.5.6"}


def test_what_is_complete_is_taken():
    build_environment.refuse(GOOD, "reference", "cuda", ["inside", "server", "resp"])
    build_environment.refuse(
        {**GOOD, "cuda": None, "gpus": [], "absent": ["gcc"]}, "current", "cpu", ["server"]
    )
    build_environment.refuse({**GOOD, "versions": NEWEST}, "current", "cuda", ["server", "resp"])
    without = {**GOOD, "versions": {**GOOD["versions"], "lmcache": None}, "modules": {"kernels": "vllm._C"}}
    build_environment.refuse(without, "current", "cuda", [])
    build_environment.refuse(without, "current", "cuda", ["tiers"])


@pytest.mark.parametrize(
    ("words", "kind", "device", "needs", "changes"),
    [
        (
            "vllm cannot be imported by p: ImportError: x",
            *("current", "cuda", []),
            {"versions": {"torch": "2.11.0", "vllm": None}, "errors": {"vllm": "ImportError: x"}},
        ),
        (
            "lmcache cannot be imported",
            *("current", "cuda", ["server"]),
            {"versions": {"torch": "2", "vllm": "1", "lmcache": None}},
        ),
        ("is built without CUDA", "current", "cuda", [], {"cuda": None}),
        ("sees no GPU; look at nvidia-smi", "current", "cuda", [], {"gpus": []}),
        (
            "sees no GPU (Found no NVIDIA driver on your system); look at",
            *("current", "cuda", []),
            {"gpus": [], "errors": {"gpus": "Found no NVIDIA driver on your system"}},
        ),
        (
            "lacks here: gcc, python3.12-dev; install that (Debian)",
            *("current", "cuda", []),
            {"absent": ["gcc", "python3.12-dev"]},
        ),
        ("is a CUDA build", "current", "cpu", [], {}),
        ("p: vLLM does not serve (None)", "current", "cuda", [], {"modules": {"kernels": None}}),
        ("p: LMCache does not run (None)", "current", "cuda", ["server"], {"modules": {"storage": None}}),
        ("has no native RESP client", "current", "cuda", ["server", "resp"], {"modules": {"resp": None}}),
        ("vLLM loads no tiers from outside", "current", "cuda", ["tiers"], {"modules": {"tiers": None}}),
        (
            "(LMCache issue 4463), and p has vllm 0.33.0, lmcache 0.5.6; leave out pair: current of scenarios with LMCache "
            "inside vLLM, or choose connector mp or striped_mp",
            *("current", "cuda", ["inside", "server"]),
            {"versions": NEWEST},
        ),
        (
            "name an environment with vLLM before 0.26 and LMCache before 0.5.7 in vllm.pairs.reference",
            *("reference", "cuda", ["inside"]),
            {"versions": {**NEWEST, "vllm": "0.26.0"}},
        ),
        (
            "which then wants kv_connector_module_path, and p has vllm 0.25.0, lmcache 0.5.7rc2",
            *("reference", "cuda", ["inside"]),
            {"versions": {**GOOD["versions"], "lmcache": "0.5.7rc2"}},
        ),
        ("aiperf cannot be imported", "loadgen", "cuda", [], {"versions": {"aiperf": None}}),
    ],
)
def test_what_is_missing_is_one_line(words, kind, device, needs, changes):
    with pytest.raises(UserError) as raised:
        build_environment.refuse({**GOOD, **changes}, kind, device, needs)
    assert "\n" not in str(raised.value)
    assert words in str(raised.value)


def test_a_probe_tells_what_cannot_be_imported(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    record = build_environment.probe(sys.executable, "loadgen")
    assert record["versions"] == {"aiperf": None}
    assert "ModuleNotFoundError" in record["errors"]["aiperf"]


def test_a_fake_engine_is_probed(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", "tests/fake_engine")
    record = build_environment.probe(sys.executable, "current", "cpu", ["server", "resp"])
    assert record["versions"]["vllm"] == "unknown"
    assert (record["versions"]["torch"], record["cuda"]) == (None, None)
    assert record["modules"] == {"kernels": None, "storage": None, "resp": None}
    assert record["server_options"] == []
    assert "ModuleNotFoundError" in record["errors"]["storage"]


def write_modules(folder: Path, **modules: str) -> None:
    """Packages vllm and lmcache that have modules with such texts, beside a torch for a CPU."""
    for name in ("torch", "vllm", "lmcache"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("__version__ = '1'\n")
    (folder / "torch" / "__init__.py").write_text(
        "class version: cuda = None\nclass cuda:\n    device_count = staticmethod(lambda: 0)\n"
    )
    for name, text in modules.items():
        package, _, module = name.partition("__")
        (folder / package / f"{module}.py").write_text(text)


def test_every_module_is_tried_by_all_its_names_and_its_absence_means_something(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    broken = "raise ImportError('undefined symbol: x')\n"
    write_modules(
        tmp_path, vllm___C_stable_libtorch="", lmcache__native_storage_ops="", lmcache__cuda_ops=broken
    )
    record = build_environment.probe(sys.executable, "current", "cuda", ["server"])
    assert "arrays" not in build_environment.probe(sys.executable, "current", "cuda", ["inside"])["modules"]
    assert record["modules"] == {
        "kernels": "vllm._C_stable_libtorch",
        "attention": None,
        "experts": None,
        "copies": None,
        "arrays": None,
        "storage": "lmcache.native_storage_ops",
    }
    assert record["errors"]["copies"] == "ImportError: undefined symbol: x"
    assert [line for line in build_environment.lacks(record) if line.startswith("lmcache.cuda_ops")] == [
        "lmcache.cuda_ops or lmcache.c_ops cannot be imported (ImportError: undefined symbol: x): LMCache copies KV between "
        "GPU and host by torch's own operations, which is slower, and says so once"
    ]


def test_an_option_that_only_some_servers_have_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    write_modules(tmp_path, vllm___C="", lmcache__lmcache_native="")
    for part in ("v1", "v1/distributed"):
        (tmp_path / "lmcache" / part).mkdir()
        (tmp_path / "lmcache" / part / "__init__.py").touch()
    (tmp_path / "lmcache/v1/distributed/config.py").write_text(
        "import argparse\n\ndef get_arg_parser():\n    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--disable-l1-retrieval', action='store_true')\n    return parser\n"
    )
    record = build_environment.probe(sys.executable, "current", "cpu", ["server"])
    assert record["server_options"] == ["--disable-l1-retrieval"]


@pytest.mark.parametrize(
    ("versions", "device", "words"),
    [
        (
            GOOD["versions"],
            "cuda",
            "sound for inprocess, redis, resp, striped, direct, mp, striped_mp, direct_mp, offloading",
        ),
        (
            NEWEST,
            "cuda",
            "sound for mp, striped_mp, direct_mp, offloading, striped_tier; not for inprocess, redis, resp, striped, direct: LMCache "
            "inside vLLM gives wrong output and says nothing from vLLM 0.26 on (LMCache issue 4463)",
        ),
        (
            GOOD["versions"],
            "cpu",
            "sound for mp, striped_mp, direct_mp; not for inprocess, redis, resp, striped, direct: LMCache inside vLLM has no CPU path",
        ),
    ],
)
def test_a_pair_says_for_which_connectors_it_is_sound(versions, device, words):
    assert soundness(versions, device) == words
    assert soundness({**versions, "lmcache": None}, "cuda").startswith("sound for offloading")


def wheel(folder: Path) -> Path:
    """A wheel of a package `aiperf` 0.0.1 that has nothing in it."""
    path = folder / "aiperf-0.0.1-py3-none-any.whl"
    info = "aiperf-0.0.1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("aiperf/__init__.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: aiperf\nVersion: 0.0.1\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_an_environment_is_made_from_wheels_alone_recorded_and_made_once(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(Path(__file__).parents[2])
    with tarfile.open(tmp_path / "wheels.tar", "w") as archive:
        archive.add(wheel(tmp_path), "aiperf-0.0.1-py3-none-any.whl")
    (tmp_path / "pins.txt").write_text("aiperf==0.0.1\n")
    files = {"requirements": "pins.txt", "wheels": "wheels.tar", "venv": "venv", "out": "record.json"}
    options = ["--kind", "loadgen"]
    options += [word for key, name in files.items() for word in (f"--{key}", str(tmp_path / name))]
    command(build_environment, *options)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["versions"] == {"aiperf": "0.0.1"}
    assert record["python"] == str(tmp_path / "venv/bin/python")
    assert json.loads(capfd.readouterr().out) == record
    (beside := tmp_path / "venv/plugin").touch()
    command(build_environment, *options)
    assert beside.exists()
    with tarfile.open(tmp_path / "wheels.tar", "a") as archive:
        archive.add(tmp_path / "pins.txt", "another")
    command(build_environment, *options)
    assert not beside.exists()


def test_an_interpreter_that_is_not_there_is_named(tmp_path):
    options = ["--kind", "reference", "--python", "/no/python", "--out", str(tmp_path / "r.json")]
    with pytest.raises(UserError, match=r"vllm\.pairs\.reference\.python: there is no program /no/python"):
        command(build_environment, *options)


def test_wheels_of_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        fetch_wheels.fetch(tmp_path / "absent.txt", None, tmp_path / "w.tar")


def test_what_has_no_wheel_is_built_where_it_is_fetched(tmp_path, monkeypatch):
    """Where it is installed there may be no network for what it is built with."""
    (source := tmp_path / "tiny-0.0.1").mkdir()
    (source / "setup.py").write_text(
        "from setuptools import setup; setup(name='tiny', version='0.0.1', py_modules=['tiny'])"
    )
    (source / "tiny.py").write_text("")
    with tarfile.open(tmp_path / "tiny-0.0.1.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    (tmp_path / "pins.txt").write_text("tiny==0.0.1\n")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "NO_BUILD_ISOLATION": "0"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    fetch_wheels.fetch(tmp_path / "pins.txt", None, tmp_path / "wheels.tar")
    with tarfile.open(tmp_path / "wheels.tar") as archive:
        assert archive.getnames() == ["tiny-0.0.1-py3-none-any.whl"]
    (tmp_path / "pins.txt").write_text("tiny==0.0.2\n")
    with pytest.raises(UserError, match=r"pip could not get the packages: No matching.*make the pack again"):
        fetch_wheels.fetch(tmp_path / "pins.txt", None, tmp_path / "wheels.tar")


def test_pips_error_is_one_line_and_torch_gets_a_hint(tmp_path):
    python = write_program(
        tmp_path / "python",
        "#!/bin/sh\necho 'ERROR: No matching distribution found for torch==9+cpu' >&2; exit 1\n",
    )
    with pytest.raises(
        UserError, match=r"No matching distribution found for torch==9\+cpu; .*PIP_EXTRA_INDEX_URL"
    ):
        fetch_wheels.run_pip(str(python), "download")


def test_of_a_conflict_the_package_is_told(tmp_path):
    said = "Cannot install torch==2+cpu because these package versions have conflicting dependencies."
    lines = f"echo 'ERROR: {said}' >&2; echo 'ERROR: ResolutionImpossible: for help visit a page' >&2"
    python = write_program(tmp_path / "python", f"#!/bin/sh\n{lines}; exit 1\n")
    with pytest.raises(
        UserError, match=r"pip could not install the packages: Cannot install torch==2\+cpu because"
    ):
        fetch_wheels.run_pip(str(python), "install")


@pytest.mark.parametrize("name", ["current-cuda", "current-cpu", "reference-cuda", "loadgen"])
def test_every_package_is_pinned_exactly(name):
    lines = [
        line
        for line in Path(f"envs/{name}.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert len(lines) > 100
    packages = []
    for line in lines:
        pin, _, marker = line.partition("; ")
        assert re.fullmatch(r"[^= ]+==([^=, ]+)(,!=\1\+cpu)?", pin)
        assert re.fullmatch(r'(python_version [<>=]+ "3\.\d+")?', marker)
        packages.append((pin.split("==")[0], marker))
    assert len(set(packages)) == len(packages)
