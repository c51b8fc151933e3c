"""Table bits: how answers and texts differ from the control's, and what a format costs before an SSD."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.record_factory import coded
from workflow.hyperkv.tables.bits import bits_table, quality

PRICES = {"gpu_usd_per_hour": 3.6, "server_usd": 0.0, "ssd_usd_per_gb": 0.1, "ssd_capacity_gb": 8000.0, "ssd_read_gbps": 7.0,
          "ssd_tbw_tb": 14000.0, "ssd_write_amplification": 1.0, "dram_usd_per_gb": 0.0, "dram_power_w_per_gb": 0.0, "ssd_power_w": 0.0,
          "gpu_power_w": 0.0, "server_power_w": 0.0, "pue": 1.0, "usd_per_kwh": 0.0, "amortisation_years": 5.0}  # fmt: skip

CONTROL = coded("bf16", [1, 2, 3, 4], [1, 2, 3, 4], 2.0, stored_bytes=5120)


def test_a_format_is_held_against_its_control():
    found = quality(coded("fp8", [1, 2, 9], [1, 2, 9, 4], 2.0 + math.log(1.5)), CONTROL)
    assert (found["equal_tokens"], found["answer_tokens"]) == (2, 4)
    assert (found["agreement"], found["forced_tokens"]) == (0.75, 8)
    assert found["perplexity_ratio"] == pytest.approx(1.5)
    assert (found["bytes_per_token"], found["share"]) == (10, 0.5)


@given(st.lists(st.integers(0, 9), min_size=1), st.data())
def test_what_differs_later_is_longer_alike(tokens, data):
    place = data.draw(st.integers(0, len(tokens)))
    other = [*tokens[:place], *(token + 1 for token in tokens[place:])]
    found = quality(coded("x", other, other, 1.0), coded("bf16", tokens, tokens, 1.0))
    assert found["equal_tokens"] == place
    assert found["agreement"] == place / len(tokens)
    assert found["perplexity_ratio"] == 1


def test_without_a_model_nothing_is_said_of_quality():
    found = quality(CONTROL | {"answers": [], "texts": []}, CONTROL | {"answers": [], "texts": []})
    assert {found[name] for name in ("agreement", "equal_tokens", "perplexity_ratio", "forced_tokens")} == {
        None
    }


def test_a_row_for_each_stated_gbps_and_one_of_a_format_without():
    row = {"format": "fp8", "model": "l", "gpu": "g", "gpus": 1, "stated_gbps": None, "ssd_bytes": 0.0,
           "written_bytes_per_s": 0.0, "tokens_per_s": 1000.0}  # fmt: skip
    stored = row | {"stated_gbps": 14.0, "ssd_bytes": 8e12}
    coarse = coded("rounded_2bit", [5], [5, 5, 5, 5], 9.0)
    table = bits_table(
        [CONTROL, coded("fp8", [1], [1, 2, 3, 4], 2.0), coarse], pd.DataFrame([row, stored]), PRICES
    )
    assert table["format"].tolist() == ["bf16", "fp8", "fp8", "rounded_2bit"]
    computed, with_drives = table[table["format"] == "fp8"]["usd_per_million_tokens"]
    assert computed == pytest.approx(1.0)  # 3.6 dollars an hour, 3.6 million tokens
    drives = 2 * 800 / (5 * 8766) / 3.6  # two read 14 GB/s
    assert with_drives == pytest.approx(1 + drives)
    assert table["usd_per_million_tokens"].isna().tolist() == [True, False, False, True]
