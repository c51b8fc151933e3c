"""The engine-level half, without engines: who is measured, who wins, and what may be said of it."""

import pytest

from tests.record_factory import unknown_cell
from workflow.hyperkv.base.errors import StoreDied
from workflow.hyperkv.records.journal import Journal
from workflow.hyperkv.records.kinds.tune import Finalist
from workflow.hyperkv.records.record_file import Identity
from workflow.hyperkv.records.stats import Interval
from workflow.hyperkv.tune import finalists
from workflow.hyperkv.tune.finalists import (
    BETTER,
    Measurements,
    candidates,
    compare,
    conclusion,
    gain,
    ranked,
)
from workflow.hyperkv.tune.space import Parameter

CONNECTIONS = Parameter("connections", 2, (2, 1, 8, 16))
POLICY = Parameter("save_decode_cache", True, (True, False))
METRIC = "ttft_p50_ms"


def record(candidate, repeat, value, valid=True):
    reasons = [] if valid else ["wrong bytes"]
    of = {"phase": "finals", "candidate": candidate, "repeat": repeat, "parameters": {}, "cell": None}
    return Finalist(**of, value=value, valid=valid, reasons=reasons)


def test_the_scenario_as_it_is_comes_first_and_each_policy_is_tried_once():
    own = {"connections": 2, "save_decode_cache": True}
    found = candidates([CONNECTIONS, POLICY], own, [{"connections": 8}])
    assert found == [
        own,
        {"connections": 2, "save_decode_cache": False},
        {"connections": 8, "save_decode_cache": True},
        {"connections": 8, "save_decode_cache": False},
    ]
    assert candidates([CONNECTIONS], {"connections": 2}, []) == [{"connections": 2}]


def test_a_candidate_with_an_invalid_cell_never_wins():
    records = [record(0, 1, 10), record(0, 2, 12), record(1, 1, 1), record(1, 2, 1, valid=False)]
    records += [record(2, 1, 5), record(2, 2, 6)]
    assert ranked(records, METRIC) == [2, 0]
    assert ranked(records, "goodput_rps") == [0, 2]


def test_a_gain_pairs_the_repeats_in_which_both_are_valid():
    before = [record(0, 4, 10), record(0, 5, 20), record(0, 6, 30)]
    after = [record(1, 4, 5), record(1, 5, 5, valid=False), record(1, 6, 10)]
    assert gain(before, after, METRIC).median == pytest.approx(2.5)
    assert gain(before, after, "goodput_rps").median == pytest.approx((0.5 + 1 / 3) / 2)
    assert gain(before, [], METRIC).median is None


@pytest.mark.parametrize(
    ("interval", "winner", "words"),
    [
        (Interval(2.0, 1.5, 3.0), 1, BETTER),
        (Interval(1.2, 0.9, 3.0), 1, "not told apart"),
        (Interval(0.8, 0.7, 0.9), 1, "not told apart"),
        (Interval(2.0, None, None), 1, "not proved: one repeat has no interval"),
        (Interval(None, None, None), 1, "not proved: no repeat has both valid"),
        (Interval(None, None, None), 0, "nothing found better"),
    ],
)
def test_only_an_interval_above_one_is_better(interval, winner, words):
    assert conclusion(interval, winner, True) == words


def test_without_a_valid_candidate_that_is_said():
    assert conclusion(Interval(None, None, None), 0, False) == "no candidate is valid"


class FakeEngine:
    """Cells whose TTFT is 100 ms over the number of connections; a server that dies at 16."""

    def __init__(self):
        self.measured = []

    @staticmethod
    def points(spec):
        return ["single", 2]

    def Measurement(self, spec, repeat, logs):
        engine, connections = self, spec["scenario"]["connections"]

        class Open:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def measure(self, point):
                if point == "single":
                    return None
                engine.measured.append((connections, repeat))
                if connections == 16:
                    raise StoreDied("store valkey (pid 1) died")
                values = {METRIC: 100 / connections + repeat}
                return unknown_cell(values)

        return Open()


@pytest.fixture
def engine(monkeypatch):
    fake = FakeEngine()
    monkeypatch.setattr(finalists, "import_module", lambda name: fake)
    return fake


def cells(tmp_path, told=lambda line: None):
    spec = {
        "objective": {"metric": METRIC, "load": 2},
        "space": [CONNECTIONS.as_spec()],
        "sweep": {"engine": "fake", "scenario": {"connections": 2, "settings": {}, "environment": {}}},
    }
    return Measurements(spec, Journal(tmp_path / "finalists.jsonl", Identity("spec", "code")), tmp_path, told)


NUMBERED = {0: {"connections": 2}, 1: {"connections": 8}, 2: {"connections": 16}}


def test_the_winner_is_proved_on_repeats_it_was_not_chosen_on_and_a_crash_is_recorded(tmp_path, engine):
    lines = []
    found = compare(cells(tmp_path, lines.append), NUMBERED, METRIC, 2)
    assert (found.winner, found.words, found.kept) == (1, BETTER, 1)
    assert engine.measured == [
        *((2, 1), (8, 1), (16, 1)),
        *((8, 2), (16, 2), (2, 2)),
        *((2, 3), (8, 3)),
        *((8, 4), (2, 4)),
    ]
    dead = [item for item in found.finals if item.candidate == 2]
    assert [(item.valid, item.reasons) for item in dead] == [(False, ["store valkey (pid 1) died"])] * 2
    assert any("connections 16: not valid: store valkey (pid 1) died" in line for line in lines)


def test_cells_that_were_measured_are_not_measured_again(tmp_path, engine):
    first = compare(cells(tmp_path), NUMBERED, METRIC, 2)
    count = len(engine.measured)
    again = compare(cells(tmp_path), NUMBERED, METRIC, 2)
    assert len(engine.measured) == count
    assert again == first
