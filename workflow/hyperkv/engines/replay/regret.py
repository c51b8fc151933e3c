"""What the gate costs against the better of recompute and loading everything, cell by cell, in hindsight; no store, no GPU.

    python -m workflow.hyperkv.engines.replay.regret --out results/regret.csv --text results/regret.txt

A cell is a random device (GB/s, latency, noise, what is warm, a change of its speed in the middle), GPU, model, KV format, chunk and
number of clients, all drawn from a seed. Engine replay plays the same requests four times: nothing is loaded (none), everything
that is there (always, a gate that is off), and what a gate finds worth it (ttft, throughput). Only the device is modelled besides: gate and engine are those
of a measured cell. Clients think for a moment between an answer and the next request, as they would behind a network; without it all
requests come at the end of a step, and a lookup of a microsecond costs the next whole one.

    regret of ttft        = TTFT of the gate / the lower TTFT of none and always - 1, of the median and of the 99th percentile
    regret of throughput  = 1 - requests/s within the SLO of the gate / the higher of none and always

The SLO of a cell, which its gate is told, is twice the lower median TTFT of none and always. Closed loops are chaotic: the same
cell played again with other moments of thought has a 99th percentile 10 % away. A cell is played twice, one with a regret above 5 % six times
more, and one that still has it 24 times more; the requests of all these count together.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ....plugin.lmcache_striped.gate import OFF, THROUGHPUT, TTFT, Gate
from ...base.cli import run_stage
from ...base.options import Count, CountOrNone
from ...models.gpus import kv_share
from ...workloads import longest_context
from ...workloads.chunks import chain_keys
from ...workloads.multi_turn import conversations
from .clients import replay
from .gating import Gating, curve_points
from .model_cell import WARM_BYTES, ModelCell, draw
from .modelled import ModelTiers
from .request import KeyedConversation, ReplayResult, ReplaySettings, VirtualClock

NONE, ALWAYS = "none", "always"
REGRETS = ("ttft_p50_regret", "ttft_p99_regret", "throughput_slo_regret")
MOST = 0.05
MODES = (NONE, ALWAYS, TTFT, THROUGHPUT)
REQUESTS, REPEATS = 300, (2, 8, 32)
BLOCK_TOKENS, STEP_TOKENS, SEQUENCES = 16, 8192, 64
_THINK_S = 0.05
_STAGING_BYTES = 8 << 30
_SLO = 2.0
_WARM_BYTES = WARM_BYTES // 2  # a gate goes by half of the memory that there is


@dataclass(frozen=True)
class Outcome:
    """What came of a cell's requests. ended: whether each was answered in the measured window.

    The first tenth does not count, nor does what comes before every client has had a first token: clients all begin at once, when nothing
    is there to be loaded, and how many of these requests count would be the 99th percentile.
    """

    ttft_s: np.ndarray
    ended: np.ndarray
    window_s: float

    @classmethod
    def of(cls, result: ReplayResult) -> Outcome:
        """From an engine's requests."""
        first = {item.client: item for item in reversed(result.requests)}
        begun_s = max(item.first_token_s or math.inf for item in first.values())
        window = [item for item in result.requests if item.arrival_s < result.window_s]
        window = [item for item in window[len(window) // 10 :] if item.arrival_s >= begun_s]
        ttft_s = np.array([(item.first_token_s or math.inf) - item.arrival_s for item in window])
        ended = np.array([(item.finish_s or math.inf) <= result.window_s for item in window])
        return cls(ttft_s, ended, result.window_s - window[0].arrival_s)

    @classmethod
    def together(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Of several repeats."""
        ttft_s, ended = (
            np.concatenate([getattr(item, name) for item in outcomes]) for name in ("ttft_s", "ended")
        )
        return cls(ttft_s, ended, sum(item.window_s for item in outcomes))

    def percentile_s(self, percent: float) -> float:
        """Of TTFT."""
        return float(np.percentile(self.ttft_s, percent))

    def rps(self, slo_s: float = math.inf) -> float:
        """Answers per second in the window, of which the first token came within slo_s."""
        return float(np.sum(self.ended & (self.ttft_s <= slo_s))) / self.window_s


def keyed_conversations(cell: ModelCell) -> list[KeyedConversation]:
    """The cell's workload."""
    drawn = conversations(cell.workload, cell.number)
    return [KeyedConversation(item, chain_keys(item.tokens, BLOCK_TOKENS)) for item in drawn]


def play(
    cell: ModelCell,
    keyed: Sequence[KeyedConversation],
    mode: str,
    repeat: int = 0,
    change_s: float = math.inf,
    slo_s: float | None = None,
) -> Outcome:
    """Serve the cell's requests. mode: of MODES. change_s: when the device's speed changes. slo_s: what the gate is told of it."""
    gpu, clock, chunk_tokens = cell.gpu_model, VirtualClock(), cell.chunk_tokens
    chunk_bytes = kv_share(cell.geometry, cell.gpus).stored_bytes(chunk_tokens)
    tiers = gating = None
    if mode != NONE:
        device = replace(cell.device, changes=((change_s, cell.change),))
        tiers = ModelTiers(device, chunk_bytes, clock, repeat)
        gate = Gate(
            OFF if mode == ALWAYS else mode,
            chunk_tokens,
            clock,
            curve_points(gpu, STEP_TOKENS),
            chunk_bytes,
            _WARM_BYTES,
            slo_s=slo_s,
        )
        gating = Gating(gate, tiers, chunk_tokens)
    blocks = -(-longest_context(item.conversation for item in keyed) // BLOCK_TOKENS)
    settings = ReplaySettings(
        block_tokens=BLOCK_TOKENS,
        hbm_blocks=blocks * max(4, cell.clients),
        chunk_tokens=chunk_tokens,
        max_num_batched_tokens=STEP_TOKENS,
        max_num_seqs=SEQUENCES,
        staging_bytes=max(_STAGING_BYTES, chunk_bytes),
        staging_full="drop",
        prefix_caching=cell.prefix_caching,
    )
    think = [
        np.random.default_rng([cell.seed, cell.number, repeat, client]) for client in range(cell.clients)
    ]
    result = replay(
        keyed,
        cell.clients,
        gpu,
        settings,
        tiers,
        2 * cell.clients,
        gating,
        clock,
        lambda client: think[client].exponential(_THINK_S),
    )
    return Outcome.of(result)


def regret_of(
    number: int, seed: int, requests: int = REQUESTS, repeats: Sequence[int] = REPEATS
) -> dict[str, Any]:
    """A row: the cell, what came of it in all four modes, and the regrets.

    repeats: how often it is played, and how often if a regret is above MOST then, and so on; all requests count.
    """
    cell = draw(number, seed, requests)
    keyed = keyed_conversations(cell)
    slo_s, played = None, dict[str, list[Outcome]]((mode, []) for mode in MODES)
    row: dict[str, Any] = {}
    for most in repeats:
        for repeat in range(len(played[NONE]), most):
            none = play(cell, keyed, NONE, repeat)
            half_s = none.window_s / 2
            always = play(cell, keyed, ALWAYS, repeat, half_s)
            slo_s = slo_s or _SLO * min(none.percentile_s(50), always.percentile_s(50))
            gates = (play(cell, keyed, mode, repeat, half_s, slo_s) for mode in (TTFT, THROUGHPUT))
            for outcomes, outcome in zip(played.values(), (none, always, *gates), strict=True):
                outcomes.append(outcome)
        assert slo_s is not None
        row = cell.told | compared(
            {mode: Outcome.together(outcomes) for mode, outcomes in played.items()}, slo_s
        )
        row["repeats"] = most
        if max(row[name] for name in REGRETS) <= MOST:
            break
    return row


def compared(outcomes: Mapping[str, Outcome], slo_s: float) -> dict[str, Any]:
    """What came of a cell by mode, and the regrets of the gates."""
    hindsight = (outcomes[NONE], outcomes[ALWAYS])
    row: dict[str, Any] = {"requests": len(outcomes[NONE].ttft_s), "slo_ms": 1e3 * slo_s}
    for mode, outcome in outcomes.items():
        row |= {f"{mode}_ttft_p{percent}_ms": 1e3 * outcome.percentile_s(percent) for percent in (50, 99)}
        row |= {f"{mode}_rps": outcome.rps(), f"{mode}_slo_rps": outcome.rps(slo_s)}
    for percent in (50, 99):
        best_s = min(outcome.percentile_s(percent) for outcome in hindsight)
        row[f"ttft_p{percent}_regret"] = outcomes[TTFT].percentile_s(percent) / best_s - 1
    best_rps = max(outcome.rps(slo_s) for outcome in hindsight)
    row["throughput_slo_regret"] = 1 - outcomes[THROUGHPUT].rps(slo_s) / best_rps if best_rps else 0.0
    return row


def regrets(numbers: Sequence[int], seed: int, requests: int, workers: int) -> pd.DataFrame:
    """A row per cell, see regret_of."""
    with ProcessPoolExecutor(workers) as pool:
        return pd.DataFrame(list(pool.map(partial(regret_of, seed=seed, requests=requests), numbers)))


def told(table: pd.DataFrame) -> str:
    """The distribution of regrets, a line each, and the cells where one is more than MOST."""
    names = [
        "TTFT, median (gate ttft)",
        "TTFT, 99th percentile (gate ttft)",
        "requests/s within the SLO (gate throughput)",
    ]
    lines = [f"Regret over {len(table)} cells: median, 95th percentile, most, cells above {MOST:.0%}"]
    for name, column in zip(names, REGRETS, strict=True):
        values = table[column]
        figures = (f"{values.quantile(share):6.1%}" for share in (0.5, 0.95, 1.0))
        lines.append(f"  {name:45} {'  '.join(figures)}  {int((values > MOST).sum())}")
    for _, row in table[(table[list(REGRETS)] > MOST).any(axis=1)].iterrows():
        lines.append(
            f"  cell {row.cell}: {row.gpus} x {row.gpu}, {row.model} ({row.kv_dtype}), {row.clients} clients, chunk {row.chunk_tokens}, "
            f"{row.gbps} GB/s, {row.latency_us} us, change {row.change:g}: "
            + ", ".join(f"{row[column]:.1%}" for column in REGRETS)
        )
    return "\n".join(lines) + "\n"


def main(
    *,
    out: Path,
    text: Path | None = None,
    cells: Count = 200,
    seed: int = 1,
    requests: Count = REQUESTS,
    workers: CountOrNone = None,
) -> None:
    """Play the cells.

    Args:
        out: CSV file, a row per cell.
        text: text file for the distribution, which is printed as well.
        cells: how many.
        seed: of all that is drawn.
        requests: of a cell each time that it is played, about.
        workers: processes, all cores if not given.
    """
    table = regrets(range(cells), seed, requests, workers or os.cpu_count() or 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)
    if text is not None:
        text.write_text(told(table))
    print(told(table), end="")


if __name__ == "__main__":
    sys.exit(run_stage("regret", main))
