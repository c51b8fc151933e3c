"""What readers of forms share: what they are asked for, the columns that they fill, and what a field must hold."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...base.documents import LARGEST
from ...base.errors import UserError
from . import Columns
from .lines import at

PER_SECOND = {"ms": 1_000, "s": 1, "us": 1_000_000}
_MOST_SPARE = 4  # an id this many times as large as there are ids makes all be numbered anew


@dataclass(frozen=True)
class Asked:
    """What is to be read. fields: that every record has. told_unit: time_unit as it was told. most: requests; None: all."""

    form: str
    where: str
    fields: tuple[str, ...]
    block_tokens: int | None
    time_unit: str | None
    told_unit: str | None
    most: int | None

    def require(self, record: Mapping[str, Any], number: int) -> None:
        """Raise UserError for a record without one of the form's fields."""
        for name in self.fields:
            if name not in record:
                raise UserError(
                    f"{at(self.where, number)}: {name} is missing; form {self.form} has {', '.join(self.fields)}"
                )


@dataclass
class Filling:
    """Columns as they are read. numbers: of the record that each request stands in, as `at` names it."""

    numbers: array = field(default_factory=lambda: array("q"))
    stamps: array = field(default_factory=lambda: array("d"))
    inputs: array = field(default_factory=lambda: array("q"))
    outputs: array = field(default_factory=lambda: array("q"))
    starts: array = field(default_factory=lambda: array("q", [0]))
    ids: array = field(default_factory=lambda: array("I"))
    names: dict[Hashable, int] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def add(self, number: int, stamp: float, prompt: int, answer: int) -> None:
        """A request, whose ids were added before."""
        self.numbers.append(number)
        self.stamps.append(stamp)
        self.inputs.append(prompt)
        self.outputs.append(answer)
        self.starts.append(len(self.ids))

    def add_ids(self, ids: list[Any]) -> bool:
        """Hash ids of the next request: whole numbers or texts. False when they are something else."""
        if self.names is None:
            try:
                self.ids.extend(ids)
                return True
            except (TypeError, OverflowError):  # texts, or numbers beyond 32 bits: all are numbered in order
                del self.ids[self.starts[-1] :]
                names: dict[Hashable, int] = {}
                self.ids = array("I", [names.setdefault(one, len(names)) for one in self.ids])
                self.names = names
        names = self.names
        if not set(map(type, ids)) <= {int, str}:
            return False
        self.ids.extend([names.setdefault(one, len(names)) for one in ids])
        return True

    def columns(self, asked: Asked, block_tokens: int, arrival_s: np.ndarray, **more: Any) -> Columns:
        """All that was added."""
        ids = np.frombuffer(self.ids, dtype=np.uint32)
        if len(ids) and int(ids.max()) >= _MOST_SPARE * len(ids) + 1024:
            ids = np.unique(ids, return_inverse=True)[1].astype(np.uint32)
        inputs, outputs = np.array(self.inputs, np.int64), np.array(self.outputs, np.int64)
        starts = np.array(self.starts, np.int64)
        return Columns(asked.form, arrival_s, inputs, outputs, ids, starts, block_tokens, **more)


def is_length(value: Any) -> bool:
    """Whether a value is a number of tokens."""
    return type(value) is int and 1 <= value <= LARGEST


def is_time(value: Any) -> bool:
    """Whether a value is a finite number that is a time."""
    return type(value) in (int, float) and abs(value) <= LARGEST


def no_length(name: str, value: Any) -> str:
    """What is wrong with a field that is no number of tokens."""
    return f"{name} is {short(value)}; write a whole number of tokens of at least 1"


def short(value: Any) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
