"""The grammar of claims: what it reads, what it refuses in one line, and that it never runs anything."""

import ast
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.tables.judging.claims_file import columns_dictionary
from workflow.hyperkv.tables.judging.expressions import (
    Condition,
    EqualSpeed,
    Median,
    Named,
    Number,
    Operation,
    Selection,
    parse_condition,
    parse_expression,
    parts_of,
    tables_of,
)

MEDIAN = "median(cells.rps_per_gpu, store='dram')"


def read(text):
    return parse_expression(text, columns_dictionary())


def outcome(parse, text):
    """What a text is read as, or the message of the UserError; anything else that is raised fails the test."""
    try:
        return parse(text)
    except UserError as error:
        return str(error)


def test_a_ratio_of_medians_is_read_with_its_selections():
    found = read('median(cells.rps_per_gpu, store=["kvrocks", "rocksdb"], load=highest) / 2')
    rows = Selection("cells", (("store", ("kvrocks", "rocksdb")), ("load", (Named("highest"),))))
    assert found == Operation("/", (Median("rps_per_gpu", rows), Number(2.0)))
    assert tables_of(found) == {"cells"}


def test_equal_speed_choices_and_signs_are_read():
    found = read("-equal_speed(cells(tier='dram'), cells(tier='ssd')) + largest(1, 2.5, smallest(3, 4))")
    kinds = [type(part) for part in parts_of(found)]
    assert kinds.count(EqualSpeed) == 1
    assert kinds.count(Number) == 4
    assert tables_of(found) == {"cells"}


