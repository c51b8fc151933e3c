"""What results/summary.json holds, for other programs, and its JSON Schema.

python -m workflow.hyperkv.report.summary > workflow/schemas/summary.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Literal

from pydantic.json_schema import GenerateJsonSchema

from ..records.kinds.record import Part

SCHEMA_VERSION = 1


class Interval(Part):
    """A median over repeats with its bootstrap 95 % interval, of up to five repeats their range; null where it was not measured, the ends for one repeat."""

    value: float | None
    low: float | None
    high: float | None


class Pays(Part):
    """For how many pairs of model and GPU loading a prompt's KV from a tier of this machine beats computing it."""

    tier: Literal["dram", "ram_over_resp", "ssd"]
    """dram is pinned memory of the engine and modelled; the others are this machine's fastest store there, as measured."""
    kv_dtype: str
    """Format of the KV cache."""
    prompt_tokens: int
    """Length of the prompt."""
    pays: int
    """Pairs for which loading is faster."""
    undecided: int
    """Pairs for which the store's interval holds break-even."""
    loses: int
    """Pairs for which computing is faster."""
    too_many_gpus: int
    """Pairs that are not judged: one machine's GPUs do not hold the model."""


class Recommendation(Part):
    """What to run; results/recommended holds its files."""

    answer: str
    """What to do and by how much it is better, one sentence."""
    scenario: str | None
    """Null where no scenario could be recommended."""
    load: float | None
    """Number of active clients, or conversations/s of an open loop, at which it does best."""
    metric: str
    """The column of cells.csv that counts."""
    unit: str
    """Its unit."""
    value: Interval
    """Its value."""


class Scenario(Part):
    """What one scenario does, at the highest load that all have; where they share none, at its own highest."""

    scenario: str
    tier: Literal["none", "dram", "ssd"]
    """Where KV lives."""
    store: str | None
    """What holds it."""
    connector: str | None
    """How the engine reaches the store."""
    served_from: str | None
    """Where loaded bytes really came from."""
    load: float
    """Number of active clients, or conversations/s of an open loop."""
    valid: bool
    """Whether every repeat proves itself."""
    repeats: int
    valid_repeats: int
    rps_per_gpu: Interval
    """Requests per second and GPU."""
    tps_per_user: Interval
    """Tokens per second and user."""
    ttft_p50_ms: Interval
    """Time to first token in ms, median over requests."""
    hit_rate: Interval
    """Share of prompt tokens that were not computed."""


class Ratio(Part):
    """The DRAM scenario's figure over that of a scenario on SSD, paired by repeat, valid cells alone."""

    baseline: str
    """The DRAM scenario."""
    scenario: str
    at: Literal["load", "tps_per_user"]
    """What is equal: the load, the highest that both have, or TPS/user."""
    load: float | None
    """That load."""
    metric: Literal["rps_per_gpu", "ttft_p50_ms"]
    ratio: Interval
    unlike: str | None
    """Facts in which the two differ beside where KV is kept; the ratio is null then."""


class Evidence(Part):
    """Totals over all cells (scenario x load x repeat); null where no engine counted it."""

    cells: int
    valid_cells: int
    sent_requests: int | None
    failed_requests: int | None
    wrong_chunks: int | None
    """Chunks that came back other than they were saved."""


class Environment(Part):
    """What cells were measured on."""

    machine: str | None
    """Cores, memory and GPUs in words."""
    disk: str | None
    """File system and disks in words."""
    system: str | None
    """Operating system and kernel."""
    versions: dict[str, str]
    """Package versions."""
    commit: str | None
    """The workflow's commit."""
    edited: bool | None
    """Whether tracked files differed from it."""


class Summary(Part):
    """The answer of a run and its main numbers. A figure that was not measured is null, never 0."""

    schema_version: int = SCHEMA_VERSION
    """A higher one may lack or rename keys; keys may be added without one."""
    answer: str
    """For which GPUs and models this machine's storage pays."""
    caveat: str
    """What the answer does not say."""
    pays: list[Pays]
    """Counts of results/tables/pays.csv."""
    recommendation: Recommendation
    engine: str | None
    """What served the sweep: vllm, or replay with modelled GPU time."""
    model: str | None
    gpu: str | None
    """The GPU of the sweep, real or modelled."""
    sweep: list[Scenario]
    ratios: list[Ratio]
    evidence: Evidence
    environments: list[Environment]
    """One where all was measured on one machine with one commit."""
    notes: list[str]
    """What is invalid or left out, and the remedy."""
    paths: dict[str, str]
    """Results by what they are, relative to the working directory."""


def main() -> None:
    """Print the JSON Schema."""
    sys.stdout.write(text())


def text() -> str:
    """The JSON Schema of the file (2020-12)."""
    dialect = {"$schema": GenerateJsonSchema.schema_dialect}
    return json.dumps(dialect | Summary.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
