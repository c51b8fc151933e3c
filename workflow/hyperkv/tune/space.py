"""What the tuner may change: parameters of a scenario, by name, with what each may be.

A parameter is named as the scenario's key is: `stripe_bytes`, `settings.KEY` for the store's own keys, `environment.NAME`
for its server's variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Value = int | float | str | bool | None
KEYS = (
    "stripe_bytes",
    "stripes_in_flight",
    "connections",
    "processes",
    "socket",
    "chunk_tokens",
    "kv_dtype",
    "page_cache",
    "save_decode_cache",
    "save",
    "gate",
)
POLICIES = ("save_decode_cache", "save", "gate")  # what a store alone cannot show
NESTED = ("settings", "environment")


@dataclass(frozen=True)
class Parameter:
    """One dimension of the space.

    own: the value that the scenario starts with. choices: that one first, and the others; None means that the scenario
    does not set the key.
    """

    name: str
    own: Value
    choices: tuple[Value, ...]

    @property
    def is_policy(self) -> bool:
        """Whether only an engine shows a difference."""
        return self.name in POLICIES

    def as_spec(self) -> dict[str, Any]:
        """The parameter for a stage's spec."""
        return asdict(self) | {"choices": list(self.choices)}

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Parameter:
        """The parameter that `as_spec` gave."""
        return cls(**{**spec, "choices": tuple(spec["choices"])})


def applied(scenario: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """The scenario with parameters set; None takes a setting or variable out, or a key back to its null."""
    changed = {**scenario, **{section: dict(scenario[section]) for section in NESTED}}
    for name, value in values.items():
        section, _, key = name.partition(".")
        if not key:
            changed[name] = value
        elif value is None:
            changed[section].pop(key, None)
        else:
            changed[section][key] = value
    return changed


def own_value(name: str, scenario: Mapping[str, Any]) -> Value:
    """What the scenario itself has for a parameter, None for a key that it does not set."""
    section, _, key = name.partition(".")
    return scenario[section].get(key) if key else scenario.get(name)
