"""The configurations that come with the workflow: what they measure can stand in one figure."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked, loads_of, selected, sweep_spec
from workflow.hyperkv.records.parity import comparable_digest, require_parity

BASES = ("config/scenarios.yaml", "config/config.yaml")
MEASURED = [
    ("config/config.yaml",),
    ("config/smoke.yaml",),
    ("config/engine-cpu.yaml",),
    ("config/gpu-box.yaml",),
    ("config/h100.yaml",),
    ("config/h100.yaml", "config/h100_fp8.yaml"),
]


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
        keys = ("tier", "store", "connector", "chunk_tokens", "connections", "processes", "save_decode_cache")
        rows.append(
            {
                "scenario": name,
                "engine": config["engine"],
                "comparable_digest": comparable_digest(record),
                **{key: scenario.get(key) for key in keys},
            }
        )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("files", MEASURED, ids=lambda files: Path(files[-1]).stem)
def test_what_a_configuration_measures_can_stand_in_one_figure(files):
    rows = drawn(*files)
    assert len(rows) >= 2
    require_parity(rows, vary=["tier", "store", "connector"])


def test_the_test_finds_what_cannot():
    rows = drawn("config/gpu-box.yaml", kvrocks_striped_mp={"connections": 8})
    with pytest.raises(UserError, match="differ in connections"):
        require_parity(rows, vary=["tier", "store", "connector"])
