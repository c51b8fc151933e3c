"""Rule predict_hit_rates: hit rate per tier against chunk, capacity, save_decode_cache and active conversations; no GPU, no store.

python -m workflow.hyperkv.predict.predict_hit_rates --spec '{...}' --out results/predict/hit_rates.csv

Each tier is an LRU cache that gets every chunk (written through, as LMCache does), HBM in the engine's blocks and with
answers, the tiers below in chunks. A prompt is served from HBM as far as it goes, then from the first tier below that
holds its next whole chunk; its last token is always computed. There is no time: requests come one after the other, so
nothing in flight takes room in HBM, and a chunk is saved before the next request.

lookup `prompt`: a tier is asked for the whole prompt and so learns of hits above it, as in LMCache, whose backends use
every chunk that vLLM's lookup pins (contains and touch_cache). lookup `rest`: it is asked only for what HBM did not have,
and saves an answer after the next load, as in engine replay. A pool hardly larger than HBM then holds other chunks than
HBM, and the two together more.

With save second_use the lowest tier below HBM gets a chunk when it comes to be saved again: when a request computed it once
more, or with lookup `prompt` found it in HBM alone. All layers are taken to keep every token, as LMCache keeps them; `notes` say where a
model's layers do not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base.cli import run_stage
from ..base.options import Spec
from ..models.geometry import load_geometry
from ..workloads import Conversation, repeat_seed
from ..workloads.factory import make_workload, prefixes_known, workload_notes
from ..workloads.prefix_tree import Order, Units, prefix_tree, prompt_tokens, request_order, turns_of
from ..workloads.reuse import Reuse, reuse_of
from .lower_tiers import loaded_chunks
from .lru import Tier, simulated_tier

TIERS = ("hbm", "dram", "ssd")
BELOW = TIERS[1:]
USES = (1, 2)  # scenario key save: first_use, second_use
AT_USES = ("written_bytes", "second_use_hit_rate", "second_use_written_bytes")
RATES = ("hit_rate", "ceiling_hit_rate")
MOST_REQUESTS = 100_000  # that are simulated chunk by chunk
NOT_ONE_BY_ONE = (
    f"of more than {MOST_REQUESTS:,} requests nothing is predicted that takes a simulation chunk by chunk: tiers that are asked "
    "for the rest, and saving at the second use below a DRAM pool; max_requests takes a part of a trace"
)
_KEPT_TIERS = 8
# Units that a tier holds, by tier name; None: unbounded. Tiers that are not there have no entry.
Capacities = dict[str, int | None]


def capacities_of(tiers: Mapping[str, Any], block_bytes: int, chunk_bytes: int) -> Capacities:
    """From {"hbm_bytes": ..., "dram_bytes": ..., "ssd_bytes": ...}: whole blocks of HBM, whole chunks below."""
    unit = {"hbm": block_bytes, "dram": chunk_bytes, "ssd": chunk_bytes}
    there = [(name, tiers[f"{name}_bytes"]) for name in TIERS if f"{name}_bytes" in tiers]
    return {name: None if size is None else size // unit[name] for name, size in there}


@dataclass
class Simulation:
    """One workload with one seed, its requests in the order in which they are sent.

    What is used again, trees in units and what tiers held lately are kept, since many combinations share them.
    """

    conversations: Sequence[Conversation]
    order: Order
    prompts: np.ndarray
    _reuse: dict[bool, Reuse] = field(default_factory=dict)
    _units: dict[tuple[bool, int], tuple[Units, list[int]]] = field(default_factory=dict)
    _simulated: dict[tuple[bool, int, int | None, int], Tier] = field(default_factory=dict)

    @classmethod
    def of(cls, conversations: Sequence[Conversation], clients: int, active_conversations: int) -> Simulation:
        """The simulation of conversations that so many clients hold."""
        order = request_order(turns_of(conversations), clients, active_conversations)
        return cls(conversations, order, prompt_tokens(conversations, order))

    def reached(
        self, save_decode_cache: bool, unit_tokens: int, capacity: int | None, uses: int = 1
    ) -> np.ndarray:
        """Prompt tokens of each request that a tier alone would serve: whole units, never the last token."""
        held = self.tier(save_decode_cache, unit_tokens, capacity, uses).held
        return np.minimum(held, (self.prompts - 1) // unit_tokens) * unit_tokens

    def tier(self, save_decode_cache: bool, unit_tokens: int, capacity: int | None, uses: int = 1) -> Tier:
        """What a tier alone would hold and write."""
        key = (save_decode_cache, unit_tokens, capacity, uses)
        if key not in self._simulated:
            if save_decode_cache not in self._reuse:
                self._reuse[save_decode_cache] = reuse_of(self.conversations, self.order, save_decode_cache)
            reuse = self._reuse[save_decode_cache]
            self._simulated[key] = simulated_tier(reuse, unit_tokens, capacity, uses)
        self._simulated[key] = self._simulated.pop(key)
        while len(self._simulated) > _KEPT_TIERS:
            del self._simulated[next(iter(self._simulated))]
        return self._simulated[key]

    def _in_units(self, save_decode_cache: bool, unit_tokens: int) -> tuple[Units, list[int]]:
        """The tree in units, and a node of it per request."""
        key = (save_decode_cache, unit_tokens)
        if key not in self._units:
            tree = prefix_tree(self.conversations, save_decode_cache)
            leaves = [tree.leaves[conversation][turn] for conversation, turn in self.order.requests]
            self._units[key] = tree.units(unit_tokens), leaves
        return self._units[key]

    def found(
        self,
        capacities: Capacities,
        save_decode_cache: bool,
        block_tokens: int,
        chunk_tokens: int,
        uses: int = 1,
        lookup: str = "prompt",
    ) -> Found:
        """What each request finds in the tiers. lookup: what those below HBM are asked for, `prompt` or `rest`.

        uses: at which use of a chunk the lowest tier below HBM gets it, 1 or 2.
        """
        below = {name: size for name, size in capacities.items() if name in BELOW}
        whole = lookup == "prompt"
        if not whole or (uses > 1 and len(below) > 1):  # what the upper one serves does not come to be saved
            return self._found_in_chunks(
                capacities, save_decode_cache, block_tokens, chunk_tokens, uses, whole
            )
        position = np.zeros_like(self.prompts)
        hits, written = {}, np.zeros_like(self.prompts)
        for name, capacity in capacities.items():
            above = position
            if name == "hbm":
                position = self.reached(True, block_tokens, capacity)
            else:
                key = (save_decode_cache, chunk_tokens, capacity, uses)
                position, written = np.maximum(above, self.reached(*key)), self.tier(*key).written
            hits[name] = position - above
        return Found(hits, written)

    def _found_in_chunks(
        self,
        capacities: Capacities,
        decode: bool,
        block_tokens: int,
        chunk_tokens: int,
        uses: int,
        whole: bool,
    ) -> Found:
        """By a simulation chunk by chunk. whole: tiers below HBM are asked for the whole prompt."""
        below = dict(capacities)
        hits, position = {}, np.zeros_like(self.prompts)
        if "hbm" in below:
            hits["hbm"] = position = self.reached(True, block_tokens, below.pop("hbm"))
        if not below:
            return Found(hits, np.zeros_like(self.prompts))
        units, leaves = self._in_units(decode, chunk_tokens)
        first, last = position // chunk_tokens, (self.prompts - 1) // chunk_tokens
        chunks = np.zeros_like(first) if whole else first
        asked = list(zip(chunks.tolist(), last.tolist(), strict=True))
        prompts = (self.prompts // chunk_tokens).tolist()
        loaded = loaded_chunks(units, leaves, asked, prompts, below, uses, answers_at_once=whole)
        for name in below:
            chunks = chunks + loaded.chunks[name]
            reached = np.maximum(position, chunks * chunk_tokens)
            hits[name], position = reached - position, reached
        return Found(hits, loaded.written)


@dataclass(frozen=True)
class Found:
    """hits: prompt tokens of each request served by each tier, from the fastest down, each adding to those above.

    written: chunks that were written to the lowest tier below HBM behind each request.
    """

    hits: dict[str, np.ndarray]
    written: np.ndarray


def main(*, spec: Spec, out: Path) -> None:
    """Simulate every combination and write the table.

    Args:
        spec: JSON: the stage's slice of the config (config.predict_spec).
        out: CSV file for the table.
    """
    hit_rates_table(spec).to_csv(out, index=False)


def hit_rates_table(spec: Mapping[str, Any]) -> pd.DataFrame:
    """One row per case x active conversations x tiers x save_decode_cache x chunk: mean over seeds, with the range.

    Raises UserError, naming the key, for a workload or model that cannot be read.
    """
    rows = [row for name, case in spec["cases"].items() for row in _case_rows(name, case, spec)]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["case", "tiers", "hit_rate"])


def _case_rows(name: str, case: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    workload = case["workload"]
    seeds = 1 if workload["kind"] in ("trace", "text") else case["seeds"]
    known = prefixes_known(workload)
    workloads = [make_workload(workload, repeat_seed(spec["seed"], number + 1)) for number in range(seeds)]
    windowed = case["counted"] == "window"
    for active in case["active_conversations"]:
        runs = [Simulation.of(made, case["clients"], active) for made in workloads]
        counted = [run.prompts[: run.order.window] if windowed else run.prompts for run in runs]
        for tiers, decode, chunk in product(case["tiers"], spec["save_decode_cache"], spec["chunk_tokens"]):
            sizes = case["tiers"][tiers]
            geometry = load_geometry(Path(case["model"]), sizes.get("kv_dtype", case["kv_dtype"]))
            block = sizes.get("block_tokens", case["block_tokens"])
            capacities = capacities_of(sizes, geometry.chunk_bytes(block), geometry.chunk_bytes(chunk))
            setting = (capacities, decode, block, chunk)
            found = [
                _rates(run, len(prompts), case["lookup"], setting, geometry.chunk_bytes(chunk))
                for run, prompts in zip(runs, counted, strict=True)
                if known
            ]
            left_out = (
                [NOT_ONE_BY_ONE] if known and any(_is_left_out(rates, sizes) for rates in found) else []
            )
            notes = "; ".join([*workload_notes(workload), *left_out, *geometry.offload_notes]) or None
            yield {
                "case": name,
                "workload": workload["kind"],
                "model": geometry.name,
                "active_conversations": max(active, case["clients"]),
                "clients": case["clients"],
                "tiers": tiers,
                "scenarios": "; ".join(sizes.get("scenarios", [])) or None,
                **{f"{tier}_bytes": _capacity(sizes, tier) for tier in TIERS},
                "kv_dtype": geometry.kv_dtype,
                "block_tokens": block,
                "save_decode_cache": decode,
                "chunk_tokens": chunk,
                "seeds": seeds,
                "counted": case["counted"],
                "lookup": case["lookup"],
                "requests": round(np.mean([len(prompts) for prompts in counted])),
                "prompt_tokens": round(np.mean([prompts.sum() for prompts in counted])),
                **_over_seeds(found),
                "notes": notes,
            }


def _is_left_out(rates: Mapping[str, float], sizes: Mapping[str, Any]) -> bool:
    """Whether a rate of tiers of these sizes is not there."""
    return "hit_rate" not in rates or (
        any(f"{name}_bytes" in sizes for name in BELOW) and "second_use_hit_rate" not in rates
    )


def _rates(
    run: Simulation,
    requests: int,
    lookup: str,
    setting: tuple[Capacities, bool, int, int],
    chunk_bytes: int,
) -> dict[str, float]:
    """Shares of the first requests' prompt tokens: all tiers, each, and one unbounded store without HBM; bytes written.

    Of chunks saved at the second use what differs. Nothing of what goes chunk by chunk when there are more than MOST_REQUESTS.
    """
    capacities, decode, _, chunk_tokens = setting
    total = run.prompts[:requests].sum()
    ceiling = run.reached(decode, chunk_tokens, None)
    many = len(run.prompts) > MOST_REQUESTS
    below = [name for name in capacities if name in BELOW]
    if many and below and lookup == "rest":
        return {"ceiling_hit_rate": ceiling[:requests].sum() / total}
    first = run.found(*setting, lookup=lookup)
    second = None if many and len(below) > 1 else run.found(*setting, USES[1], lookup)
    by_tier = {f"{tier}_hit_rate": tokens[:requests].sum() / total for tier, tokens in first.hits.items()}
    rates = {
        "hit_rate": sum(by_tier.values()),
        "ceiling_hit_rate": ceiling[:requests].sum() / total,
        **by_tier,
    }
    if not below:
        return rates
    rates["written_bytes"] = int(first.written[:requests].sum()) * chunk_bytes
    if second is None:
        return rates
    again = sum(tokens[:requests].sum() for tokens in second.hits.values()) / total
    written = int(second.written[:requests].sum()) * chunk_bytes
    return rates | {"second_use_hit_rate": again, "second_use_written_bytes": written}


def _over_seeds(found: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Mean of every rate, and the range of those that RATES names; None where nothing was found."""
    row: dict[str, float | None] = {}
    for name in (*RATES, *(f"{tier}_hit_rate" for tier in TIERS), *AT_USES):
        values = [rates[name] for rates in found if name in rates]
        row[name] = float(np.mean(values)) if values else None
        if name in RATES:
            row[f"{name}_low"] = float(min(values)) if values else None
            row[f"{name}_high"] = float(max(values)) if values else None
    return row


def _capacity(tiers: Mapping[str, Any], tier: str) -> float | None:
    """Bytes of a tier; infinite when unbounded, None when it is not there."""
    if f"{tier}_bytes" not in tiers:
        return None
    size = tiers[f"{tier}_bytes"]
    return float("inf") if size is None else size


if __name__ == "__main__":
    sys.exit(run_stage("predict_hit_rates", main))
