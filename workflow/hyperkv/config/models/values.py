"""The kinds of values that keys have, and how text of `--config` becomes them.

Snakemake reads nested values of --config without types, so that numbers, booleans and null arrive as text; a float without
a fraction, 4.0e9, is an integer where one is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    WrapValidator,
    create_model,
    model_serializer,
)
from pydantic_core import PydanticCustomError, PydanticUndefined

from ...base.documents import LARGEST
from .faults import wrong

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(KiB|MiB|GiB)")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_NULLS = ("null", "~", "none")
T = TypeVar("T")


class Section(BaseModel):
    """Keys that are known, each with a value of its type; text that says one is taken for it, nothing else is."""

    model_config = ConfigDict(
        extra="forbid", strict=True, validate_default=True, use_attribute_docstrings=True
    )


class Given(Section):
    """A section of which a dump has the keys that were given alone."""

    @model_serializer(mode="wrap")
    def _given(self, dump: Any) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key in self.model_fields_set}


def key(default: Any = ..., unit: str | None = None, **more: Any) -> Any:
    """A key. unit: where its type does not say it. more: bounds, as pydantic's Field takes them."""
    return Field(default, **_with_unit(unit, more))


def optional(unit: str | None = None, **more: Any) -> Any:
    """A key without a default, which a dump lacks when it was not given."""
    absent: dict[str, Any] = {
        "default_factory": lambda: None,
        "validate_default": False,
        "exclude_if": lambda value: value is None,
    }
    return Field(**(absent | _with_unit(unit, more)))


def _with_unit(unit: str | None, more: dict[str, Any]) -> dict[str, Any]:
    return more | ({"json_schema_extra": {"unit": unit}} if unit else {})


def section(model: type[Section]) -> Any:
    """A key that is a section of its own, all of whose keys have defaults."""
    return Field(default_factory=model)


def given(name: str, model: type[Section], without: tuple[str, ...] = ()) -> type[Given]:
    """A model of the keys of another that replace what that has: none is needed, and a dump has those that were given."""
    fields: dict[str, Any] = {}
    for key_name, field in model.model_fields.items():
        if key_name not in without:
            own = field._copy()
            own.default, own.default_factory, own.validate_default = PydanticUndefined, lambda: None, False
            fields[key_name] = (own.annotation, own)
    return create_model(name, __base__=Given, __doc__=model.__doc__, **fields)


def parse_size(text: str) -> int | None:
    """Bytes of a size such as '512 MiB'; None for what is none."""
    found = _SIZE.fullmatch(text)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def read_number(value: Any) -> Any:
    """The number that a text is; anything else as it is."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or not abs(float(value)) <= LARGEST:
        return value
    return int(value) if re.fullmatch(r"[+-]?\d+", value) else float(value)


def read_whole(value: Any) -> Any:
    """The integer that a text or a float is; anything else as it is."""
    number = read_number(value)
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return number if isinstance(number, int) else value


def typed(value: Any) -> Any:
    """Text that is exactly true, false, yes, no, null or a number, as that, also inside lists and mappings.

    Numbers as they are usually written only: 007 may be a name.
    """
    if isinstance(value, Mapping):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if not isinstance(value, str):
        return value
    words = {"true": True, "false": False, "yes": True, "no": False, "null": None}
    if value.lower() in words:
        return words[value.lower()]
    return read_number(value) if _PLAIN_NUMBER.fullmatch(value) else value


def _read_boolean(value: Any) -> Any:
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def _read_null(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() in _NULLS else value


def read_size(value: Any) -> Any:
    """The bytes or the integer that a text is; anything else as it is."""
    if isinstance(value, str) and (size := parse_size(value)) is not None:
        return size
    return read_whole(value)


def as_it_is(value: Any, validate: Any) -> Any:
    """An integer stays one where any number may stand: 30 is not 30.0 in a spec."""
    number = read_number(value)
    validate(number)
    return number


def _as_load(value: Any, validate: Any) -> Any:
    return read_whole(as_it_is(value, validate))


def _each_once(values: list[T]) -> list[T]:
    if len({(type(value), str(value)) for value in values}) < len(values):
        raise PydanticCustomError("twice", "none twice")
    return values


def _in_order(values: list[int]) -> list[int]:
    if values[0] > values[1]:
        raise wrong("write [lowest, highest]")
    return values


Whole = Annotated[int, BeforeValidator(read_whole)]
Count = Annotated[int, Field(ge=1), BeforeValidator(read_whole)]
Connections = Annotated[int, Field(ge=1, le=256), BeforeValidator(read_whole)]
Number = Annotated[float, WrapValidator(as_it_is)]
NotNegative = Annotated[float, Field(ge=0), WrapValidator(as_it_is)]
Positive = Annotated[float, Field(gt=0), WrapValidator(as_it_is)]
Load = Annotated[float, Field(gt=0, le=1_000_000), WrapValidator(_as_load)]
Gbps = Annotated[float, Field(ge=0.01), WrapValidator(as_it_is)]
Boolean = Annotated[bool, BeforeValidator(_read_boolean)]
OrNull = Annotated[T | None, BeforeValidator(_read_null)]
Several = Annotated[list[T], AfterValidator(_each_once), Field(json_schema_extra={"uniqueItems": True})]
SIZE: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": "^[0-9]{1,9}(\\.[0-9]{1,9})? ?(KiB|MiB|GiB)$"},
    ]
}
_From0 = Annotated[int, Field(ge=0), BeforeValidator(read_whole)]
Size = Annotated[int, Field(ge=1), BeforeValidator(read_size), WithJsonSchema(SIZE)]
Range = Annotated[list[_From0], Field(min_length=2, max_length=2), AfterValidator(_in_order)]
Typed = Annotated[dict[str, Any], BeforeValidator(typed)]
