"""Layers of an engine's environment, where there is none: null, with the reason."""

import sys

import pytest

from workflow.hyperkv.base.deadline import Endpoint
from workflow.hyperkv.profile import engine_layers


@pytest.fixture
def records(monkeypatch):
    """What is measured without torch and lmcache."""
    monkeypatch.setattr(engine_layers, "find_spec", lambda name: None)
    return list(engine_layers.measure(Endpoint("127.0.0.1", 1), 10, 1, 1))


def test_every_rung_has_both_operations_and_a_reason(records):
    assert [(r["rung"], r["operation"]) for r in records] == [
        (rung, operation) for rung in engine_layers.RUNGS for operation in ("set", "get")
    ]
    assert all(len(record["notes"]) == 1 and "elapsed_s" not in record for record in records)
    assert {r["notes"][0] for r in records if r["rung"] == "gpu_copy"} == {"torch is not installed"}
    assert {r["notes"][0] for r in records if r["rung"] == "lmcache_resp"} == {"lmcache is not installed"}


def test_importing_it_imports_no_engine():
    assert not {"torch", "lmcache"} & set(sys.modules)
