"""Records of the tuner: trials of a store alone, and the engine's cells of the finalists."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from .cell import Cell
from .record import Count, Flag, Gbps, Part, Record, Seconds

Value = str | bool | int | float | None
Phase = Literal["finals", "proof"]


class Round(Part):
    """One round of a trial: SET and GET of a prompt's chunks."""

    cost_s_per_ktokens: float
    set_gbps: Gbps
    get_gbps: Gbps
    device_share: float | None


class Trial(Record):
    """A judged trial. cost_s_per_ktokens: median over its rounds; null without a round."""

    added: ClassVar[frozenset[str]] = frozenset({"scenario"})
    record: Literal["trial"] = "trial"
    trial: Count
    state: Literal["complete", "pruned", "failed"]
    reason: str | None
    parameters: dict[str, Value]
    cost_s_per_ktokens: float | None
    rounds: list[Round]
    spent_s: Seconds
    scenario: str | None = None


class Finalist(Record):
    """One repeat of a candidate under the engine. value: of the objective; cell: null when the engine refused it."""

    added: ClassVar[frozenset[str]] = frozenset({"scenario", "metric"})
    record: Literal["finalist"] = "finalist"
    phase: Phase
    candidate: Count
    repeat: Count
    parameters: dict[str, Value]
    valid: Flag
    reasons: list[str]
    value: float | None
    cell: Cell | None
    scenario: str | None = None
    metric: str | None = None

    def dump(self) -> dict[str, Any]:
        """As it stands in a file; its cell has no job of its own."""
        return super().dump() | {"cell": None if self.cell is None else self.cell.dump()}