def test_a_column_that_is_a_word_of_python_has_an_underscore():
    found = read("median(latency.ttft_s, pass_='loaded', chunk_tokens=compared)")
    assert found.selection.where == (("pass", ("loaded",)), ("chunk_tokens", (Named("compared"),)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("median(cell.rps_per_gpu)", "there is no table cell; allowed are cells, "),
        ("median(cells.rps)", "table cells has no column rps; it has engine, "),
        ("median(cells.rps_per_gpu, shop='dram')", "table cells has no column shop; it has engine, "),
        ("median(cells.store)", "cells.store is text, not a number"),
        ("median(cells.valid)", "cells.valid is boolean, not a number"),
        ("median(cells.rps_per_gpu, load='4')", "cells.load='4' is wrong; it must be number"),
        ("median(cells.rps_per_gpu, load=True)", "cells.load=True is wrong; it must be number"),
        ("median(cells.rps_per_gpu, store=4)", "cells.store=4 is wrong; it must be text"),
        (
            "median(cells.rps_per_gpu, store=dram)",
            "cells.store=dram is wrong; it must be text (text in quotes)",
        ),
        ("median(cells.rps_per_gpu, load=most)", "it must be a number, highest, lowest, compared"),
        ("median(cells.rps_per_gpu, valid='yes')", "cells.valid='yes' is wrong; it must be boolean"),
        ("median(cells.rps_per_gpu, load=[])", "cells.load: the list is empty"),
        ("median(cells.rps_per_gpu, **{'load': 1})", "** is not allowed"),
        ("median(cells.rps_per_gpu, 4)", "median takes one table.column"),
        ("median(5)", "median takes one table.column"),
        ("median(cells.rps_per_gpu.real)", "median takes one table.column"),
        (
            "mean(cells.rps_per_gpu)",
            "mean is not a function; allowed are median, equal_speed, largest, smallest",
        ),
        ("cells.rps_per_gpu.mean()", "cells.rps_per_gpu.mean is not a function"),
        ("cells.rps_per_gpu", "cells.rps_per_gpu stands alone"),
        ("'dram' / 2", "dram is text where a number is wanted"),
        (f"{MEDIAN} / 'dram'", "dram is text where a number is wanted"),
        (f"{MEDIAN} / 0", "divides by 0"),
        (f"{MEDIAN} / 0.0", "divides by 0"),
        (f"{MEDIAN} ** 2", "is not allowed; write numbers, + - * /"),
        (f"{MEDIAN} > 2", "is not allowed; write numbers, + - * /"),
        ("1e999", "1e309 is not allowed"),
        (f"{'9' * 400}", "is not allowed"),
        ("largest(1)", "largest needs at least two parts"),
        ("largest(1, 2, store='x')", "largest takes no store="),
        ("equal_speed(cells(tier='ssd'))", "equal_speed compares two curves"),
        ("equal_speed(cells(tier='ssd'), stores(tier='ssd'))", "stores(tier='ssd') is not a curve"),
        ("equal_speed(1, 2)", "1 is not a curve"),
        ("__import__('os').system('true')", "is not a function"),
        ("open('x')", "open is not a function"),
        ("(lambda: 1)()", "is not a function"),
        ("[1 for _ in 'x']", "is not allowed"),
        ("value", "value is not allowed"),
        ("1 +", "cannot be read"),
        ("", "it must be text"),
        ("1" + " + 1" * 400, "characters are too many"),
        ("(" * 400 + "1" + ")" * 400, "cannot be read"),
        ("\0", "cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(text, message):
    with pytest.raises(UserError) as error:
        read(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


NAMES = st.sampled_from(
    ["cells", "stores", "median", "equal_speed", "largest", "smallest", "rps_per_gpu", "gbps", "store", "load",
     "value", "highest", "compared", "__class__", "os", "'dram'", "1", "2.5", "True", "None", "eval", "print"]
)  # fmt: skip
TOKENS = st.one_of(NAMES, st.sampled_from([*"()[]{}.,=+-*/<>:'%@", "==", " ", "**", "lambda", "if", "else"]))
ALLOWED = (Number, Median, EqualSpeed, Operation)


@given(st.one_of(st.text(max_size=80), st.lists(TOKENS, max_size=30).map("".join)))
@example("__import__('os')")
@example("().__class__.__bases__[0].__subclasses__()")
def test_any_text_is_an_expression_of_the_grammar_or_a_user_error(text):
    found = outcome(read, text)
    if isinstance(found, str):
        assert "\n" not in found
        return
    assert all(isinstance(part, ALLOWED) for part in parts_of(found))
    tree = ast.parse(" ".join(text.split()), mode="eval")
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert {call.id for call in calls} <= {"median", "equal_speed", "largest", "smallest", "cells"}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert all(node.attr in columns_dictionary()[node.value.id] for node in attributes)


@given(st.one_of(st.text(max_size=40), st.lists(TOKENS, max_size=15).map("".join)))
def test_any_text_is_a_condition_or_a_user_error(text):
    found = outcome(parse_condition, text)
    assert "\n" not in found if isinstance(found, str) else found.low <= found.high


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value >= 2.5", Condition(2.5, False, math.inf, True)),
        ("value < -1", Condition(-math.inf, True, -1.0, True)),
        ("2 <= value <= 3", Condition(2.0, False, 3.0, False)),
        ("3 > value > 2", Condition(2.0, True, 3.0, True)),
        ("value > 1 and value >= 2 and value <= 9", Condition(2.0, False, 9.0, False)),
        ("value >= 2 and value > 2", Condition(2.0, True, math.inf, True)),
        ("value <= 2 and value < 2", Condition(-math.inf, True, 2.0, True)),
        ("2 <= value <= 2", Condition(2.0, False, 2.0, False)),
    ],
)
def test_conditions_are_ranges(text, expected):
    assert parse_condition(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("value", "allowed are <, <=, >, >= and `and`"),
        ("value == 2", "allowed are <, <=, >, >= and `and`"),
        ("value > 1 or value < 0", "allowed are <, <=, >, >= and `and`"),
        ("value > 'x'", "'x' is wrong; allowed are `value` and numbers"),
        ("value > other", "other is wrong; allowed are `value` and numbers"),
        ("1 < 2", "compare `value` with a number"),
        ("value < value", "compare `value` with a number"),
        ("3 <= value <= 2", "no value can be so"),
        ("2 < value < 2", "no value can be so"),
        ("2 <= value < 2", "no value can be so"),
        ("value >", "cannot be read"),
        (None, "it must be text"),
    ],
)
def test_wrong_conditions_are_one_line(text, message):
    with pytest.raises(UserError) as error:
        parse_condition(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
