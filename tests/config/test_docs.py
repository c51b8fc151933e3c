"""config/README.md: up to date, complete, and about keys that exist."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow.hyperkv.config.config import schema
from workflow.hyperkv.config.docs import render

SECTIONS = (
    "config.yaml",
    "smoke.yaml",
    "scenarios.yaml",
    "layers.yaml",
    "gpu-box.yaml",
    "engine-cpu.yaml",
    "h100.yaml",
    "ladder.yaml",
    "equal_speed.yaml",
    "capacity.yaml",
    "tune.yaml",
)
FILES = [path for name in SECTIONS if (path := Path("config") / name).exists()]

OPAQUE = (".settings", ".environment", "<name>.workload", "<name>.vllm", "<name>.lmcache")
BY_NAME = ("scenarios.", "predict.cases.", "predict.cases.<name>.tiers.", "tune.space.", "ladder.steps.")


def keys(rules: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a schema with its dotted path, objects included."""
    for name, value in rules.get("properties", {}).items():
        yield f"{path}{name}", value
        yield from keys(value, f"{path}{name}.")
    free = rules.get("additionalProperties")
    if isinstance(free, dict):
        yield from keys(free, f"{path}<name>.")


def used(config: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths of a config file's keys, as the schema spells them."""
    for name, value in config.items():
        at = f"{path}<name>" if path in BY_NAME else f"{path}{name}"
        if isinstance(value, dict) and not at.endswith(OPAQUE):
            yield from used(value, f"{at}.")
        else:
            yield at


def test_readme_is_what_the_schema_says():
    assert Path("config/README.md").read_text() == render(schema()), "run make docs"


def test_rendering_twice_gives_the_same_text():
    assert render(schema()) == render(yaml.safe_load(yaml.safe_dump(schema(), sort_keys=False)))


@pytest.mark.parametrize(
    ("path", "rules"), [*keys(schema())], ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_key_says_what_it_means_and_in_which_unit(path, rules):
    assert rules["description"].strip()
    if "properties" not in rules and f"{path}." not in BY_NAME:
        assert rules["unit"].strip()
        assert f"| `{path}` | " in render(schema())


def test_a_row_has_range_default_unit_and_meaning():
    text = render(schema())
    row = next(line for line in text.splitlines() if line.startswith("| `evidence.device_share_min`"))
    assert "| a number, at least 0, at most 1 | `0.8` | share | Bytes read" in row
    row = next(line for line in text.splitlines() if line.startswith("| `workload.kind`"))
    assert "| multi_turn or long_documents or mooncake | required | word |" in row
    row = next(line for line in text.splitlines() if line.startswith("| `scenarios.<name>.dram_pool_bytes`"))
    assert "'512 MiB'" in row
    assert ", or null | `null` | bytes |" in row


def test_every_table_row_has_five_cells():
    rows = [
        line for line in render(schema()).splitlines() if line.startswith("| `") and "." in line.split("`")[1]
    ]
    rows = [row for row in rows if not row.split("`")[1].endswith(".yaml")]
    assert rows
    assert {row.replace("\\|", "").count("|") for row in rows} == {6}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_key_in_use_is_in_the_schema(path):
    known = {name for name, _ in keys(schema())}
    names = set(used(yaml.safe_load(path.read_text())))
    assert names
    assert names <= known
