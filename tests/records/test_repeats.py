"""What a load is called: of clients who wait for their answers, of an open loop, of a trace."""

import pandas as pd
import pytest

from workflow.hyperkv.records.repeats import is_closed, load_unit, load_words, loop_of


def rows(loads, **columns):
    return pd.DataFrame({"load": loads, **{name: [value] * len(loads) for name, value in columns.items()}})


@pytest.mark.parametrize(
    ("loads", "loop", "unit", "words"),
    [
        ([1], "closed", "clients", "1 client"),
        ([4, 2, 4], "closed", "clients", "2, 4 clients"),
        ([3], None, "clients", "3 clients"),
        ([0.4], "open", "conversations/s", "0.4 conversations/s"),
        ([1], "open", "conversations/s", "1 conversations/s"),
        ([2], "trace", "load", "its trace's times"),
    ],
)
def test_a_load_is_called_what_it_counts(loads, loop, unit, words):
    table = rows(loads, loop=loop)
    assert (load_unit(table), load_words(table)) == (unit, words)
    assert is_closed(table) == (unit == "clients")


def test_rows_that_do_not_tell_their_loop_are_of_clients():
    assert load_words(rows([2, 8])) == "2, 8 clients"


@pytest.mark.parametrize(
    ("engine", "spec", "loop"),
    [
        ("vllm", {"workload": {"kind": "multi_turn"}}, "closed"),
        ("vllm", {"workload": {"kind": "multi_turn"}, "loop": "open"}, "open"),
        ("vllm", {"workload": {"kind": "trace"}, "loop": "open"}, "trace"),
        ("replay", {"workload": {"kind": "trace"}}, "closed"),
    ],
)
def test_a_trace_has_its_own_times_with_a_real_engine(engine, spec, loop):
    assert loop_of({"engine": engine, "spec": spec}) == loop
