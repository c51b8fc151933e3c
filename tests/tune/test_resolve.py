"""The search space from the config: sizes, own values, what a store lacks, and every mistake as one line."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.workflow_helpers import changed, merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.kvrocks_source import KvrocksSource
from workflow.hyperkv.config.tune import resolve, tune_spec, tuned_scenarios
from workflow.hyperkv.records.scenario import worded
from workflow.hyperkv.tune.space import Parameter, applied

FILES = ("config/scenarios.yaml", "config/config.yaml")


def config(**changes):
    """The repository's config, with a space that is small and values set under dotted keys."""
    layers = [yaml.safe_load(Path(name).read_text()) for name in FILES]
    full = merged(*layers)
    full["tune"] |= {
        "scenarios": ["valkey_striped"],
        "space": {"connections": [1, 8]},
    }
    return checked(changed(full, {key.replace("__", "."): value for key, value in changes.items()}))


def spec(space=None, scenario="valkey_striped", **changes):
    return json.loads(tune_spec(config(**({"tune__space": space} if space else {}), **changes), scenario))


def test_sizes_are_bytes_and_the_scenario_s_own_value_is_among_the_choices():
    found = spec({"stripe_bytes": ["256 KiB", "4 MiB"]})["space"]
    assert found[0]["choices"] == [1 << 20, 256 << 10, 4 << 20]
    assert Parameter.of(found[0]).own == 1 << 20


def test_what_a_store_or_connector_lacks_is_left_out_and_said():
    space = {
        "connections": [1, 4],
        "stripe_bytes": ["1 MiB"],
        "settings.rocksdb.write_buffer_size": [8],
        "environment.MALLOC_CONF": ["thp:always"],
        "page_cache": ["keep"],
        "save": ["second_use"],
        "gate": ["ttft"],
    }
    found = spec(space, "valkey_resp", tune__scenarios=["valkey_resp"])
    assert [entry["name"] for entry in found["space"]] == ["connections"]
    assert [line.split(" is left out: ")[0] for line in found["left_out"]] == list(space)[1:]
    kvrocks = spec(space, "kvrocks_striped", tune__scenarios=["kvrocks_striped"])
    assert [entry["name"] for entry in kvrocks["space"]] == list(space)
    rocksdb = spec(space, "rocksdb_striped", tune__scenarios=["rocksdb_striped"])
    assert len(rocksdb["left_out"]) == 2
    policies = [Parameter.of(entry) for entry in kvrocks["space"][-2:]]
    assert [policy.choices for policy in policies] == [("first_use", "second_use"), ("off", "ttft")]
    assert all(policy.is_policy for policy in policies)
    kvrocks["sweep"]["scenario"]["connector"] = "striped_mp"
    assert resolve(config(tune__space=space)["tune"]["space"], kvrocks["sweep"]["scenario"])[1] == []


def test_values_go_where_the_scenario_has_them():
    scenario = {"connections": 2, "settings": {"a": 1}, "environment": {}}
    values = {"connections": 8, "settings.a": None, "settings.rocksdb.b": 2, "environment.X": "y"}
    assert applied(scenario, values) == {
        "connections": 8,
        "settings": {"rocksdb.b": 2},
        "environment": {"X": "y"},
    }
    assert scenario["settings"] == {"a": 1}
    assert worded({"stripe_bytes": 1 << 22, "connections": 2}, {"connections": 2}) == "stripe_bytes 4 MiB"
    assert worded({"connections": 2}, {"connections": 2}) == "as it is"


def test_the_first_scenario_whose_store_is_there_is_tuned():
    names = {"tune__scenarios": ["kvrocks_striped", "rocksdb_striped"]}
    full = config(**names)
    assert tuned_scenarios(full, KvrocksSource("binary", True, "x")) == ["kvrocks_striped"]
    assert tuned_scenarios(full, KvrocksSource("release", False)) == ["rocksdb_striped"]
    assert tuned_scenarios(config(tune__scenarios=[]), KvrocksSource("release", False)) == []


