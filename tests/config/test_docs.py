"""config/README.md and the JSON Schema: what the models say, complete, and about keys that exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from workflow.hyperkv.config import docs, schema
from workflow.hyperkv.config.models.array import Array
from workflow.hyperkv.config.models.workload import KINDS
from workflow.hyperkv.workloads.factory import WORKLOAD_CLASSES, parameters_of

FILES = sorted([*Path("config").glob("*.yaml"), *Path("config/experiments").glob("*.yaml")])
FILES = [
    path for path in FILES if "claims" not in path.name and path.stem not in ("prices", "published_gpus")
]
BY_NAME = ("scenarios", "pairs.tried", "predict.cases", "predict.cases.<name>.tiers", "ladder.steps")
ROWS = {row.path: row for row in docs.rows()}


def used(config: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths of a config file's keys, as the docs spell them."""
    for name, value in config.items():
        at = f"{path}.{'<name>' if path in BY_NAME else name}".lstrip(".")
        if isinstance(value, dict) and at not in ROWS:
            yield from used(value, at)
        else:
            yield at


def test_the_readme_is_what_the_models_say():
    assert Path("config/README.md").read_text() == docs.render(), "run make docs"


def test_the_json_schema_is_what_the_models_say():
    assert Path("workflow/schemas/config.schema.json").read_text() == schema.text(), "run make docs"


def test_every_scenario_to_choose_from_is_listed_with_its_keys(tmp_path):
    [*lines] = docs.scenario_lines()
    assert [line.split("`")[1] for line in lines] == list(
        yaml.safe_load(docs.SCENARIOS.read_text())["scenarios"]
    )
    own = tmp_path / "scenarios.yaml"
    own.write_text(
        "scenarios: {mine: {tier: ssd, store: kvrocks, connector: resp, chunk_tokens: [16, 64], port: 7}}"
    )
    assert [*docs.scenario_lines(own)] == ["| `mine` | ssd | kvrocks | resp | [16, 64] | `port: 7` |"]


def test_both_move_with_a_model(monkeypatch):
    before = docs.render(), schema.text()
    monkeypatch.setitem(
        schema.schema(schema.Config)["$defs"]["Array"]["properties"]["mount"], "default", "/x"
    )
    assert "`/x`" in docs.render()
    assert (docs.render(), schema.text()) != before
    assert Array.model_fields["mount"].default == "/mnt/hyperkv"


@pytest.mark.parametrize("path", ROWS)
def test_every_key_says_what_it_means_and_in_which_unit(path):
    [line] = [line for line in docs.render().splitlines() if line.startswith(f"| `{path}` | ")]
    cells = re.split(r"(?<!\\)\|", line)
    assert len(cells) == 7
    _, _, allowed, _, unit, meaning, _ = (cell.strip() for cell in cells)
    assert (bool(allowed), bool(unit), len(meaning) > 10) == (True, True, True)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("evidence.device_share_min", "| a number, at least 0, at most 1 | `0.8` | share | Bytes read"),
        ("workload.kind", "| multi_turn or long_documents or trace or text | required | word |"),
        ("workload.answer_tokens", "tokens | multi_turn, long_documents. Length of an answer."),
        ("scenarios.<name>.dram_pool_bytes", "a size such as '512 MiB'"),
        ("scenarios.<name>.dram_pool_bytes", ", or null | `null` | bytes |"),
        ("scenarios.<name>.vllm", "| a mapping | `{}` | keys |"),
        ("break_even.gpus", "| a list, each text, not empty, none twice | `[config/gpus/l4.yaml, "),
    ],
)
def test_a_row_has_range_default_unit_and_meaning(path, words):
    assert words in next(line for line in docs.render().splitlines() if line.startswith(f"| `{path}` | "))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_key_in_use_is_in_the_docs(path):
    names = set(used(yaml.safe_load(path.read_text())))
    assert names
    assert names <= set(ROWS)


def test_the_json_schema_takes_the_shipped_configuration():
    rules = json.loads(Path("workflow/schemas/config.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(rules)
    whole: dict[str, Any] = {}
    for name in ("scenarios", "config"):
        whole |= yaml.safe_load(Path(f"config/{name}.yaml").read_text())
    assert not list(jsonschema.Draft202012Validator(rules).iter_errors(whole))
    assert list(jsonschema.Draft202012Validator(rules).iter_errors(whole | {"enginee": "replay"}))


def test_the_kinds_of_workloads_have_the_keys_of_their_classes_and_need_the_same():
    assert set(KINDS) == set(WORKLOAD_CLASSES)
    for kind, model in KINDS.items():
        fields = {name: field for name, field in model.model_fields.items() if name != "kind"}
        parameters = {
            name: own for name, own in parameters_of(kind).items() if name not in ("vocabulary", "tokens")
        }
        assert set(fields) == set(parameters)
        needed = {
            name for name, default in parameters.items() if repr(default).startswith("<dataclasses._MISSING")
        }
        assert {name for name, field in fields.items() if field.is_required()} == needed
