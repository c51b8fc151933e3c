"""config/README.md from the models of the configuration.

python -m workflow.hyperkv.config.docs > config/README.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..records.templates import filled
from .models.config import Config
from .models.cost import Prices
from .schema import allowed, alternatives, free_names, resolved, schema, unit_of

SCENARIOS = Path("config/scenarios.yaml")
_OWN_COLUMNS = ("tier", "store", "connector", "chunk_tokens")


@dataclass(frozen=True)
class Row:
    """A key: its path, rules, whether it is required, and the kinds whose key it is where alternatives have different ones."""

    path: str
    rules: Mapping[str, Any]
    needed: bool
    kinds: tuple[str, ...] = ()


def main() -> None:
    """Print config/README.md."""
    sys.stdout.write(render())


def render() -> str:
    """Markdown: the scenarios of SCENARIOS, and of the models a section per key at the top, a row per key of it, and the prices."""
    rules = schema(Config)
    sections = [
        {
            "name": name,
            "meaning": " ".join(_meaning(value).split()) if list(_children(Row(name, value, False))) else "",
            "rows": [_line(row) for row in _leaves(Row(name, value, name in rules["required"]))],
        }
        for name, value in rules["properties"].items()
    ]
    prices = [
        _cells(f"`{name}`", value["unit"], value["description"])
        for name, value in schema(Prices)["properties"].items()
    ]
    return filled(__file__, sections=sections, prices=prices, scenarios=list(scenario_lines()))


def scenario_lines(path: Path = SCENARIOS) -> Iterator[str]:
    """A row of Markdown per scenario of a file."""
    for name, scenario in yaml.safe_load(path.read_text())["scenarios"].items():
        others = ", ".join(
            f"`{key}: {_yaml(value)}`" for key, value in scenario.items() if key not in _OWN_COLUMNS
        )
        own = [_yaml(scenario[key]) if key in scenario else "" for key in _OWN_COLUMNS]
        yield _cells(f"`{name}`", *own, others)


def rows() -> list[Row]:
    """Every key of a value."""
    return [row for row in _leaves(Row("", schema(Config), False)) if row.path]


def _meaning(rules: Mapping[str, Any]) -> str:
    """What a section, or each of a mapping of sections, is."""
    rules = resolved(rules, Config)
    return rules.get("description") or _meaning(free_names(rules) or {"description": ""})


def _leaves(row: Row) -> Iterator[Row]:
    children = list(_children(row))
    if not children:
        yield row
    for child in children:
        yield from _leaves(child)


def _children(row: Row) -> Iterator[Row]:
    """A section's keys. A mapping by free names has the one key `<name>`; what says itself that it is keys of another has none."""
    if row.rules.get("unit") == "keys":
        return
    choices = [choice for choice in alternatives(row.rules, Config) if choice.get("type") == "object"]
    if len(choices) == 1 and (free := free_names(choices[0])) is not None:
        if any(choice.get("type") == "object" for choice in alternatives(free, Config)):
            yield Row(f"{row.path}.<name>", free, True)
        return
    if len(choices) != 1:
        yield from _alternatives(row.path, choices)
        return
    needed = choices[0].get("required", ())
    for name, rules in choices[0].get("properties", {}).items():
        yield Row(f"{row.path}.{name}".lstrip("."), rules, name in needed)


def _alternatives(path: str, choices: list[Mapping[str, Any]]) -> Iterator[Row]:
    """The keys of alternatives: the one that tells them apart, and each other with the kinds that have it."""
    known = [choice["properties"] for choice in choices]
    for tag in (name for name in (known[0] if known else ()) if "const" in known[0][name]):
        kinds = {keys[tag]["const"]: keys for keys in known}
        defaults = {key: value for keys in known for key, value in keys[tag].items() if key == "default"}
        of_kinds = _of_kinds(dict(zip(kinds, choices, strict=True)))
        told = {"enum": list(kinds), "unit": "word", "description": of_kinds, **defaults}
        yield Row(f"{path}.{tag}", told, not defaults)
        for name in dict.fromkeys(name for keys in known for name in keys if name != tag):
            having = [kind for kind, keys in kinds.items() if name in keys]
            own = () if len(having) == len(kinds) else tuple(having)
            yield Row(f"{path}.{name}", kinds[having[0]][name], False, own)


def _of_kinds(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    return " ".join(
        f"`{kind}`: {choice['description'][0].lower()}{choice['description'][1:]}"
        for kind, choice in kinds.items()
    )


def _line(row: Row) -> str:
    rules = resolved(row.rules, Config)
    default = f"`{_yaml(rules['default'])}`" if "default" in rules else "required" if row.needed else ""
    of_kinds = f"{', '.join(row.kinds)}. " if row.kinds else ""
    told = f"{of_kinds}{rules['description']}"
    return _cells(f"`{row.path}`", allowed(rules, Config), default, unit_of(rules) or "", told)


def _cells(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _yaml(value: Any) -> str:
    """A default as it is written in YAML, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    main()
