"""One line for what a JSON Schema refuses: the key, what is there, what is allowed, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from jsonschema import ValidationError

from ..base.coercion import quoting, shown

_LONGEST_SHOWN = 300


def depth(error: ValidationError) -> tuple[int, str]:
    """The order of errors: the shallowest is told."""
    return len(error.absolute_path), error.message


def explain(error: ValidationError, root: Mapping[str, Any], file: str = "config", under: str = "") -> str:
    """One line for a schema error. root: the whole schema. file: what the line begins with. under: path of the instance."""
    path = ".".join([*([under] if under else []), *(str(part) for part in error.absolute_path)])
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        wrong = next(key for key in error.instance if key not in known)
        close = difflib.get_close_matches(str(wrong), known, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{file}: {_join(path, str(wrong))} is not a key; {hint}allowed are {', '.join(known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{file}: {_join(path, missing)} is missing"
    wrong = f"{file}: {path}: {_shortened(shown(error.instance))} is wrong; {_must(error, root)}"
    return wrong + quoting(error.instance, error.schema, root)


def _must(error: ValidationError, root: Mapping[str, Any]) -> str:
    rules = error.schema
    if error.validator == "enum":
        return f"allowed are {', '.join(map(shown_word, error.validator_value))}"
    if error.validator == "unit":
        return f"it {error.message}"
    unit = f" (unit: {rules['unit']})" if "unit" in rules else ""
    return f"it must be {allowed(rules, root['$defs'])}{unit}"


def shown_word(word: Any) -> str:
    """A word of an enum as it is written in YAML, without quotes."""
    return word if isinstance(word, str) else shown(word)


def allowed(rules: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """What a key's JSON Schema allows, in words. defs: the schema's `$defs`."""
    if "$ref" in rules:
        return allowed(defs[rules["$ref"].rpartition("/")[2]], defs)
    if rules == defs.get("size"):
        return "a size such as '512 MiB' (KiB, MiB, GiB) or bytes as an integer, at least 1"
    if "enum" in rules:
        return " or ".join(map(shown_word, rules["enum"]))
    if "anyOf" in rules:
        return ", or ".join(allowed(choice, defs) for choice in rules["anyOf"])
    if "pattern" in rules:
        most = f" of at most {rules['maxLength']} characters" if "maxLength" in rules else ""
        return f"text{most} like {rules['pattern']}"
    if rules["type"] == "array":
        items = allowed(rules["items"], defs)
        if rules.get("maxItems") == 2:
            return f"[lowest, highest], each {items}"
        notes = [("minItems", ", not empty"), ("uniqueItems", ", none twice")]
        return f"a list, each {items}" + "".join(words for key, words in notes if key in rules)
    words = {"boolean": "true or false", "object": "a mapping", "string": "text", "null": "null"}
    words |= {"integer": "an integer", "number": "a number"}
    kinds = rules["type"] if isinstance(rules["type"], list) else [rules["type"]]
    limits = [("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most")]
    return ", ".join(
        [
            " or ".join(words[kind] for kind in kinds),
            *(f"{text} {rules[key]}" for key, text in limits if key in rules),
            *(["not empty"] if "minProperties" in rules else []),
        ]
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
