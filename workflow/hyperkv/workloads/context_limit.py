"""The longest context that a workload may have, and what to do about one that is longer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..base.errors import UserError
from ..models.geometry import Geometry
from . import NothingLeft
from .factory import parameters_of, shortenings

ROOM_TOKENS = 8  # that a chat template may add to a prompt
LONGER = "choose a model with a longer context"


@dataclass(frozen=True)
class ContextLimit:
    """tokens: of the longest context that is taken. what: whose limit that is."""

    tokens: int
    what: str

    @classmethod
    def of(cls, geometry: Geometry) -> ContextLimit:
        """The model's."""
        return cls(geometry.max_context_tokens, f"{geometry.name}'s {geometry.max_context_tokens}")

    @classmethod
    def of_vllm(cls, geometry: Geometry) -> ContextLimit:
        """The model's, less what a chat template may add."""
        model = cls.of(geometry)
        return cls(model.tokens - ROOM_TOKENS, f"{model.what} less {ROOM_TOKENS} for a chat template")


def limited(workload: Mapping[str, Any], limit_tokens: int) -> dict[str, Any]:
    """The workload with max_context_tokens `limit_tokens` where it names none, and long requests are left out or cut or conversations
    end before them."""
    shortens = workload.get("long_requests", "refuse") != "refuse" or workload["kind"] == "text"
    if not shortens or workload.get("max_context_tokens"):
        return dict(workload)
    return {**workload, "max_context_tokens": limit_tokens}


def shortened(workload: Mapping[str, Any], limit_tokens: int) -> str:
    """What makes the workload's contexts at most `limit_tokens` long: keys and values, in words; "" when nothing does."""
    kind, full = workload["kind"], {**parameters_of(workload["kind"]), **workload}
    if kind == "trace":
        ways, most = shortenings(workload, limit_tokens), f"workload.max_context_tokens: {limit_tokens}"
        if full["long_requests"] in ways:
            return f"set {most}"
        return f"set workload.long_requests: {', or '.join(ways)}, with {most}" if ways else ""
    if kind == "text":
        return f"set workload.max_context_tokens: {limit_tokens}"
    names = ("prefix" if kind == "multi_turn" else "document", "user" if kind == "multi_turn" else "question")
    keys = [f"{name}_tokens" for name in (*names, "answer")]
    if kind == "multi_turn" and sum(full[key][1] for key in keys) <= limit_tokens:
        return f"set workload.max_context_tokens: {limit_tokens}"
    listed = ", ".join(f"workload.{key}" for key in keys)
    return f"lower the highest of {listed} so that together they are at most {limit_tokens}"


def let_in(error: NothingLeft, workload: Mapping[str, Any], limit: ContextLimit) -> str:
    """What to say of a trace of which no request is left: what lets them in.

    workload: as the configuration has it, with max_context_tokens only where that is its own.
    """
    own = workload.get("max_context_tokens")
    if own and error.least <= limit.tokens:
        return str(error)
    mend = f", and raise workload.max_context_tokens to {error.least}" if own else ""
    return f"{error.where}: no request is left within {own or limit.what}; {error.words}: {LONGER}{mend}"


def check_context(workload: Mapping[str, Any], longest: int, limit: ContextLimit) -> None:
    """Raise UserError, with what to do, when a context of `longest` tokens passes the limit."""
    if longest > limit.tokens:
        mends = [shortened(workload, limit.tokens), LONGER]
        raise UserError(
            f"workload: a context of {longest} tokens exceeds {limit.what}; {', or '.join(filter(None, mends))}"
        )
