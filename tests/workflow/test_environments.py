"""The pinned environments agree with each other and with what the code imports."""

import ast
import re
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"vllm", "torch", "lmcache", "snakemake", "transformers"}


def pins(file: str = "requirements.txt") -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_requirement_is_pinned_exactly_and_once():
    every = pins() + pins("envs/dev.txt")
    assert [pin for pin in every if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)] == []
    assert len({pin.split("==")[0].lower() for pin in every}) == len(every)


def test_the_conda_environment_installs_the_same():
    document = yaml.safe_load((ROOT / "envs/harness.yaml").read_text())
    assert next(item["pip"] for item in document["dependencies"] if isinstance(item, dict)) == pins()
    assert "nodefaults" in document["channels"]


@pytest.mark.parametrize("name", ["kvrocks-build", "kvrocks-conda"])
def test_what_builds_kvrocks_reads_its_command_line_with_the_same_packages(name):
    document = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())
    installed = next(item["pip"] for item in document["dependencies"] if isinstance(item, dict))
    assert set(installed) <= set(pins())
    names = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in installed}
    pending = ["cyclopts"]
    while pending:
        found = pending.pop()
        assert found in names
        needed = (Requirement(line) for line in requires(found) or [])
        pending += [
            re.sub(r"[-_.]+", "-", each.name).lower()
            for each in needed
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]


def test_every_import_is_required():
    required = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins()}
    distributions = packages_distributions()
    missing = set()
    for path in (ROOT / "workflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - ELSEWHERE:
                owners = {re.sub(r"[-_.]+", "-", owner).lower() for owner in distributions.get(name, [])}
                if name != "workflow" and not owners & required:
                    missing.add((name, str(path)))
    assert missing == set()


def test_engines_have_what_connector_striped_imports():
    own = next(pin for pin in pins() if pin.startswith("xxhash=="))
    for device in ("cpu", "cuda"):
        pinned = (ROOT / f"envs/engine-{device}.txt").read_text().splitlines()
        assert own in pinned
        assert any(pin.startswith("numpy==") for pin in pinned)
