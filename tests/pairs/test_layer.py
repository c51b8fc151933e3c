"""An environment over another: its own packages first, the rest as they are there."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.pairs.layer import make_layer

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def wheel(folder: Path, name: str, version: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{name}.py", f"version = {version!r}\n")
        about = f"{name}-{version}.dist-info"
        packed.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        packed.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{about}/RECORD", "")
    return path


def test_a_layers_packages_come_before_those_that_it_is_over(tmp_path):
    made = make_layer(sys.executable, [str(wheel(tmp_path, "redis", "99.0"))], tmp_path / "layer")
    code = "import json, redis, numpy, lmcache_striped; print(json.dumps([redis.version, numpy.__file__, lmcache_striped.__file__]))"
    done = subprocess.run([made.python, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    version, numpy, plugin = json.loads(done.stdout)
    assert version == "99.0"
    assert not Path(numpy).is_relative_to(tmp_path)
    assert Path(plugin).is_relative_to(tmp_path / "layer")
    assert (made.versions["vllm"], json.loads(made.record.read_text())["python"]) == (None, made.python)
    assert "vllm" in made.lacks


def test_a_package_that_cannot_be_had_is_named(tmp_path):
    with pytest.raises(UserError, match="pip could not install the packages"):
        make_layer(sys.executable, [str(tmp_path / "absent-1.0-py3-none-any.whl")], tmp_path / "layer")


def test_an_interpreter_that_does_not_run_is_named(tmp_path):
    with pytest.raises(UserError, match="no-python does not run: there is no program"):
        make_layer(str(tmp_path / "no-python"), [], tmp_path / "layer")
