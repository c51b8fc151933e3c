"""Environments of engine and load generator: what is refused, and a real one from a wheel made here."""

import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers import command
from tests.kvrocks_tree import write_program
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build import build_environment, fetch_wheels

GOOD = {
    "python": "p",
    "versions": {"torch": "2.11.0", "vllm": "0.25.0", "lmcache": "0.5.0"},
    "errors": {},
    "cuda": "13.0",
    "gpus": ["NVIDIA H100"],
    "native_resp": True,
}


def test_what_is_complete_is_taken():
    build_environment.refuse(GOOD, "engine", "cuda", ["lmcache", "resp"])
    build_environment.refuse({**GOOD, "cuda": None, "gpus": []}, "engine", "cpu", ["lmcache"])
    without = {**GOOD, "versions": {**GOOD["versions"], "lmcache": None}, "native_resp": False}
    build_environment.refuse(without, "engine", "cuda", [])


@pytest.mark.parametrize(
    ("words", "kind", "device", "needs", "changes"),
    [
        (
            "vllm cannot be imported by p: ImportError: x",
            *("engine", "cuda", []),
            {"versions": {"torch": "2.11.0", "vllm": None}, "errors": {"vllm": "ImportError: x"}},
        ),
        (
            "lmcache cannot be imported",
            *("engine", "cuda", ["lmcache"]),
            {"versions": {"torch": "2", "vllm": "1", "lmcache": None}},
        ),
        ("is built without CUDA", "engine", "cuda", [], {"cuda": None}),
        ("sees no GPU; look at nvidia-smi", "engine", "cuda", [], {"gpus": []}),
        ("is a CUDA build", "engine", "cpu", [], {}),
        ("has no native RESP client", "engine", "cuda", ["lmcache", "resp"], {"native_resp": False}),
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
    record = build_environment.probe(sys.executable, "engine")
    assert record["versions"]["vllm"] == "unknown"
    assert (record["versions"]["torch"], record["cuda"], record["native_resp"]) == (None, None, False)


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


def test_an_environment_is_made_from_wheels_alone_and_recorded(tmp_path, monkeypatch, capfd):
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


def test_an_interpreter_that_is_not_there_is_named(tmp_path):
    options = ["--kind", "engine", "--python", "/no/python", "--out", str(tmp_path / "r.json")]
    with pytest.raises(UserError, match=r"vllm\.python: there is no program /no/python"):
        command(build_environment, *options)


def test_wheels_of_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        fetch_wheels.fetch(tmp_path / "absent.txt", None, tmp_path / "w.tar")


def test_pips_error_is_one_line_and_torch_gets_a_hint(tmp_path):
    python = write_program(
        tmp_path / "python",
        "#!/bin/sh\necho 'ERROR: No matching distribution found for torch==9+cpu' >&2; exit 1\n",
    )
    with pytest.raises(
        UserError, match=r"No matching distribution found for torch==9\+cpu; .*PIP_EXTRA_INDEX_URL"
    ):
        fetch_wheels.run_pip(str(python), "download")


@pytest.mark.parametrize("name", ["engine-cuda", "engine-cpu", "loadgen"])
def test_every_package_is_pinned_exactly(name):
    lines = [
        line
        for line in Path(f"envs/{name}.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert len(lines) > 100
    assert all(line.count("==") == 1 and " " not in line for line in lines)
