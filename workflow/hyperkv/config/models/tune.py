"""Section `tune`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, StrictBool, WithJsonSchema, model_validator

from .experiment import Names
from .faults import fault
from .values import (
    SIZE,
    Boolean,
    Count,
    Given,
    Number,
    OrNull,
    Positive,
    Section,
    Several,
    Size,
    key,
    optional,
    read_size,
    section,
)

_SIZES = {"type": "string", "pattern": SIZE["anyOf"][1]["pattern"]}
WholeEnd = Annotated[
    int, BeforeValidator(read_size), WithJsonSchema({"anyOf": [{"type": "integer"}, _SIZES]})
]
NumberEnd = Annotated[
    Number, BeforeValidator(read_size), WithJsonSchema({"anyOf": [{"type": "number"}, _SIZES]})
]
ParameterName = Annotated[
    str,
    Field(pattern="^(settings[.][A-Za-z0-9][A-Za-z0-9._-]*|environment[.][A-Za-z_][A-Za-z0-9_]*|[a-z_]+)$"),
]


class _Ends(Given):
    log: Boolean = optional()
    """Whether the logarithm is searched evenly."""

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        low, high, step = (getattr(self, name) for name in ("low", "high", "step"))
        if low > high:
            raise fault(f"low {low} is above high {high}; swap them")
        if self.log and step is not None:
            raise fault("a logarithmic range has none; leave it or `log` out", "step")
        if self.log and low <= 0:
            raise fault(f"{low} is wrong; a logarithmic range must begin above 0", "low")
        if step is not None and step <= 0:
            raise fault(f"{step} is wrong; it must be more than 0", "step")
        return self


class Integers(_Ends):
    """Whole numbers of a range."""

    kind: Literal["integer"]
    low: WholeEnd = key(unit="the parameter's")
    """Least value."""
    high: WholeEnd = key(unit="the parameter's")
    """Highest value."""
    step: WholeEnd = optional(unit="the parameter's")
    """Distance of the values from one another."""


class Numbers(_Ends):
    """Numbers of a range."""

    kind: Literal["number"]
    low: NumberEnd = key(unit="the parameter's")
    """Least value."""
    high: NumberEnd = key(unit="the parameter's")
    """Highest value."""
    step: NumberEnd = optional(unit="the parameter's")
    """Distance of the values from one another."""


class Choices(Given):
    """One of several values."""

    kind: Literal["choice"]
    choices: Annotated[Several[str | StrictBool | int | float | None], Field(min_length=1)] = key(
        unit="the parameter's"
    )
    """The values, the scenario's own added when it is missing; null for a key that is not set."""


Parameter = Annotated[Integers | Numbers | Choices, Discriminator("kind")]


class Objective(Section):
    """What the engine's cells are compared by."""

    metric: Literal["ttft_p50_ms", "goodput_rps"] = key("ttft_p50_ms", unit="column of cells.csv")
    """Median time to first token, or the answers per second that keep experiment.slo."""
    load: Count = key(2, unit="clients")
    """Load of these cells, in the unit of experiment.loads."""


class Tune(Section):
    """What `snakemake tune` searches: settings of one scenario, on its store alone first and with the engine for the best of them.

    Not part of a run.
    """

    scenarios: Names = key([], unit="names")
    """The scenario to start from, the first of these whose store is there; of several chunk sizes the
    first."""
    budget_minutes: Positive = key(10, unit="minutes")
    """Time for the search on the store alone, over all runs that were needed; the trial under way is
    finished. The engine's cells of the finalists come on top."""
    trials: Count = key(100, unit="trials")
    """Trials at most, the scenario as it is among them."""
    finalists: Count = key(3, unit="trials")
    """The best of the trials that the engine measures, besides the scenario as it is."""
    repeats: Count = key(3, unit="repeats")
    """Repeats of every finalist with the engine, and as many again, with other requests, of the winner
    beside the scenario as it is."""
    objective: Objective = section(Objective)
    prompt_tokens: Count = key(2048, unit="tokens")
    """Length of the prompt whose chunks are set and got at once in every round of a trial."""
    warm_up_bytes: OrNull[Size] = None
    """Bytes of other chunks that are set untimed before the first round and, for tier ssd, before every
    GET, so that what is got has left the write buffer; null takes those of the prompt."""
    space: dict[ParameterName, Parameter] = key({})
    """Parameters by name: stripe_bytes, stripes_in_flight, connections, processes, socket, chunk_tokens,
    kv_dtype, page_cache, save_decode_cache, settings.KEY or environment.NAME. One that the store or
    connector does not have is left out, and that is said. Ranges must contain the scenario's own value."""
