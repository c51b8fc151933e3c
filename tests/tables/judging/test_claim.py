"""What a file of claims may hold: every mistake is one line that names file, claim and key."""

from pathlib import Path

import pytest
import yaml

from tests.tables.judging.written import EQUAL_SPEED, RATIO, claim, median, read, written
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.tables.judging.claim import Named, claimed_records, claimed_tables, read_claims

DIFFERENCE = {**RATIO, "kind": "difference", "minus": RATIO["over"]}
DIFFERENCE.pop("over")
PREDICTED = {"table": "hit_rates", "column": "hit_rate", "of": {"case": "a"}, "minus": {"case": "b"}}


def test_every_side_of_a_comparison_is_as_where_says(tmp_path):
    found = read(tmp_path, over=[{"store": ["kvrocks", "files"]}, {"tier": "none"}])
    assert found.where == {"load": (Named.HIGHEST,)}
    assert found.of == {"store": ("dram",), "load": (Named.HIGHEST,)}
    assert found.over[0] == {"store": ("kvrocks", "files"), "load": (Named.HIGHEST,)}
    assert found.over[1] == {"tier": ("none",), "load": (Named.HIGHEST,)}
    assert list(found.over[0]) == ["store", "load"]


def test_values_are_numbers_texts_and_booleans_of_their_columns(tmp_path):
    where = {"pass": "loaded", "valid": True, "prompt_tokens": 8192, "gpus": "compared"}
    found = read(tmp_path, median("latency", "ttft_s", **where))
    assert found.where == {
        "pass": ("loaded",),
        "valid": (True,),
        "prompt_tokens": (8192.0,),
        "gpus": (Named.COMPARED,),
    }


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        ({"at_least": 2.5}, "value >= 2.5"),
        ({"below": -1}, "value < -1"),
        ({"at_least": 2, "at_most": 3}, "2 <= value <= 3"),
        ({"above": 2, "below": 3}, "2 < value < 3"),
        ({"above": 0.06, "at_most": 0.1}, "0.06 < value <= 0.1"),
        ({"at_least": 2, "at_most": 2}, "2 <= value <= 2"),
    ],
)
def test_a_condition_is_said_as_a_range(tmp_path, condition, text):
    assert read(tmp_path, condition=condition).condition == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "A claim"}, "claim 1 (A claim): id: 'A claim' is wrong"),
        ({"id": None}, "claim 1: id: None is wrong; it should be a valid string"),
        ({"statement": " "}, "claim 1 (a_claim): statement: it is empty"),
        ({"source": 5}, "claim 1 (a_claim): source: 5 is wrong; it should be a valid string"),
        ({"reason": "x"}, "claim 1 (a_claim): reason is not a key; allowed are table, column, where, id, "),
        ({"minus": {}}, "minus is not a key; allowed are "),
        ({"kind": "mean"}, "kind: 'mean' is wrong; allowed are ratio, difference, median, at_equal_speed"),
        ({"kind": ["ratio"]}, "kind: ['ratio'] is wrong"),
        ({"kind": "difference", "over": None}, "over is not a key"),
        ({"table": "cell"}, "table: there is no table cell; allowed are cells, "),
        ({"table": "requests"}, "table: there is no table requests; allowed are cells, "),
        ({"table": "claims"}, "table: there is no table claims; allowed are cells, "),
        ({"table": "tune"}, "table: there is no table tune; allowed are cells, "),
        ({"table": 5}, "table: 5 is wrong"),
        ({"column": "rps"}, "column: table cells has no column rps; it has engine, "),
        ({"column": "store"}, "column: cells.store is text, not a number"),
        ({"column": "valid"}, "column: cells.valid is boolean, not a number"),
        ({"of": "dram"}, "of: 'dram' is wrong; it must be a mapping of columns to values"),
        ({"of": [{"store": "dram"}]}, "is wrong; it must be a mapping of columns to values"),
        ({"of": {"shop": "dram"}}, "of: table cells has no column shop; it has engine, "),
        ({"of": {1: "dram"}}, "of: table cells has no column 1; it has engine, "),
        ({"of": {"load": 4}}, "of: load is in `where` as well; leave one out"),
        ({"of": {"store": []}}, "of: store: the list is empty"),
        ({"of": {"store": 4}}, "of: store: 4 is wrong; it must be text"),
        ({"of": {"store": None}}, "of: store: None is wrong; it must be text"),
        ({"of": {"store": {"a": "b"}}}, "is wrong; it must be text"),
        ({"of": {"valid": "yes"}}, "of: valid: 'yes' is wrong; it must be boolean"),
        ({"where": {"load": "4"}}, "where: load: '4' is wrong; it must be a number, highest, lowest"),
        ({"where": {"load": True}}, "where: load: True is wrong; it must be a number, highest, lowest"),
        ({"where": {"load": [4, "most"]}}, "where: load: 'most' is wrong; it must be a number"),
        ({"over": []}, "over: [] is wrong; it must be a mapping"),
        ({"over": [{"store": "files"}, {"shop": "x"}]}, "over: table cells has no column shop"),
        ({"vary": ["shop"]}, "vary.0: no table has a column shop"),
        ({"vary": "store"}, "vary: 'store' is wrong; it should be a valid list"),
        ({"vary": [5]}, "vary.0: 5 is wrong"),
        ({"above": "1"}, "above: '1' is wrong; it should be a valid number"),
        ({"above": True}, "above: True is wrong; it should be a valid number"),
        ({"above": None}, "write at_least or above, at_most or below, or one of each"),
        ({"at_least": 1}, "write at_least or above, at_most or below, or one of each"),
        ({"at_most": 1}, "no value can be so: 1 < value <= 1"),
        ({"at_most": 0.5}, "no value can be so: 1 < value <= 0.5"),
        ({"above": float("nan")}, "it must be a finite number"),
        ({"predicted": PREDICTED}, "predicted is not a key"),
        ({"statement": "x" * 10_000, "id": "y" * 200 + " "}, "is wrong"),
    ],
)
def test_mistakes_in_a_claim_name_it_and_the_key(tmp_path, change, message):
    with pytest.raises(UserError) as error:
        read(tmp_path, **change)
    assert message in str(error.value)
    assert "claims.yaml" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    ("value", "change", "message"),
    [
        (DIFFERENCE, {"predicted": RATIO}, "predicted.kind is not a key; allowed are table, "),
        (DIFFERENCE, {"predicted": {"table": "cells"}}, "predicted.column is missing"),
        (DIFFERENCE, {"predicted": 5}, "predicted: 5 is wrong"),
        (DIFFERENCE, {"predicted": {**PREDICTED, "minus": {"shop": 1}}}, "predicted.minus: table hit_rates"),
        (
            DIFFERENCE,
            {"predicted": {k: v for k, v in DIFFERENCE.items() if k != "kind"}},
            "predicted: allowed are the tables hit_rates, break_even, placed_stores",
        ),
        (EQUAL_SPEED, {"table": "stores"}, "table: 'stores' is wrong; it should be 'cells'"),
        (EQUAL_SPEED, {"over": [{"store": "files"}]}, "it must be a mapping of columns to values"),
        (EQUAL_SPEED, {"of": {"gbps": 1}}, "of: table cells has no column gbps"),
        ({"kind": "median"}, {}, "table is missing"),
        ({**RATIO, "of": None}, {}, "of: None is wrong; it must be a mapping"),
    ],
)
def test_mistakes_in_what_a_kind_needs(tmp_path, value, change, message):
    with pytest.raises(UserError) as error:
        read(tmp_path, value, **change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims: {", "not YAML"),
        ("- 1", "is no mapping of keys"),
        ("claims: 5", "it must be a mapping with one key, claims, a list"),
        ("claims: []\nclaim: []", "it must be a mapping with one key, claims, a list"),
        ("", "is empty; config/claims.yaml is one"),
        ("claims: [5]", "claim 1: it must be a mapping with id, "),
        ("claims: [{1: 2, kind: median}]", "claim 1: "),
        (yaml.safe_dump({"claims": [claim(), claim()]}), "two claims are called a_claim"),
        (None, "config: claims: there is no file "),
    ],
)
def test_mistakes_in_the_file_are_one_line(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        read_claims(tmp_path / "none.yaml" if text is None else written(tmp_path, text=text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_repositorys_claims_are_read_and_have_the_reference_projects_four():
    claims = read_claims(Path("config/claims.yaml"))
    assert len(claims) >= 12
    assert sum(one.source.startswith("the reference project") for one in claims) == 4
    assert {"cells", "stores", "layers", "hit_rates", "cost_repeats"} <= set(claimed_tables(claims))
    assert sorted(claimed_records(claims)) == ["point", "rung", "sweep"]


def test_the_claims_at_equal_speed_are_about_scenarios_of_the_ladder():
    configs = [
        yaml.safe_load(Path("config/experiments", name).read_text())
        for name in ("ladder.yaml", "equal_speed.yaml")
    ]
    claims = read_claims(Path(configs[1]["claims"]))
    assert claimed_tables(claims) == ["cells"]
    named = {name for one in claims for side in (one.of, one.over) for name in side["scenario"]}
    assert len(named) == 4
    assert named <= set(configs[0]["experiment"]["scenarios"])
