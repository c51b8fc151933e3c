"""What every record is: typed, of one schema version, every field told once with its unit and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 10  # upgrade.py says what each version brought
CLOSED_SINCE = 3  # from which a file of records must have its closing line


@dataclass(frozen=True)
class Unit:
    """The unit of a field; a field's docstring is what it means."""

    name: str


Name = Annotated[str, Unit("name")]
Word = Annotated[str, Unit("word")]
Text = Annotated[str, Unit("text")]
Digest = Annotated[str, Unit("digest")]
Flag = Annotated[bool, Unit("boolean")]
Count = Annotated[int, Unit("number")]
Bytes = Annotated[int, Unit("bytes")]
Tokens = Annotated[int, Unit("tokens")]
Requests = Annotated[int, Unit("requests")]
Chunks = Annotated[int, Unit("chunks")]
Seconds = Annotated[float, Unit("s")]
Joules = Annotated[float, Unit("J")]
Milliseconds = Annotated[float, Unit("ms")]
Share = Annotated[float, Unit("share")]
Gbps = Annotated[float, Unit("10^9 bytes/s")]


class Part(BaseModel):
    """Part of a record. What was not measured, or cannot be known, is null and never 0; no field is left out or unknown."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_by_name=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    def dump(self) -> dict[str, Any]:
        """As it stands in a file."""
        return self.model_dump()


class Record(Part):
    """A line of a file. Keys that the file adds to what its journal keeps (`added`) may be missing."""

    added: ClassVar[frozenset[str]] = frozenset()
    record: str
    schema_version: int = SCHEMA_VERSION

    def dump(self) -> dict[str, Any]:
        """As it stands in a file, or in its journal while the file's own keys are not there."""
        return self.model_dump(exclude={name for name in self.added if getattr(self, name) is None})


class OfOneFile(Record):
    """A record whose file says for all of its lines what they were measured with."""

    added: ClassVar[frozenset[str]] = frozenset({"spec", "spec_digest", "environment"})
    spec: dict[str, Any] | None = None
    spec_digest: str | None = None
    environment: dict[str, Any] | None = None
