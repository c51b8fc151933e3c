"""Patches of workflow/patches/lmcache apply to the installed LMCache, whose server then does what they say; skipped without it."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

PATCH = Path("workflow/patches/lmcache/stream-prefetches.patch")
INSIDE = Path(__file__).with_name("stream_prefetches.py")
RUN = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
NAMES = [
    node.name
    for node in ast.parse(INSIDE.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]

if (FOUND := importlib.util.find_spec("lmcache")) is None:
    pytest.skip("lmcache is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, list[str]]:
    """What each test inside said, in a process of its own with a patched copy of LMCache: nothing where it passed."""
    site = tmp_path_factory.mktemp("lmcache-patched")
    shutil.copytree(Path(FOUND.origin).parent, site / "lmcache", ignore=_not_code, copy_function=_linked)
    subprocess.run(["patch", "-p1", "--fuzz=0", "-i", PATCH.absolute()], cwd=site, check=True, timeout=60)
    report = site / "report.xml"
    options = ["-p", "no:xdist", "-p", "no:cacheprovider", "-W", "ignore", f"--junit-xml={report}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(Path.cwd()), *sys.path])}
    subprocess.run([sys.executable, "-c", RUN, str(INSIDE), *options], env=environment, timeout=1200)
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        faults = found.setdefault(case.attrib["name"].partition("[")[0], [])
        faults += [
            f"{case.attrib['name']}: {fault.text}"
            for fault in case
            if fault.tag in ("failure", "error", "skipped")
        ]
    return found


def _not_code(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]


def _linked(source: str, target: str) -> None:
    """patch writes a changed file anew; the others stay links."""
    os.symlink(source, target) if source.endswith(".so") else shutil.copyfile(source, target)


@pytest.mark.parametrize("name", NAMES)
def test_inside_a_patched_lmcache(outcomes, name):
    assert name in outcomes, f"{name} did not run"
    assert not outcomes[name], "\n".join(outcomes[name])
