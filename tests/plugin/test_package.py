"""Package lmcache-striped by itself: what its wheel has, and that it needs nothing of the workflow."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.plugin.native import missing
from tests.stores.conftest import store_config
from workflow.hyperkv.stores.registry import make_store

PLUGIN = Path(__file__).parents[2] / "workflow/plugin"
MODULES = sorted((PLUGIN / "lmcache_striped").glob("*.py"))
HOSTS = {
    "remote": {"lmcache"},
    "l2": {"lmcache"},
    "lmcache_pool": {"lmcache"},
    "password": {"lmcache"},
    "tier": {"vllm"},
}

SAVED_AND_LOADED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from lmcache_striped.l2 import StripedL2
from lmcache_striped.cache import StripedCache
from lmcache_striped.cache_settings import settings_from

settings = settings_from({"p.endpoints": sys.argv[2], "p.stripe_bytes": 4096}, "p")
cache = StripedCache(settings)
value = np.random.default_rng(1).integers(0, 256, 100_000, dtype=np.uint8)
assert cache.offer([b"package"], [value], lambda saved: None) and cache.wait_saved(20)
buffer = np.zeros_like(value)
found = cache.load([b"package", b"absent"], [buffer, np.zeros_like(value)])
cache.close()
print(json.dumps([found, bool((buffer == value).all()), settings.loads_by, "workflow" in sys.modules]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that `pip install ./workflow/plugin` makes."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(PLUGIN, folder / "plugin", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder]
    subprocess.run([sys.executable, *map(str, words), str(source)], check=True, timeout=120)
    (found,) = folder.glob("lmcache_striped-*.whl")
    return found


def test_the_wheel_has_every_module_and_is_for_every_python(wheel):
    assert re.search(r"-cp310-abi3-linux_\w+\.whl$", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {f"lmcache_striped/{path.name}" for path in MODULES} <= set(names)
    required = re.findall(r"^Requires-Dist: (\w+)", metadata, re.MULTILINE)
    assert sorted(required) == ["numpy", "xxhash"]
    if not missing():
        assert "lmcache_striped/_striped.abi3.so" in names


def test_what_is_installed_saves_and_loads_without_the_workflow(wheel, tmp_path):
    words = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "site",
        wheel,
    ]
    subprocess.run([sys.executable, *map(str, words)], check=True, timeout=120)
    with make_store("valkey", store_config(tmp_path, "valkey")) as store:
        place = f"{store.endpoint.host}:{store.endpoint.port}"
        done = subprocess.run(
            [sys.executable, "-I", "-c", SAVED_AND_LOADED, str(tmp_path / "site"), place],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    client = "Python" if missing() else f"compiled code, {tmp_path}/site/lmcache_striped/_striped.abi3.so"
    said = f"1 servers, 4 connections to each, loads by {client}"
    assert done.stdout.strip() == f'[[true, false], true, "{said}", false]'


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_what_the_package_requires_and_its_host_alone(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1
            if not node.level:
                names.add((node.module or "").partition(".")[0])
    allowed = sys.stdlib_module_names | {"numpy", "xxhash"} | HOSTS.get(path.stem, set())
    assert names - allowed == set()
    assert find_spec(f"workflow.plugin.lmcache_striped.{path.stem}") is not None


@pytest.mark.parametrize("told", ["workflow/plugin/pyproject.toml", "workflow/rules/build.smk"])
def test_the_library_is_built_anew_when_any_of_its_sources_changes(told):
    sources = {path.name for path in Path("workflow/plugin/lmcache_striped").glob("*.c")}
    assert sources == set(re.findall(r"(\w+\.c)\b", Path(told).read_text()))
