"""Which device pays: roles, gains paired by repeat, and where a curve crosses recompute, measured and predicted."""

import math
from copy import deepcopy

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import command, write_as_a_stage
from tests.record_factory import varied
from tests.tables.costs import NO_SLO, PRICES
from workflow.hyperkv.models.gpu import gpu_of_record
from workflow.hyperkv.tables import array
from workflow.hyperkv.tables.array import array_table, crossing
from workflow.hyperkv.tables.cost import cost_table, repeats_table
from workflow.hyperkv.tables.methods.array_text import array_text
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary

DEVICES = {"valkey-1gbps": "valkey", "valkey-2gbps": "valkey", "valkey-4gbps": "valkey"}
TTFT = {"none": 60, "dram": 20, "valkey": 30, "valkey-1gbps": 120, "valkey-2gbps": 80, "valkey-4gbps": 40}


def records(real, ttft=None, repeats=(1, 2)):
    """Recompute, the DRAM pool, a RAM store as it is and behind three devices, and this machine's disk."""
    found = []
    for name, value in (TTFT | {"files": 90} | (ttft or {})).items():
        for repeat in repeats:
            record = varied(
                real["none" if name == "none" else "dram"],
                {"ttft_p50_ms": value + repeat, "rps_per_gpu": 100 / (value + repeat)},
                repeat=repeat,
                scenario=name,
            )
            scenario = record["spec"]["scenario"]
            scenario |= {"name": name}
            if name.startswith("valkey"):
                scenario |= {"store": "valkey", "dram_pool_bytes": None}
                record["evidence"]["store_read_gbps"] = 5.0
            if name == "files":
                scenario |= {"store": "files", "tier": "ssd", "dram_pool_bytes": None}
                record["evidence"] |= {"store_read_gbps": 1.5, "device_write_bytes": 10**6}
            if name in DEVICES:
                gbps = int(name.removeprefix("valkey-").removesuffix("gbps"))
                scenario["shape"] = {
                    "read_gbps": gbps,
                    "write_gbps": 0.5,
                    "latency_us": None,
                    "queue_depth": None,
                }
                record["evidence"] |= {"shaped_read_gbps": gbps * 0.99, "shaped_read_share": 0.99}
            found.append(record)
    return found


def cost_of(found):
    return cost_table(repeats_table(found, PRICES, NO_SLO))


def table_of(found):
    return array_table(DEVICES, found, cost_of(found))


@pytest.fixture
def table(real):
    return table_of(records(real)).set_index("scenario")


def test_what_every_scenario_is(table):
    assert table["role"].to_dict() == {
        "none": "recompute",
        "dram": "dram",
        "valkey": "store",
        "files": "disk",
        **dict.fromkeys(DEVICES, "shaped"),
    }
    assert table["base"].dropna().to_dict() == DEVICES | {"valkey": "valkey"}
    assert table["read_gbps"].dropna().to_dict() == dict(zip(DEVICES, (1, 2, 4), strict=True))
    assert set(table.reset_index()) == set(columns_dictionary()["array"])


def test_gains_are_over_recompute_paired_by_repeat_and_give_the_verdict(table):
    assert table.loc["valkey-1gbps", "ttft_gain_low"] == pytest.approx(61 / 121)
    assert table.loc["valkey-4gbps", "rps_gain_high"] == pytest.approx(61 / 41)
    verdicts = {
        "valkey-1gbps": "loses",
        "valkey-2gbps": "loses",
        "valkey-4gbps": "pays",
        "files": "loses",
        "dram": "pays",
    }
    assert table["verdict"].dropna().to_dict() == verdicts | {"valkey": "pays"}


def test_one_repeat_decides_nothing(real):
    assert set(table_of(records(real, repeats=(1,)))["verdict"].dropna()) == {"undecided"}


def test_break_even_lies_between_devices_that_were_measured(table):
    shaped, others = table.loc[list(DEVICES)], table.drop(list(DEVICES))
    (found,) = shaped["break_even_ttft_gbps"].unique()
    gains = {2: 61.5 / 81.5, 4: 61.5 / 41.5}
    share = (1 - gains[2]) / (gains[4] - gains[2])
    assert found == pytest.approx(2 * 2**share)
    assert shaped["break_even_rps_gbps"].iloc[0] == pytest.approx(found, rel=0.02)
    assert others["break_even_ttft_gbps"].isna().all()


def test_a_device_that_was_not_held_has_no_part_in_it(real):
    found = records(real)
    for record in found:
        if record["scenario"] == "valkey-2gbps":
            record |= {"valid": False, "reasons": ["shape: loads went at 1.2 GB/s"]}
    table = table_of(found).set_index("scenario")
    assert 1 < table.loc["valkey-1gbps", "break_even_ttft_gbps"] < 4
    gains = {1: 61.5 / 121.5, 4: 61.5 / 41.5}
    share = (1 - gains[1]) / (gains[4] - gains[1])
    assert table.loc["valkey-4gbps", "break_even_ttft_gbps"] == pytest.approx(4**share)
    assert "not held: shape: loads went" in array_text(table.reset_index())


