"""What the page says where two pairs of vLLM and LMCache were measured: each beside its own baseline."""

import pandas as pd
import pytest

from tests.figures.made import around
from workflow.hyperkv.report.answer import price_of_ssd
from workflow.hyperkv.report.rows import baseline_words, ratios_rows, scenario_rows

SCENARIOS = pd.DataFrame(
    {
        "scenario": name,
        "pair": pair,
        "tier": tier,
        "store": store,
        "connector": connector,
        "chunk_tokens": 64,
        "load": 4,
        "valid": True,
        "device_share": 0.9 if tier == "ssd" else None,
        "hit_rate": 0.5,
        "served_from": "ssd",
    }
    | {"rps_per_gpu": 1.0, "tps_per_user": 2.0, "ttft_p50_ms": 3.0, "ttft_p95_ms": 4.0}
    for name, pair, tier, store, connector in (
        ("none", "current", "none", "", ""),
        ("disk_mp", "current", "ssd", "kvrocks", "striped_mp"),
        ("dram", "reference", "dram", "dram", "inprocess"),
        ("disk", "reference", "ssd", "kvrocks", "resp"),
    )
)
RATIOS = pd.DataFrame(
    {"baseline": baseline, "scenario": name, "at": "load", "load": 4, "metric": "rps_per_gpu", "unlike": None}
    | around("ratio", value)
    for baseline, name, value in (("none", "disk_mp", 0.5), ("dram", "disk", 2.0))
)


def test_the_answer_has_a_sentence_for_each_pair():
    assert price_of_ssd(SCENARIOS, RATIOS) == (
        "With pair current: at 4 clients scenario none serves 0.500 [0.400, 0.600] times the requests of the best SSD scenario "
        "behind a server (disk_mp); of the bytes loaded from SSD, 90 % were read from the block device. "
        "With pair reference: at 4 clients the DRAM pool (dram) serves 2.00 [1.90, 2.10] times the requests of the best SSD "
        "scenario behind a server (disk); of the bytes loaded from SSD, 90 % were read from the block device."
    )


def test_the_answer_is_at_the_highest_load_that_all_of_the_compared_have():
    rows = RATIOS.assign(baseline="dram")
    more = pd.concat([rows, rows[rows["scenario"] == "disk"].assign(load=9, ratio=7.0)])
    one_pair = SCENARIOS.assign(pair="current")
    assert price_of_ssd(one_pair, more) == price_of_ssd(one_pair, rows)
    assert price_of_ssd(one_pair, more[(more["scenario"] == "disk_mp") | (more["load"] == 9)]).startswith(
        "At 9 clients "
    )


@pytest.mark.parametrize("pair", ["current", None])
def test_of_one_pair_nothing_is_said(pair):
    assert "pair" not in price_of_ssd(SCENARIOS.assign(pair=pair), RATIOS.assign(baseline="dram"))
    one = ratios_rows(RATIOS.assign(baseline="dram"))
    assert one is not None
    assert [row[0] for row in one.rows] == ["disk_mp", "disk"]
    assert [row[0] for row in scenario_rows(SCENARIOS.assign(pair=pair)).rows] == list(SCENARIOS["scenario"])


def test_rows_of_two_pairs_name_them():
    found = ratios_rows(RATIOS)
    assert found is not None
    assert [row[0] for row in found.rows] == ["disk_mp (none over it)", "disk (dram over it)"]
    assert baseline_words(RATIOS) == "none, dram"
    names = [row[0] for row in scenario_rows(SCENARIOS).rows]
    assert names == ["none (current)", "disk_mp (current)", "dram (reference)", "disk (reference)"]


def test_of_an_open_loop_first_tokens_are_compared():
    """The best SSD scenario is the one whose first tokens come soonest; its requests/s are the clock's."""
    opened = RATIOS.assign(baseline="dram", loop="open", load=0.4, metric="ttft_p50_ms")
    assert price_of_ssd(SCENARIOS.assign(pair="current", loop="open", load=0.4), opened).startswith(
        "At 0.4 conversations/s the DRAM pool (dram) has 2.00 [1.90, 2.10] times the median TTFT of the best SSD scenario behind a server (disk)"
    )
    found = ratios_rows(opened)
    assert found is not None
    assert (found.headers[1], found.rows[0][1]) == ("conversations/s", "0.4")
