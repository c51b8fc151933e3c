"""A workload's conversations from its slice of the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from . import Conversation

WORKLOAD_CLASSES = {
    "multi_turn": "MultiTurn",
    "long_documents": "LongDocuments",
    "trace": "Trace",
    "text": "Text",
}


def make_workload(spec: Mapping[str, Any], seed: int = 0) -> Sequence[Conversation]:
    """The conversations of `spec`: the same bytes for the same seed, others for another. Imports that kind only.

    spec: kind and that kind's parameters under their names in its class, as the configuration's own models let them through;
    ranges are [lowest, highest].
    seed: 0 <= seed < 2**32. Errors: UserError naming the key, for a range or a trace that gives no workload.
    """
    return _module(spec["kind"]).conversations(_parameters(spec), seed)


def workload_notes(spec: Mapping[str, Any]) -> list[str]:
    """What a record must say of how the workload was made, a line each; spec as in make_workload."""
    notes = getattr(_module(spec["kind"]), "notes", None)
    return [] if notes is None else notes(_parameters(spec))


def prefixes_known(spec: Mapping[str, Any]) -> bool:
    """Whether the workload says which prefixes its requests share; a trace that has lengths alone does not."""
    known = getattr(_module(spec["kind"]), "prefixes_known", None)
    return known is None or known(_parameters(spec))


def read_by(spec: Mapping[str, Any]) -> list[str]:
    """The files that a workload is made of, those that are still to be made included."""
    return [spec[key] for key in ("trace", "tokens") if key in spec]


def shortenings(spec: Mapping[str, Any], limit_tokens: int) -> list[str]:
    """Values of workload.long_requests with which requests of a trace are left within a limit; spec as in make_workload."""
    return _module(spec["kind"]).shortenings(_parameters(spec), limit_tokens)


def parameters_of(kind: str) -> dict[str, Any]:
    """The keys of one kind of workload with their defaults; dataclasses.MISSING for those it needs."""
    return {field.name: field.default for field in fields(getattr(_module(kind), WORKLOAD_CLASSES[kind]))}


def _module(kind: str) -> Any:
    return import_module(f"{__package__}.{kind}")


def _parameters(spec: Mapping[str, Any]) -> Any:
    given = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in spec.items()
        if key != "kind"
    }
    return getattr(_module(spec["kind"]), WORKLOAD_CLASSES[spec["kind"]])(**given)
