"""A workload's conversations from its slice of the config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib import import_module
from typing import Any

from ..base.errors import UserError
from . import Conversation

WORKLOAD_CLASSES = {"multi_turn": "MultiTurn", "long_documents": "LongDocuments", "mooncake": "Mooncake"}


def make_workload(spec: Mapping[str, Any], seed: int = 0) -> list[Conversation]:
    """The conversations of `spec`: the same bytes for the same seed, others for another. Imports that kind only.

    spec: kind (multi_turn | long_documents | mooncake) and that kind's parameters under their names in
    MultiTurn, LongDocuments or Mooncake; ranges are [lowest, highest]. seed: 0 <= seed < 2**32.
    Errors: UserError naming the key, for an unknown kind or key, a missing key and a value out of range.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise UserError(f"workload seed: {seed!r}; write a whole number from 0 to 2**32 - 1")
    kind = spec.get("kind")
    if kind not in WORKLOAD_CLASSES:
        raise UserError(f"workload.kind: {kind!r}; choose {', '.join(WORKLOAD_CLASSES)}")
    module = import_module(f"{__package__}.{kind}")
    return [*module.conversations(_parameters(getattr(module, WORKLOAD_CLASSES[kind]), spec), seed)]


def workload_notes(spec: Mapping[str, Any]) -> list[str]:
    """What a record must say of how the workload was made, a line each; spec as in make_workload."""
    module = import_module(f"{__package__}.{spec['kind']}")
    if not hasattr(module, "notes"):
        return []
    return module.notes(_parameters(getattr(module, WORKLOAD_CLASSES[spec["kind"]]), spec))


def shortenings(spec: Mapping[str, Any], limit_tokens: int) -> list[str]:
    """Values of workload.long_requests with which requests of a trace are left within a limit; spec as in make_workload."""
    module = import_module(f"{__package__}.{spec['kind']}")
    return module.shortenings(
        _parameters(getattr(module, WORKLOAD_CLASSES[spec["kind"]]), spec), limit_tokens
    )


def parameters_of(kind: str) -> dict[str, Any]:
    """The keys of one kind of workload with their defaults; dataclasses.MISSING for those it needs."""
    module = import_module(f"{__package__}.{kind}")
    return {field.name: field.default for field in fields(getattr(module, WORKLOAD_CLASSES[kind]))}


def _parameters(kind: type, spec: Mapping[str, Any]) -> Any:
    given = {key: _frozen(value) for key, value in spec.items() if key != "kind"}
    known = {field.name: field.default is MISSING for field in fields(kind)}
    for key in given:
        if key not in known:
            raise UserError(f"workload.{key}: not a key of {spec['kind']}; choose from {', '.join(known)}")
    for key, required in known.items():
        if required and key not in given:
            raise UserError(f"workload.{key}: missing; {spec['kind']} needs it")
    return kind(**given)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