def test_the_prediction_is_of_the_requests_and_their_hits(real):
    found = records(real)
    for record in found:  # a GPU that is slow enough for its time to hang on the tokens
        record["gpu_model"] |= {"prefill_tokens_per_s": 1000.0, "prefill_min_s": 0.0, "decode_base_s": 0.0}
    table, record = table_of(found), found[-1]
    gpu, requests = gpu_of_record(record["gpu_model"]), record["requests"]
    saved_s, size = 0.0, 0
    for number, prompt in enumerate(requests["prompt_tokens"]):
        held = requests["hbm_hit_tokens"][number]
        if hit := requests["hit_tokens"][number] - held:
            saved_s += gpu.step_s([(prompt - held, held)], []) - gpu.step_s(
                [(prompt - held - hit, held + hit)], []
            )
            size += requests["loaded_bytes"][number]
    (predicted,) = table["predicted_gbps"].dropna().unique()
    assert predicted == pytest.approx(size / (saved_s - gpu.copy_s(size)) / 1e9)


def test_a_device_costs_the_drives_that_read_so_fast(real):
    found = records(real)
    for record in found:
        record["evidence"]["saved_bytes"] = 1000
    cost = cost_of(found)
    at = cost[cost["at"] == "load"].set_index("scenario")
    drives = at.loc[list(DEVICES), "ssd_share"] * at.loc[list(DEVICES), "usd_per_hour"]
    drive_usd = PRICES["ssd_usd_per_gb"] * PRICES["ssd_capacity_gb"] / 8766
    expected = [gbps / PRICES["ssd_read_gbps"] * drive_usd for gbps in (1, 2, 4)]
    assert drives.tolist() == pytest.approx(expected)
    assert at.loc["valkey", "ssd_bytes"] == at.loc["valkey-1gbps", "dram_bytes"] == 0
    table = array_table(DEVICES, found, cost).set_index("scenario")
    assert table["usd_per_million_tokens"].to_dict() == pytest.approx(at["usd_per_million_tokens"].to_dict())


@pytest.mark.parametrize(
    ("ttft", "words"),
    [
        ({}, "first tokens come earlier than by recompute from 2.5 GB/s on"),
        ({"none": 200}, "from 1 GB/s on, the slowest device"),
        ({"none": 10}, "later than by recompute up to 4 GB/s, the fastest device"),
    ],
)
def test_the_verdict_in_words(real, ttft, words):
    text = " ".join(array_text(table_of(records(real, ttft))).split())
    assert words in text
    assert "valkey, 2 clients: " in text


def test_without_a_valid_cell_of_recompute_nothing_is_said_to_be_later(real):
    found = records(real)
    for record in found:
        if record["scenario"] == "none":
            record |= {"valid": False, "reasons": ["a reason"]}
    text = " ".join(array_text(table_of(found)).split())
    assert "first tokens are not compared with recompute's, of which no valid cell is there" in text
    assert "later" not in text


def test_its_command_writes_table_and_text(tmp_path, real):
    found = records(real)
    write_as_a_stage(tmp_path / "cells.jsonl", found)
    cost_of(found).to_csv(tmp_path / "cost.csv", index=False)
    out, text = tmp_path / "array.csv", tmp_path / "array.txt"
    spec = '{"devices": {"valkey-1gbps": "valkey"}}'
    options = ["--spec", spec, "--cells", tmp_path / "cells.jsonl", "--cost", tmp_path / "cost.csv"]
    command(array, *options, "--out", out, "--text", text)
    assert (pd.read_csv(out)["role"] == "shaped").sum() == 1
    command(array, "--spec", '{"devices": {}}', *options[2:], "--out", out, "--text", text)
    assert "No scenario was put behind a device" in text.read_text()


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), max_size=6))
def test_a_crossing_lies_between_the_points_around_it(points):
    points = sorted({gbps: (gbps, gain) for gbps, gain in points}.values())
    found = crossing(points)
    if found is None:
        assert not points or points[-1][1] < 1 or all(gain >= 1 for _, gain in points)
        return
    low = max(gbps for gbps, gain in points if gain < 1)
    high = min(gbps for gbps, gain in points if gbps > low)
    assert low * (1 - 1e-9) <= found <= high * (1 + 1e-9)
    assert all(gain >= 1 for gbps, gain in points if gbps > low)


def test_a_crossing_is_straight_over_the_logarithm():
    assert crossing([(1, 0.5), (4, 1.5)]) == pytest.approx(2)
    assert crossing([(1, 0.5), (2, math.nan), (4, 1.5)]) == pytest.approx(2)
    assert crossing([(1, 2), (2, 0.5), (8, 2)]) == pytest.approx(2 * 4 ** (1 / 3))


def test_records_are_left_as_they_are(real):
    found = records(real)
    before = deepcopy(found)
    table_of(found)
    assert found == before
