"""What the command line of every measuring stage has: what to measure, where the records go, and what they depend on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from ..base.options import LOGS, Spec
from ..machine.require_array import require_array
from ..records.identity import BY_HAND, identity_of
from ..records.journal import Journal


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage's measurement.

    Args:
        spec: JSON: the stage's slice of the config.
        out: JSONL file of records.
        logs: folder for servers' output.
        code: digest of the code that is run, told by the rule.
    """

    spec: Spec
    out: Path
    logs: Path = LOGS
    code: str = BY_HAND

    def journal(self, *kept_for: Any) -> Journal:
        """The journal of the records, where the spec's array, if it has one, is as provisioned. Raises UserError."""
        require_array(self.spec)
        return Journal(self.out, identity_of(self.spec, self.code), *kept_for)
