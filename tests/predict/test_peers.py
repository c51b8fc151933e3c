"""The ceiling of a trace, against what its peers make of the same file: kvcache-simulator and AIPerf's theoretical prefix cache."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from kvcache_sim.plan import build_execution_plan
from kvcache_sim.policies import simulate_ceiling
from kvcache_sim.trace import parse_trace_lines

from tests.workloads.kinds import EXCERPT
from workflow.hyperkv.predict.predict_hit_rates import Simulation
from workflow.hyperkv.workloads.factory import make_workload

HEADS = EXCERPT.parent / "traces"
WHOLE = Path(__file__).parents[3] / "shared/data/mooncake/conversation_trace.jsonl"
HALF_A_POINT = 0.005
LOADGEN = os.environ.get("HYPERKV_LOADGEN_PYTHON", "results/build/loadgen/venv/bin/python")
# AIPerf's own models read the sessions, and its own pass counts them, as WekaTraceLoader does without splitting agents.
AIPERF = """
import json, sys
from aiperf.dataset.loader.weka_metric_prepass import MetricRecord, compute_shared_prefix_cache_metrics
from aiperf.dataset.loader.weka_trace import _subagent_request_absolute_t
from aiperf.dataset.loader.weka_trace_models import WekaSubagentEntry, WekaTrace
hits = whole = 0
for line in open(sys.argv[1]):
    trace = WekaTrace.model_validate(json.loads(line))
    found = []
    for outer, one in enumerate(trace.requests):
        if isinstance(one, WekaSubagentEntry):
            found += [((_subagent_request_absolute_t(one, r), outer, 1, k), r) for k, r in enumerate(one.requests)]
        else:
            found.append(((one.t, outer, 0, 0), one))
    records = [MetricRecord(key, "s", k, r.hash_ids) for k, (key, r) in enumerate(found)]
    for hit, total in compute_shared_prefix_cache_metrics(records).values():
        hits, whole = hits + hit, whole + total
print(json.dumps([hits, whole]))
"""


def run_of(trace: Path, **keys) -> Simulation:
    return Simulation.of(make_workload({"kind": "trace", "trace": str(trace), **keys}, 1), 1, 1)


def second_half(run: Simulation, unit_tokens: int) -> float:
    """What an unbounded store hits of the second half of the requests."""
    half = len(run.prompts) // 2
    return run.reached(False, unit_tokens, None)[half:].sum() / run.prompts[half:].sum()


@pytest.mark.parametrize(
    ("trace", "block"),
    [
        (EXCERPT, 512),
        (HEADS / "bailian.jsonl", 16),
        pytest.param(WHOLE, 512, marks=pytest.mark.skipif(not WHOLE.exists(), reason="the whole trace is not here")),
    ],
    ids=["mooncake", "bailian", "whole"],
)  # fmt: skip
def test_kvcache_simulator_has_the_same_ceiling(trace, block):
    """That simulator keeps a prompt's started block as well, so that units of one token are compared."""
    lines = trace.read_text().splitlines()
    theirs = simulate_ceiling(build_execution_plan(parse_trace_lines(lines, block_size=block))).hitRate
    mine = second_half(run_of(trace), 1)
    print(f"{trace.name}: kvcache-simulator {theirs:.3%}, here {mine:.3%}")
    assert theirs > 0
    assert mine == pytest.approx(theirs, abs=HALF_A_POINT)


def sessions(folder: Path) -> Path:
    """Sessions as kvcache-simulator takes them: a line per request in the order of times, ids with their session's name."""
    rows = []
    for line in (HEADS / "agentic.jsonl").read_text().splitlines():
        session = json.loads(line)
        inner = [one for each in session["requests"] for one in each.get("requests", [each])]
        rows += [(one["t"], session["id"], one) for one in inner]
    rows.sort(key=lambda row: row[0])
    told = [
        {
            "block_size": 64,
            "input_length": len(one["hash_ids"]) * 64,
            "hash_ids": [f"{name} {i}" for i in one["hash_ids"]],
        }
        for _, name, one in rows
    ]
    path = folder / "flat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in told))
    return path


def test_kvcache_simulator_has_the_same_ceiling_of_sessions(tmp_path):
    lines = sessions(tmp_path).read_text().splitlines()
    theirs = simulate_ceiling(build_execution_plan(parse_trace_lines(lines)))
    run = run_of(HEADS / "agentic.jsonl")
    half = len(run.prompts) // 2
    assert run.reached(False, 64, None)[half:].sum() == theirs.hitTokens > 0
    assert second_half(run, 64) == pytest.approx(theirs.hitRate, abs=HALF_A_POINT)


@pytest.mark.skipif(
    not Path(LOADGEN).exists(),
    reason="AIPerf is not here: HYPERKV_LOADGEN_PYTHON names the Python of an environment that has it",
)
def test_aiperf_has_the_same_ceiling_of_sessions():
    told = subprocess.run(
        [LOADGEN, "-c", AIPERF, HEADS / "agentic.jsonl"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    hits, blocks = json.loads(told.stdout.splitlines()[-1])
    run = run_of(HEADS / "agentic.jsonl")
    mine = run.reached(False, 64, None)
    print(f"AIPerf {hits / blocks:.3%}, here {mine.sum() / run.prompts.sum():.3%}")
    assert mine.sum() == hits * 64 > 0
    assert mine.sum() / run.prompts.sum() == pytest.approx(hits / blocks, abs=HALF_A_POINT)
