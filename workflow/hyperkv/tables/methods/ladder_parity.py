"""What two scenarios differ in, key by key, so that a step of the ladder is exactly the step that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...base.errors import UserError

_NESTED = ("settings", "environment", "vllm", "lmcache")
_OF_PAIR = ("engine_python", "environment_records")
_MISSING = object()


def changed_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Keys in which two sweep specs differ: the scenario's own by their names, those in settings and environment as
    settings.KEY, those outside the scenario as `config KEY`; of what is a pair's own, `pair` alone."""
    mine, theirs = _flat(one), _flat(other)
    keys = {*mine, *theirs}
    return {key for key in keys if mine.get(key, _MISSING) != theirs.get(key, _MISSING)}


def require_steps(steps: Sequence[Mapping[str, Any]], specs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse steps that differ from the one before in more or less than they name.

    steps: {"step", "scenario", "changes"} in order. specs: the sweep's spec of each. Raises UserError.
    """
    for number, step in enumerate(steps):
        found = changed_keys(specs[number - 1], specs[number]) if number else set()
        named, where = set(step["changes"]), f"ladder.steps.{step['step']}"
        before = steps[number - 1]["scenario"]
        if unnamed := sorted(found - named):
            raise UserError(
                f"{where}: scenario {step['scenario']} differs from {before} in {', '.join(unnamed)} as well; name it in "
                f"`changes`, or make it equal"
            )
        if idle := sorted(named - found):
            raise UserError(
                f"{where}.changes: {', '.join(idle)} "
                + (
                    f"does not differ from {before}; leave it out or change it"
                    if number
                    else "is wrong; the first step changes nothing"
                )
            )


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    outside = {f"config {key}": value for key, value in spec.items() if key not in ("scenario", *_OF_PAIR)}
    if "vllm" in spec:
        outside["config vllm"] = {key: value for key, value in spec["vllm"].items() if key != "pairs"}
    scenario = {key: value for key, value in spec["scenario"].items() if key not in ("name", *_NESTED)}
    nested = {
        f"{section}.{key}": value
        for section in _NESTED
        for key, value in spec["scenario"].get(section, {}).items()
    }
    return outside | scenario | nested
