"""The data dictionary workflow/schemas/columns.yaml: from the fields of records, and from what tables have beside them.

python -m workflow.hyperkv.records.columns > workflow/schemas/columns.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from .evidence import Evidence
from .kinds.cell import Cell, RequestColumns, Values
from .kinds.pairs import Tried
from .kinds.record import Part, Unit

DERIVED = Path("workflow/schemas/derived_columns.yaml")
_HEAD = "# Written by `make docs` from the records' fields and derived_columns.yaml: every column of every table.\n"
_PARTS: dict[str, type[Part]] = {
    "values": Values,
    "evidence": Evidence,
    "requests": RequestColumns,
    "tried": Tried,
}
_OVER = {"spread": " Median over repeats.", "median": " Median over repeats.", "mean": " Mean over repeats."}

Column = tuple[str, str]


def main() -> None:
    """Print the dictionary."""
    sys.stdout.write(render())


def render() -> str:
    """The dictionary as YAML."""
    told = {
        table: {name: {"unit": unit, "description": text} for name, (unit, text) in columns.items()}
        for table, columns in dictionary(yaml.safe_load(DERIVED.read_text())).items()
    }
    return _HEAD + yaml.safe_dump(told, sort_keys=False, width=118, allow_unicode=True)


def dictionary(derived: Mapping[str, Any]) -> dict[str, dict[str, Column]]:
    """(unit, description) of every column by table, in order. derived: of DERIVED. Raises KeyError for a name that nothing tells of."""
    shared = {name: _column(text) for name, text in derived["shared"].items()}
    known = shared | fields_of(Cell) | fields_of(Values) | fields_of(Evidence)
    return {
        table: {name: column for entry in entries for name, column in _columns(entry, known)}
        for table, entries in derived["tables"].items()
    }


def fields_of(part: type[Part]) -> dict[str, Column]:
    """Unit and description of the fields of a part of a record that are columns: those with both."""
    told = {name: (_unit(field), field.description) for name, field in part.model_fields.items()}
    return {name: (unit, text) for name, (unit, text) in told.items() if unit and text}


def _columns(entry: str | dict[str, Any], known: Mapping[str, Column]) -> Iterator[tuple[str, Column]]:
    if isinstance(entry, str):
        yield from ((name, known[name]) for name in entry.split())
        return
    ((word, told),) = entry.items()
    if word == "fields":
        yield from fields_of(_PARTS[told]).items()
    elif word in _OVER:
        of = told if isinstance(told, dict) else dict.fromkeys(told.split())
        for name, own in of.items():
            unit, text = _column(own) if own else known[name]
            yield name, (unit, text + _OVER[word])
            if word == "spread":
                low = f"Lower end of the interval of {name} over repeats; empty for one repeat."
                yield f"{name}_low", (unit, low)
                yield f"{name}_high", (unit, "Upper end of it.")
    else:
        yield word, _column(told)


def _column(text: str) -> Column:
    unit, _, description = text.partition(" | ")
    return unit, description


def _unit(field: FieldInfo) -> str | None:
    """The unit in a field's annotation, also of what may be null."""
    found = [*field.metadata, *(each for part in get_args(field.annotation) for each in get_args(part))]
    return next((each.name for each in found if isinstance(each, Unit)), None)


if __name__ == "__main__":
    main()