def test_the_default_space_can_be_searched_on_every_striped_scenario():
    full = merged(*[yaml.safe_load(Path(name).read_text()) for name in FILES])
    for name in ("kvrocks_striped_small", "rocksdb_striped", "valkey_striped"):
        found = json.loads(tune_spec(checked(changed(full, {"tune.scenarios": [name]})), name))
        assert len(found["space"]) >= 7
        assert found["sweep"]["loads"] == [2]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"stripe_size": [1]},
            "tune.space: stripe_size is not a parameter; allowed are",
        ),
        ({"settings": [1]}, "tune.space: settings is not a parameter"),
        ({"connections": []}, "tune.space.connections: [] is wrong; it must be a list"),
        ({"connections": [2, 2]}, "tune.space.connections: [2, 2] is wrong; it must be a list"),
        ({"connections": [1.5]}, "tune.space.connections: 1.5 is wrong; it must be an integer"),
        ({"connections": {"kind": "choice", "choices": [1]}}, "is wrong; it must be a list"),
        ({"connections": [999]}, "tune.space.connections: 999 is wrong"),
        (
            {"connections": [2, "two"]},
            "tune.space.connections: 'two' is wrong",
        ),
        (
            {"stripe_bytes": ["1 MB"]},
            "stripe_bytes: '1 MB' is wrong; it must be a size",
        ),
        ({"stripe_bytes": [100]}, "stripe_bytes: 100 is below 4096"),
        ({"chunk_tokens": [40]}, "chunk_tokens: 40 is not a multiple"),
        ({"kv_dtype": ["int4"]}, "tune.space.kv_dtype: 'int4' is wrong"),
        ({"settings.workers": [1]}, "has none of the parameters"),
        ({"save_decode_cache": [False]}, "has none of the parameters"),
        ({"connections": [1], "gate": ["fast"]}, "tune.space.gate: 'fast' is wrong"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_line(space, message):
    refused(message, tune__space=space)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget_minutes": 0}, "tune.budget_minutes: 0 is wrong; it must be a number, more than 0"),
        ({"trials": 0}, "tune.trials: 0 is wrong"),
        ({"finalists": 20, "trials": 10}, "tune.finalists: 20 are more than the 10 trials"),
        ({"objective": {"load": 0.5}}, "tune.objective.load: 0.5 is no number of clients"),
        ({"objective": {"metric": "goodput_rps"}}, "goodput_rps needs a bound; set experiment.slo.ttft_ms"),
        ({"objective": {"metric": "tps"}}, "tune.objective.metric: 'tps' is wrong; allowed are ttft_p50_ms"),
        ({"scenarios": ["none"]}, "tune.scenarios: none has no store"),
        ({"scenarios": ["nowhere"]}, "tune.scenarios: no scenario 'nowhere'"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(changes, message):
    refused(message, **{f"tune__{key}": value for key, value in changes.items()})


def refused(message, **changes):
    with pytest.raises(UserError) as caught:
        spec(**changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config: ")
    assert "\n" not in str(caught.value)


def test_numbers_of_the_command_line_are_numbers():
    """Nested values of --config arrive as text."""
    space = {"connections": ["2", "4"]}
    assert spec(space)["space"][0]["choices"] == [2, 4]
    space = {"stripe_bytes": ["1048576", "256 KiB"]}
    assert spec(space)["space"][0]["choices"] == [1 << 20, 256 << 10]


def test_yaml_s_yes_among_choices_is_told_to_be_quoted():
    name = "settings.lazyfree-lazy-eviction"
    with pytest.raises(
        UserError,
        match=r'tune\.space\.settings\.lazyfree-lazy-eviction: true is wrong; .*: write "yes"',
    ):
        spec({name: [True, "no"]})
    assert spec({name: ["yes", "no"]})["space"][0]["choices"][1:] == [
        "yes",
        "no",
    ]


@pytest.mark.parametrize("name", ["connections", "stripes_in_flight", "processes", "stripe_bytes"])
def test_whole_numbers_are_searched_as_such(name):
    with pytest.raises(UserError, match=rf"^config: tune\.space\.{name}: 4096\.5 is wrong"):
        spec({name: [4096.5]})


SETTINGS = "settings.rocksdb.write_buffer_size", "settings.direct_io"


@pytest.mark.parametrize(
    ("scenario", "name", "values", "words"),
    [
        (
            "rocksdb_striped",
            SETTINGS[1],
            ["maybe"],
            "direct_io: 'maybe' is wrong",
        ),
        ("rocksdb_striped", SETTINGS[0], [1.5], "rocksdb.write_buffer_size"),
        (
            "rocksdb_striped",
            SETTINGS[0],
            ["many"],
            "rocksdb.write_buffer_size",
        ),
        ("kvrocks_striped", SETTINGS[0], ["= 4"], "Kvrocks reads `key value`"),
    ],
)
def test_values_of_a_stores_settings_are_checked_as_the_store_checks_them(scenario, name, values, words):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        spec({name: values}, scenario, tune__scenarios=[scenario])
    assert str(error.value).startswith("config: tune.space.")
