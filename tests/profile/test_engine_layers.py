"""Layers of an engine's environment, where there is none: null, with the reason."""

import sys

import pytest

from workflow.hyperkv.profile import engine_layers
from workflow.plugin.lmcache_striped.deadline import Endpoint


@pytest.fixture
def records(monkeypatch):
    """What is measured without torch and lmcache."""
    monkeypatch.setattr(engine_layers, "find_spec", lambda name: None)
    return list(engine_layers.measure(Endpoint("127.0.0.1", 1), 10, 1, 1))


def test_every_rung_has_both_operations_and_a_reason(records):
    assert [(rung, operation) for rung, operation, _ in records] == [
        (rung, operation) for rung in engine_layers.RUNGS for operation in ("set", "get")
    ]
    assert all(len(moved.notes) == 1 and moved.elapsed_s is None for *_, moved in records)
    assert {moved.notes[0] for rung, _, moved in records if rung == "gpu_copy"} == {"torch is not installed"}
    assert {moved.notes[0] for rung, _, moved in records if rung == "lmcache_resp"} == {
        "lmcache is not installed"
    }


def test_importing_it_imports_no_engine():
    assert not {"torch", "lmcache"} & set(sys.modules)
