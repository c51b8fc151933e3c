"""Regret of the gate against the better of recompute and loading everything: a sample of the cells of `make regret`."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.hyperkv.engines.replay.model_cell import draw
from workflow.hyperkv.engines.replay.regret import (
    ALWAYS,
    MOST,
    NONE,
    REGRETS,
    THROUGHPUT,
    TTFT,
    Outcome,
    compared,
    keyed_conversations,
    main,
    play,
    regret_of,
    told,
)
from workflow.hyperkv.engines.replay.request import ReplayResult, Request, Totals

SEED, REQUESTS = 2, 300


@pytest.mark.parametrize("number", range(12))
def test_the_gate_is_within_5_percent_of_the_better_of_recompute_and_always_load(number):
    row = regret_of(number, SEED, REQUESTS, repeats=(1, 3))
    assert max(row[name] for name in REGRETS) <= MOST, row


def test_loading_always_and_never_are_not():
    """What the bound above would say of both, in a cell where the other is better."""
    worst = {}
    for number in (7, 10):
        cell = draw(number, SEED, REQUESTS)
        keyed = keyed_conversations(cell)
        none = play(cell, keyed, NONE)
        always = play(cell, keyed, ALWAYS, change_s=none.window_s / 2)
        slo_s = 2 * min(none.percentile_s(50), always.percentile_s(50))
        for name, gate in (("never", none), ("always", always)):
            row = compared({NONE: none, ALWAYS: always, TTFT: gate, THROUGHPUT: gate}, slo_s)
            worst[name] = max(worst.get(name, 0.0), max(row[each] for each in REGRETS))
    assert worst["never"] > MOST
    assert worst["always"] > MOST


def test_where_nothing_is_ever_found_loading_everything_is_recompute():
    """A prompt of which nothing is there waits for no load and no save: the control loses nothing that a gate would not lose."""
    cell = draw(3, SEED, REQUESTS)
    cell = replace(cell, workload=replace(cell.workload, turns=(1, 1)))
    keyed = keyed_conversations(cell)
    none, always = play(cell, keyed, NONE), play(cell, keyed, ALWAYS)
    assert always.percentile_s(50) == pytest.approx(none.percentile_s(50), rel=0.02)


def outcome(ttft_ms, window_s=10.0):
    return Outcome(np.array(ttft_ms) / 1e3, np.full(len(ttft_ms), True), window_s)


def test_regret_is_against_the_better_of_both_in_each_figure():
    outcomes = {
        NONE: outcome([100] * 50),
        ALWAYS: outcome([80] * 40 + [400] * 10),
        TTFT: outcome([88] * 40 + [110] * 10),
        THROUGHPUT: outcome([100] * 45 + [170] * 5),
    }
    row = compared(outcomes, slo_s=0.16)
    assert row["ttft_p50_regret"] == pytest.approx(0.1)
    assert row["ttft_p99_regret"] == pytest.approx(0.1)
    assert row["throughput_slo_regret"] == pytest.approx(0.1)
    assert (row["none_rps"], row["always_slo_rps"], row["requests"]) == (5.0, 4.0, 50)


def test_requests_count_when_every_client_has_had_a_first_token_and_the_first_tenth_does_not():
    def request(client, arrival_s, first_token_s):
        return Request(
            "", 0, client, 1, 1, (), (), arrival_s, first_token_s=first_token_s, finish_s=first_token_s
        )

    begin = [request(client, 0.01 * client, 3.0 + client) for client in range(4)]
    waits = [request(0, 3.5, 6.9)]
    later = [request(number % 4, 10.0 + number, 10.5 + number) for number in range(15)]
    outcome = Outcome.of(ReplayResult(begin + waits + later, 100.0, Totals()))
    assert outcome.ttft_s == pytest.approx([0.5] * 15)
    assert outcome.window_s == pytest.approx(90.0)
    more = [request(number % 4, 10.0 + number, 10.5 + number) for number in range(75)]
    assert len(Outcome.of(ReplayResult(begin + waits + more, 100.0, Totals())).ttft_s) == 72


def test_repeats_count_together():
    both = Outcome.together([outcome([100, 300]), outcome([200], 5.0)])
    assert both.percentile_s(50) == pytest.approx(0.2)
    assert both.rps(0.25) == pytest.approx(2 / 15)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_a_cell_is_drawn_from_its_number_and_lies_in_the_stated_ranges(number):
    cell = draw(number, 1, REQUESTS)
    assert cell == draw(number, 1, REQUESTS)
    assert cell != draw(number + 1, 1, REQUESTS)
    assert 0.5 <= cell.device.gbps <= 20
    assert 20e-6 <= cell.device.chunk_s <= 2e-3
    assert 1 <= cell.clients <= 64
    assert cell.geometry.parameters >= 1e9
    assert cell.gpu_model.gpus == cell.gpus <= 8


def test_the_text_has_the_distribution_and_names_the_cells_above(tmp_path, capsys):
    main(
        out=tmp_path / "deep/regret.csv",
        text=tmp_path / "regret.txt",
        cells=2,
        seed=SEED,
        requests=60,
        workers=1,
    )
    table = pd.read_csv(tmp_path / "deep/regret.csv")
    assert list(table.cell) == [0, 1]
    assert not table.isna().any().any()
    assert (tmp_path / "regret.txt").read_text() == capsys.readouterr().out
    table.loc[1, REGRETS[1]] = 0.5
    table.loc[0, list(REGRETS)] = -0.1
    table.loc[1, REGRETS[0]] = 0.01
    text = told(table)
    assert "over 2 cells" in text
    assert "50.0%" in text
    assert "cell 1:" in text
    assert "cell 0:" not in text
