"""The pinned environments agree with each other and with what the code imports."""

import ast
import re
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from workflow.hyperkv.base.sources import sources

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"vllm", "torch", "lmcache", "snakemake", "transformers"}


def pins(file: str = "requirements.txt") -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def project(name: str) -> str:
    """A distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(path: Path) -> set[str]:
    """The packages that a module imports, anywhere in it, but for its own."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


def test_every_requirement_is_pinned_exactly_and_once():
    every = pins() + pins("envs/dev.txt")
    assert [pin for pin in every if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)] == []
    assert len({pin.split("==")[0].lower() for pin in every}) == len(every)


def test_the_conda_environment_installs_the_same():
    document = yaml.safe_load((ROOT / "envs/harness.yaml").read_text())
    assert next(item["pip"] for item in document["dependencies"] if isinstance(item, dict)) == pins()
    assert "nodefaults" in document["channels"]


@pytest.mark.parametrize(
    ("environment", "stages"),
    [
        (
            "kvrocks-build",
            (
                "build_striped",
                "fetch_kvrocks",
                "fetch_kvrocks_dependencies",
                "compile_kvrocks",
                "build_kvrocks",
            ),
        ),
        ("kvrocks-conda", ("build_kvrocks",)),
    ],
)
def test_where_kvrocks_is_built_is_all_that_its_stages_import(environment, stages):
    """Pinned there as it is here, with what it needs itself."""
    document = yaml.safe_load((ROOT / f"envs/{environment}.yaml").read_text())
    conda, (installed,) = (
        [item for item in document["dependencies"] if isinstance(item, str)],
        [item["pip"] for item in document["dependencies"] if isinstance(item, dict)],
    )
    assert set(installed) <= set(pins())
    there = {project(re.split("==?", item)[0]) for item in [*conda, *installed]}
    owners = packages_distributions()
    pending = {"cyclopts"}
    for path in filter(lambda path: path.endswith(".py"), sources(*(f"build.{stage}" for stage in stages))):
        for name in imported(ROOT / path) - sys.stdlib_module_names - {"workflow"}:
            pending |= {project(owner) for owner in owners[name]}
    needed: set[str] = set()
    while pending - needed:
        needed |= (new := pending - needed)
        for line in (line for name in new for line in requires(name) or []):
            found = Requirement(line)
            if found.marker is None or found.marker.evaluate({"extra": ""}):
                pending.add(project(found.name))
    assert sorted(needed - there) == []


def test_every_import_is_required():
    required = {project(pin.split("==")[0]) for pin in pins()}
    distributions = packages_distributions()
    missing = set()
    for path in (ROOT / "workflow").rglob("*.py"):
        for name in imported(path) - sys.stdlib_module_names - ELSEWHERE - {"workflow"}:
            owners = {project(owner) for owner in distributions.get(name, [])}
            if not owners & required:
                missing.add((name, str(path)))
    assert missing == set()


def test_engines_have_what_connector_striped_imports():
    own = next(pin for pin in pins() if pin.startswith("xxhash=="))
    for name in ("current-cpu", "current-cuda", "reference-cuda"):
        pinned = (ROOT / f"envs/{name}.txt").read_text().splitlines()
        assert own in pinned
        assert any(pin.startswith("numpy==") for pin in pinned)


@pytest.mark.parametrize("python", ["3.11.0", "3.11.9", "3.12.0", "3.13.0", "3.14.0"])
def test_what_a_package_needs_with_another_python_is_pinned_too(python):
    """Wheels that are carried to a machine without internet are those of the Python that got them, of whatever patch."""
    told = {"python_version": python.rpartition(".")[0], "python_full_version": python, "extra": ""}
    pinned = {project(pin.split("==")[0]) for pin in pins()}
    lines = [(name, line) for name in pinned for line in requires(name) or []]
    needed = [(name, found) for name, line in lines if (found := Requirement(line))]
    asked = [(name, found) for name, found in needed if found.marker is None or found.marker.evaluate(told)]
    assert [(name, str(found)) for name, found in asked if project(found.name) not in pinned] == []
