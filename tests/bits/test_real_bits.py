"""What `make bits` left, and what it stands on: run `python -m pytest -m engine tests/bits` after it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from workflow.hyperkv.machine.probe import call
from workflow.hyperkv.models.serde import TURBOQUANT

pytestmark = pytest.mark.engine
TABLE = Path("results/tables/bits.csv")
KV_BYTES = 2 * 6 * 32 * 192 * 2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What LMCache's kernels make of a chunk, in Triton's interpreter."""
    python = json.loads(Path("results/build/current/current.json").read_text())["python"]
    caches = str(tmp_path_factory.mktemp("caches"))
    own = ["TRITON_INTERPRET=1", f"TRITON_CACHE_DIR={caches}", f"NUMBA_CACHE_DIR={caches}", "PYTHONPATH=."]
    found = call(["env", *own, python, "tests/bits/in_engine.py"], 600)
    assert found.status == 0, found.errors
    return json.loads(found.text.splitlines()[-1])


def test_a_copy_loses_nothing_and_fp8_and_two_bits_lose_as_much_as_they_must(made):
    assert made["bf16"] == {"bytes": KV_BYTES, "most": 0}
    assert (made["fp8"]["bytes"], made["fp8"]["most"] > 0) == (KV_BYTES // 2, True)
    assert made["rounded_2bit"]["bytes"] == KV_BYTES // 8 + 2 * 6 * 32 * 2 * 2
    assert made["rounded_2bit"]["most"] > 4 * made["fp8"]["most"]


@pytest.mark.parametrize("preset", TURBOQUANT)
def test_turboquants_arithmetic_is_that_of_its_kernels(made, preset):
    """Bit by bit, and something is lost."""
    assert made[preset]["written"] == made[preset]["bytes"]
    assert (made[preset]["differ"], made[preset]["lost"]) == (0, True)


def test_the_control_has_no_loss_and_the_coarse_format_has():
    table = pd.read_csv(TABLE).drop_duplicates("format").set_index("format")
    for control in ("bf16", "vllm_bf16"):
        assert (table.loc[control, "agreement"], table.loc[control, "perplexity_ratio"]) == (1, 1)
        assert table.loc[control, "equal_tokens_least"] == table.loc[control, "answer_tokens"] >= 64
    coarse = table.loc["rounded_2bit"]
    assert coarse["agreement"] < 0.9
    assert coarse["perplexity_ratio_low"] > 1.1
    assert table.loc["fp8", "share"] == 0.5
    assert table.loc["fp8", "agreement"] > coarse["agreement"]
