"""The configurations that come with the workflow: what they measure can stand in one figure."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import sweep_spec
from workflow.hyperkv.config.scenarios import loads_of, selected
from workflow.hyperkv.records.parity import comparable_digest, require_parity

BASES = ("config/scenarios.yaml", "config/config.yaml")
NO_CONFIGURATIONS = ("scenarios", "claims", "equal_speed_claims", "prices", "published_gpus")
SHIPPED = [
    path
    for path in sorted([*Path("config").glob("*.yaml"), *Path("config/experiments").rglob("*.yaml")])
    if path.stem not in NO_CONFIGURATIONS
]


def below(path: Path) -> tuple[str, ...]:
    """The files that a shipped one is put on top of, which it names at its top, and it."""
    named = re.match(r"# On top of config\.yaml((?:,| and) [^:]+):", path.read_text())
    others = re.findall(r"[\w./-]+\.yaml", named[1]) if named else []
    return (*(str(path.parent / each) for each in others), str(path))


def drawn(*files: str, **changes) -> pd.DataFrame:
    """A row per scenario that has loads and the figures' chunk, with what a record of it would say."""
    full = merged(*(yaml.safe_load(Path(name).read_text()) for name in (*BASES, *files)))
    for name, keys in changes.items():
        full["scenarios"][name] |= keys
    config, rows = checked(full), []
    for name in selected(config, config["experiment"]["scenarios"]):
        scenario = config["scenarios"][name]
        if not loads_of(config, name):
            continue
        if scenario["tier"] != "none" and scenario["chunk_tokens"] != config["figures"]["chunk_tokens"]:
            continue
        record = {"spec": json.loads(sweep_spec(config, name)), "gpu_model": None}
        keys = ("tier", "store", "connector", "pair", "chunk_tokens", "connections", "processes")
        rows.append(
            {
                "scenario": name,
                "engine": config["engine"],
                "comparable_digest": comparable_digest(record),
                **{key: scenario.get(key) for key in (*keys, "save_decode_cache")},
            }
        )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_a_configuration_measures_can_stand_in_one_figure(path):
    rows = drawn(*below(path))
    assert len(rows) >= 2
    require_parity(rows, vary=["tier", "store", "connector", "pair"])


def test_the_test_finds_what_cannot():
    rows = drawn("config/gpu-box.yaml", kvrocks_striped_mp={"connections": 8})
    with pytest.raises(UserError, match="differ in connections"):
        require_parity(rows, vary=["tier", "store", "connector", "pair"])
