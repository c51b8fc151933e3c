"""Section `ladder`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .experiment import Names
from .texts import Key, Name
from .values import Section, Several, key

StepName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9 _-]*$")]


class Step(Section):
    """The steps by name, in their order; the first is what is compared with."""

    scenario: Name
    """Scenario of experiment.scenarios that has this step and all before it."""
    changes: Several[Key] = key([])
    """Keys of the scenario in which it differs from the one before, no more and no fewer; settings.KEY
    and environment.NAME for keys in these. Empty for the first."""


class Ladder(Section):
    """Scenarios each of which differs from the one before by a named step, and what every step brings (`snakemake ladder`, config/experiments/ladder.yaml)."""

    steps: dict[StepName, Step] = Field({})
    beside: Names = key([])
    """Scenarios of experiment.scenarios that are drawn beside the steps, such as no cache or DRAM."""
