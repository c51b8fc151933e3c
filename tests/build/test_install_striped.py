"""The plugin in an environment of vLLM and LMCache: installed where that was made here, else looked at."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from tests.helpers import command
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build import install_striped
from workflow.hyperkv.connectors.registry import STRIPED

ROOT = Path(__file__).parents[2]
LMCACHE = {
    "logging": "from logging import getLogger as init_logger",
    "v1/storage_backend/connector/__init__": "class ConnectorAdapter: pass",
    "v1/storage_backend/connector/base_connector": "class RemoteConnector: pass",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The record of an environment with pip, numpy, xxhash and what the plugin imports of LMCache."""
    folder = tmp_path_factory.mktemp("engine")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    for name, text in LMCACHE.items():
        path = site / "lmcache" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (site / "shared.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")
    record = folder / "engine.json"
    record.write_text(json.dumps({"python": str(folder / "venv/bin/python")}))
    return record


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def run(environment: Path, out: Path, *more: str) -> dict:
    command(install_striped, "--environment", str(environment), "--out", str(out), *more)
    return json.loads(out.read_text())


def test_an_environment_of_the_users_is_told_what_it_lacks_and_gets_nothing(environment, tmp_path):
    python = json.loads(environment.read_text())["python"]
    with pytest.raises(UserError) as raised:
        run(environment, tmp_path / "striped.json")
    assert "\n" not in str(raised.value)
    assert "No module named 'lmcache_striped'" in str(raised.value)
    assert {*re.findall(r"\w+", str(raised.value))} >= {*STRIPED}
    assert f"`{python} -m pip install ./workflow/plugin` does" in str(raised.value)
    assert not (tmp_path / "striped.json").exists()


def test_it_is_installed_and_another_one_is_noticed(environment, tmp_path):
    record = run(environment, tmp_path / "striped.json", "--made")
    assert record["version"] == "1.0.0"
    assert run(environment, tmp_path / "again.json") == record

    there = Path(record["folder"], "stripes.py")
    there.write_text("# reworded\n" + there.read_text())
    assert run(environment, tmp_path / "again.json") == record
    there.write_text(there.read_text().replace("STRIPE_BYTES = 1 << 20", "STRIPE_BYTES = 1 << 21"))
    with pytest.raises(
        UserError, match=r"lmcache-striped 1\.0\.0 in .* is not this checkout's \(stripes\.py\); `"
    ):
        run(environment, tmp_path / "again.json")
    assert run(environment, tmp_path / "striped.json", "--made") == record
