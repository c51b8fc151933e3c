"""Cells of engine vllm on stand-ins of vLLM and AIPerf (tests/fake_engine)."""

from pathlib import Path

import pytest

from tests.engines.vllm.slices import slice_of

ROOT = Path(__file__).parents[3]


@pytest.fixture
def fake_modules(monkeypatch):
    """The stand-ins are what `python -m vllm...` and `python -m aiperf` find."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/fake_engine"))


@pytest.fixture
def spec(tmp_path, fake_modules):
    """The slice of a scenario with a DRAM pool, one load of two clients and two single requests."""
    return slice_of(tmp_path)
