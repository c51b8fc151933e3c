"""Section `tune`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from .experiment import Names
from .values import Count, Load, OrNull, Positive, Section, Several, Size, key, section

ParameterName = Annotated[
    str,
    Field(pattern="^(settings[.][A-Za-z0-9][A-Za-z0-9._-]*|environment[.][A-Za-z_][A-Za-z0-9_]*|[a-z_]+)$"),
]
Values = Annotated[Several[str | StrictBool | int | float | None], Field(min_length=1)]


class Objective(Section):
    """What the engine's cells are compared by."""

    metric: Literal["ttft_p50_ms", "goodput_rps"] = key("ttft_p50_ms", unit="column of cells.csv")
    """Median time to first token, or the answers per second that keep experiment.slo."""
    load: Load = key(2, unit="clients or 1/s")
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
    space: dict[ParameterName, Values] = key({}, unit="the parameter's")
    """Values to try by the parameter's name, the scenario's own added when it is missing; null for a key that
    is not set. Whole numbers without a gap are searched by their order. Parameters are stripe_bytes, stripes_in_flight, connections, processes, socket, chunk_tokens,
    kv_dtype, page_cache, save_decode_cache, save, gate, settings.KEY and environment.NAME. One that the store or connector
    does not have is left out, and that is said."""
