"""The JSON Schema of the models, for editors and config/README.md, and what it says of a key in words.

python -m workflow.hyperkv.config.schema > workflow/schemas/config.schema.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from .models.config import Config
from .models.values import SIZE

_WORDS = {
    "boolean": "true or false",
    "object": "a mapping",
    "string": "text",
    "null": "null",
    "integer": "an integer",
    "number": "a number",
}
_SIZE = "a size such as '512 MiB' (KiB, MiB, GiB) or bytes as an integer, at least 1"
_LIMITS = (("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most"))


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def main() -> None:
    """Print the JSON Schema."""
    sys.stdout.write(text())


def text() -> str:
    """The JSON Schema of the configuration (2020-12), with `unit` of every key."""
    dialect = {"$schema": GenerateJsonSchema.schema_dialect}
    return json.dumps(dialect | schema(Config), indent=1, ensure_ascii=False) + "\n"


@cache
def schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model."""
    return _on_one_line(model.model_json_schema(schema_generator=_Untitled))


def _on_one_line(rules: Any) -> Any:
    """The rules with every text on one line."""
    if isinstance(rules, Mapping):
        return {key: _on_one_line(value) for key, value in rules.items()}
    if isinstance(rules, list):
        return [_on_one_line(value) for value in rules]
    return " ".join(rules.split()) if isinstance(rules, str) else rules


def rules_at(model: type[BaseModel], path: tuple[str | int, ...]) -> list[dict[str, Any]]:
    """The rules of what is at a path of a model's documents; several where alternatives have the same key."""
    found: list[Mapping[str, Any]] = [schema(model)]
    for part in path:
        found = [rules for above in found for rules in _below(above, part, model)]
    return [resolved(rules, model) for rules in found]


def alternatives(rules: Mapping[str, Any], model: type[BaseModel]) -> Iterator[Mapping[str, Any]]:
    """The alternatives of rules, references followed."""
    rules = resolved(rules, model)
    choices = rules.get("anyOf") or rules.get("oneOf")
    if choices:
        for choice in choices:
            yield from alternatives(choice, model)
    else:
        yield rules


def free_names(rules: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The rules of the values of a mapping by names of one's own; None for other rules."""
    if "patternProperties" in rules:
        [found] = rules["patternProperties"].values()
        return found
    others = rules.get("additionalProperties")
    return others if isinstance(others, Mapping) else None


def resolved(rules: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Rules with the reference in them followed, what stands beside it on top."""
    if "$ref" not in rules:
        return dict(rules)
    target = schema(model)["$defs"][rules["$ref"].rpartition("/")[2]]
    return target | {key: value for key, value in rules.items() if key != "$ref"}


def unit_of(rules: Mapping[str, Any]) -> str | None:
    """The unit of a key: its own, what its type says, or that of its items or alternatives."""
    if "unit" in rules:
        return rules["unit"]
    if is_size(rules):
        return "bytes"
    if rules.get("type") == "boolean" or words_of(rules) is not None:
        return "boolean" if rules.get("type") == "boolean" else "word"
    inner = [*rules.get("anyOf", ()), *([rules["items"]] if "items" in rules else [])]
    return next(filter(None, map(unit_of, inner)), None)


def is_size(rules: Mapping[str, Any]) -> bool:
    """Whether a key takes sizes, and perhaps null."""
    return rules.get("anyOf", ())[:2] == SIZE["anyOf"]


def words_of(rules: Mapping[str, Any]) -> list[str] | None:
    """The words of a key that takes one of several, as they are written in YAML; None for another key."""
    if "const" in rules:
        return [rules["const"]]
    if "enum" in rules:
        return list(rules["enum"])
    match rules.get("anyOf"):
        case [choice, {"type": "null"}] if words := words_of(choice):
            return [*words, "null"]
    return None


def allowed(rules: Mapping[str, Any], model: type[BaseModel]) -> str:
    """What rules allow, in words."""
    rules = resolved(rules, model)
    if (words := words_of(rules)) is not None:
        return " or ".join(words)
    if "oneOf" in rules:
        return "a mapping"
    if "anyOf" in rules:
        choices = rules["anyOf"]
        words = [_SIZE] if is_size(rules) else []
        plain = choices[2 * len(words) :]
        if all(set(choice) <= {"type", "unit"} for choice in plain) and not words:
            return " or ".join(_WORDS[choice["type"]] for choice in plain)
        return ", or ".join([*words, *(allowed(choice, model) for choice in plain)])
    if rules.get("pattern") == SIZE["anyOf"][1]["pattern"]:
        return "a size such as '512 MiB' (KiB, MiB, GiB)"
    if "pattern" in rules:
        return f"text like {rules['pattern']}"
    if rules.get("type") == "array":
        items = allowed(rules["items"], model)
        if rules.get("maxItems") == 2:
            return f"[lowest, highest], each {items}"
        notes = [("minItems", ", not empty"), ("uniqueItems", ", none twice")]
        return f"a list, each {items}" + "".join(words for key, words in notes if key in rules)
    return ", ".join(
        [
            _WORDS[rules["type"]],
            *(f"{word} {rules[key]}" for key, word in _LIMITS if key in rules),
            *(["not empty"] if "minProperties" in rules else []),
        ]
    )


def _below(rules: Mapping[str, Any], part: str | int, model: type[BaseModel]) -> Iterator[Mapping[str, Any]]:
    for choice in alternatives(rules, model):
        if isinstance(part, int) and "items" in choice:
            yield choice["items"]
        elif part in choice.get("properties", {}):
            yield choice["properties"][part]
        elif (free := free_names(choice)) is not None:
            yield free


if __name__ == "__main__":
    main()
