"""From the config's section `tune` to the spec of its stage; every mistake is one line, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ..base.documents import shown
from ..base.errors import UserError
from ..connectors.registry import GATED, STRIPED
from ..stores.owned_keys import refuse_owned
from ..stores.registry import store_class
from ..tune.space import KEYS, NESTED, Parameter, Value, applied, own_value
from .checks.engine import check_clients, check_measured
from .explain import must_be, quoting
from .kvrocks_source import KvrocksSource, runnable
from .models.scenario import Scenario
from .plan import sweep_spec
from .scenarios import selected

_ONLY_STRIPED = ("stripe_bytes", "stripes_in_flight", "processes", "save")
_CHOSEN = ("trials", "budget_minutes", "finalists", "repeats", "objective", "prompt_tokens", "warm_up_bytes")
# What the search is told besides. A trial's cost is GET's seconds per 1,000 tokens by get_weight and SET's by the rest; other
# chunks as long as the prompt are set before it; it ends early when it is worse than most were at that round.
_SEARCH = {"seed": 1, "pruner": "median", "rounds": 4, "get_weight": 0.8}


def tuned_scenarios(config: Mapping[str, Any], kvrocks: KvrocksSource) -> list[str]:
    """The scenario that the search starts from, the first of tune.scenarios whose store is there; empty without one."""
    return selected(config, runnable(config, config["tune"]["scenarios"], kvrocks)[:1])[:1]


def tune_spec(config: Mapping[str, Any], scenario: str) -> str:
    """JSON of everything that tuning one scenario depends on. Raises UserError for what cannot be searched."""
    section = config["tune"]
    parameters, left_out = resolve(section["space"], config["scenarios"][scenario])
    _check_search(config, scenario, parameters)
    spec = {key: section[key] for key in _CHOSEN} | _SEARCH | {"left_out": left_out}
    spec |= {"space": [parameter.as_spec() for parameter in parameters]}
    sweep = json.loads(sweep_spec(config, scenario)) | {"loads": [section["objective"]["load"]]}
    return json.dumps(spec | {"sweep": sweep}, sort_keys=True)


def _check_search(config: Mapping[str, Any], scenario: str, parameters: Sequence[Parameter]) -> None:
    section, base = config["tune"], config["scenarios"][scenario]
    if section["finalists"] > section["trials"]:
        raise UserError(
            f"config: tune.finalists: {section['finalists']} are more than the {section['trials']} trials; lower it"
        )
    if section["objective"]["metric"] == "goodput_rps" and config["experiment"]["slo"]["ttft_ms"] is None:
        raise UserError(
            "config: tune.objective.metric: goodput_rps needs a bound; set experiment.slo.ttft_ms, or take ttft_p50_ms"
        )
    check_clients([section["objective"]["load"]], "tune.objective.load", config)
    for parameter in parameters:
        for value in parameter.choices:
            _check_value(config, base, parameter.name, value)


def _check_setting(base: Mapping[str, Any], name: str, value: Value) -> None:
    """That the scenario's store takes a value of its settings, beside the scenario's own."""
    settings = applied(base, {name: value})["settings"]
    store_class(base["store"]).check_settings(settings, "config: tune.space.settings")


def _check_value(config: Mapping[str, Any], base: Mapping[str, Any], name: str, value: Value) -> None:
    """That the scenario may have the value, by the schema and by the checks of any measured scenario."""
    section, _, key = name.partition(".")
    if key:
        if isinstance(value, bool):
            told = f"config: tune.space.{name}: {shown(value)} is wrong"
            raise UserError(told + quoting(value, lambda text: True))
        if section == "settings":
            _check_setting(base, name, value)
        return
    _check_key(name, value, f"config: tune.space.{name}")
    check_measured({**applied(base, {name: value})}, config)


def _of_scenario(key: str, value: Any) -> Any:
    """The value as a scenario's key has it. Raises ValidationError."""
    blank = Scenario.model_construct()
    return getattr(Scenario.__pydantic_validator__.validate_assignment(blank, key, value), key)


def _check_key(key: str, value: Any, where: str) -> None:
    """That a scenario's key may have a value. Raises UserError beginning with `where`."""
    try:
        _of_scenario(key, value)
    except ValidationError:
        raise UserError(f"{where}: {shown(value)} is wrong; {must_be(Scenario, (key,))}") from None


def resolve(
    space: Mapping[str, Sequence[Value]], scenario: Mapping[str, Any]
) -> tuple[list[Parameter], list[str]]:
    """The parameters that a scenario has, and a line for each that it has not.

    space: the config's `tune.space`. Raises UserError naming a parameter that is unknown or cannot be searched.
    """
    found, left_out = [], []
    for name, values in space.items():
        _check_name(name)
        _check_owned(name, scenario)
        if (reason := _lacks(name, scenario)) is None:
            found.append(_parameter(name, values, scenario))
        else:
            left_out.append(f"{name} is left out: {reason}")
    if not [parameter for parameter in found if not parameter.is_policy]:
        nothing = f"scenario {scenario['family']} has none of the parameters that a store alone shows"
        raise UserError(f"config: tune.space: {nothing}; {'; '.join(left_out) or 'name some'}")
    return found, left_out


def _check_name(name: str) -> None:
    section, _, key = name.partition(".")
    if name in KEYS or (section in NESTED and key):
        return
    raise UserError(
        f"config: tune.space: {name} is not a parameter; allowed are {', '.join(KEYS)}, settings.KEY and environment.NAME"
    )


def _check_owned(name: str, scenario: Mapping[str, Any]) -> None:
    section, _, key = name.partition(".")
    if section == "settings":
        refuse_owned({key: "any"}, store_class(scenario["store"]).owned_keys, "config: tune.space.settings")


def _lacks(name: str, scenario: Mapping[str, Any]) -> str | None:
    """Why the scenario's store or connector has no such parameter; None when it has."""
    store, connector = scenario["store"], scenario["connector"]
    known = store_class(store)
    section, _, key = name.partition(".")
    if name in _ONLY_STRIPED and connector not in STRIPED:
        return f"connector {connector} has none"
    if name == "gate" and connector not in GATED:
        return f"connector {connector} has none"
    if name == "socket" and connector not in ("resp", *STRIPED):
        return f"connector {connector} has none"
    if name == "page_cache" and not known.reads_page_cache:
        return f"store {store} has none"
    if section == "environment" and not known.is_server:
        return f"store {store} is no server"
    if name == "environment.MALLOC_CONF" and not known.has_jemalloc:
        return f"store {store} is not linked with jemalloc under its own name"
    if section == "settings" and not known.has_setting(key):
        return f"store {store} has no such key"
    return None


def _parameter(name: str, values: Sequence[Value], scenario: Mapping[str, Any]) -> Parameter:
    own = own_value(name, scenario)
    choices = [_value(name, choice, f"config: tune.space.{name}") for choice in values]
    return Parameter(name, own, tuple(dict.fromkeys([own, *choices])))


def _value(name: str, value: Any, where: str) -> Value:
    """A choice; of parameters that end in _bytes as an integer, and what --config has as text as what it says."""
    if not isinstance(value, str) or "." in name:
        return value
    try:
        return _of_scenario(name, value)
    except ValidationError:
        if name.endswith("_bytes"):
            raise UserError(
                f"{where}: {value!r} is wrong; it must be a size such as '512 KiB' or bytes as an integer"
            ) from None
        return value
