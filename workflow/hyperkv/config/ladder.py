"""From the config's section `ladder` to the spec of its table; parity is checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..base.errors import UserError
from ..tables.methods.ladder_parity import require_steps
from .config import selected, sweep_spec


def ladder_spec(config: Mapping[str, Any]) -> str:
    """JSON of the ladder's steps, in order, and of what is drawn beside them. Raises UserError."""
    section = config["ladder"]
    steps = [{"step": name, **rules} for name, rules in section["steps"].items()]
    if len(steps) < 2:
        raise UserError("config: ladder.steps: a ladder has two steps at least; see config/ladder.yaml")
    measured = selected(config, config["experiment"]["scenarios"])
    for where, name in [
        *((f"ladder.steps.{step['step']}.scenario", step["scenario"]) for step in steps),
        *(("ladder.beside", name) for name in section["beside"]),
    ]:
        if name not in measured:
            raise UserError(f"config: {where}: {name} is not among experiment.scenarios; add it there")
    specs = [json.loads(sweep_spec(config, step["scenario"])) for step in steps]
    try:
        require_steps(steps, specs)
    except UserError as error:
        raise UserError(f"config: {error}") from None
    return json.dumps({"steps": steps, "beside": section["beside"]})


def ladder_scenarios(config: Mapping[str, Any]) -> list[str]:
    """The scenarios that the ladder needs measured."""
    section = config["ladder"]
    return list(
        dict.fromkeys([*(step["scenario"] for step in section["steps"].values()), *section["beside"]])
    )
