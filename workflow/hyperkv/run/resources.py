"""What a job asks a scheduler for; locally nothing of it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config.environments import LOADGEN_ENVIRONMENT
from ..config.plan import requested_gpus


@dataclass(frozen=True)
class JobResources:
    """config: checked. Its methods are a rule's resources, of a job's wildcards."""

    config: Mapping[str, Any]

    def gpus(self, wildcards: Any) -> int:
        """GPUs that an engine on cuda uses."""
        if wildcards.get("environment") == LOADGEN_ENVIRONMENT or self.nodes(wildcards):
            return 0
        return requested_gpus(self.config, wildcards.get("scenario"))

    def nodes(self, wildcards: Any) -> int | None:
        """2 for a job whose scenario's store has a node of its own."""
        return 2 if self.config["scenarios"].get(wildcards.get("scenario"), {}).get("node") else None

    def tasks(self, wildcards: Any) -> int | None:
        """One for each of two nodes, where GPUs do not say it."""
        return None if self.gres(wildcards) else self.nodes(wildcards)

    def gres(self, wildcards: Any) -> str | None:
        """The GPUs of a job with two nodes, which Slurm counts for each node; of another it counts them for the job."""
        count = requested_gpus(self.config, wildcards.scenario) if self.nodes(wildcards) else 0
        return f"gpu:{count}" if count else None
