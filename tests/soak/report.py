"""What a soak says: a line per round as it happens, then counts per fault and per store, and every finding."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

_WIDTH = 240
_SHOWN = 12


@dataclass(frozen=True)
class Finding:
    """Something that must never be. invariant: its name, one word. text: what was found, on one line."""

    invariant: str
    text: str

    def __str__(self) -> str:
        text = " ".join(self.text.split())
        return f"{self.invariant}: {text if len(text) <= _WIDTH else text[:_WIDTH] + ' …'}"


@dataclass(frozen=True)
class Chosen:
    """Options of a soak. round: the one to repeat. kills: as many end half `stores`. fault: what a fault's or a subject's
    name must have in it. keep: leave the folders of rounds with findings."""

    round: int | None = None
    kills: int | None = None
    fault: str = ""
    keep: bool = False
    kvrocks: Path | None = None
    kvrocks_patched: Path | None = None


@dataclass
class Round:
    """One round: what was done, and what it found. note: what a reader may want to know of a round that went well."""

    half: str
    number: int
    fault: str
    findings: list[Finding] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0


class Report:
    """Rounds as they end. counts: totals per store, for the summary."""

    def __init__(self, seed: int):
        self.seed = seed
        self.rounds: list[Round] = []
        self.counts: dict[str, Counter[str]] = {}

    def add(self, done: Round) -> None:
        """Keep a round and print its line, and one for each finding."""
        self.rounds.append(done)
        result = f"{len(done.findings)} FINDINGS" if done.findings else "ok"
        note = f" · {done.note}" if done.note else ""
        say(
            f"soak {done.half} · round {done.number} · {done.fault} · seed {self.seed} · {result} · "
            f"{done.seconds:.0f} s{note}"
        )
        for finding in done.findings[:_SHOWN]:
            say(f"  finding · {finding}")
        if len(done.findings) > _SHOWN:
            say(f"  and {len(done.findings) - _SHOWN} more")

    def count(self, subject: str, counts: Mapping[str, int]) -> None:
        """Add to a store's totals."""
        self.counts.setdefault(subject, Counter()).update(counts)

    @property
    def findings(self) -> list[tuple[Round, Finding]]:
        return [(done, finding) for done in self.rounds for finding in done.findings]

    def total(self, name: str) -> int:
        """A count over all stores."""
        return sum(counts[name] for counts in self.counts.values())

    def summary(self) -> list[str]:
        """The end of a soak: what was done how often, and every finding with the command that repeats its round."""
        lines = ["", f"Soak with seed {self.seed}: {len(self.rounds)} rounds, {len(self.findings)} findings."]
        if self.counts:
            names = list(dict.fromkeys(name for counts in self.counts.values() for name in counts))
            rows = [
                [subject, *(counts[name] for name in names)]
                for subject, counts in sorted(self.counts.items())
            ]
            rows.append(["all stores", *map(self.total, names)])
            lines += ["", pd.DataFrame(rows, columns=["store", *names]).to_string(index=False)]
        faults = Counter(done.fault for done in self.rounds if done.half == "workflow")
        if faults:
            found = Counter(done.fault for done, _ in self.findings if done.half == "workflow")
            rows = [[name, faults[name], found[name]] for name in sorted(faults)]
            lines += ["", pd.DataFrame(rows, columns=["fault", "rounds", "findings"]).to_string(index=False)]
        seen: dict[tuple[str, str], list[tuple[Round, Finding]]] = {}
        for done, finding in self.findings:
            seen.setdefault((done.fault, re.sub(r"\d+", "#", str(finding))), []).append((done, finding))
        lines += ["", "Findings, each with a round that had it:"] if seen else []
        for alike in sorted(seen.values(), key=len, reverse=True):
            done, finding = alike[0]
            lines.append(
                f"  {len(alike)} x {finding}  [{done.fault}; python -m tests.soak {done.half} --seed {self.seed} --round "
                f"{done.number}]"
            )
        return lines


def say(line: str) -> None:
    """Print at once, whatever stdout is."""
    print(line, flush=True, file=sys.stdout)
