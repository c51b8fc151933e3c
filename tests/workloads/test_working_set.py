"""The working set against the chained keys of every context, and the room that a cell asks for."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.record_factory import cell
from tests.workloads.kinds import WORKLOADS, documents
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.cells import cell as cells
from workflow.hyperkv.cells.cell import CellSpec, check_room
from workflow.hyperkv.engines.replay.cells import measure_cell
from workflow.hyperkv.engines.vllm import running as vllm_running
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.hyperkv.workloads.factory import make_workload
from workflow.hyperkv.workloads.prefix_tree import prefix_tree
from workflow.hyperkv.workloads.working_set import (
    largest_context,
    least_shared,
    working_set,
    working_set_units,
)

QWEN = load_geometry("config/models/qwen3-32b.json", "fp8")
QUESTIONS = documents(4, 40, [12_000, 12_000], [20, 40], [8, 16])
Usage = namedtuple("Usage", "total used free")


def kept(conversations, chunk: int, answers: bool) -> int:
    """Distinct whole chunks of all saved contexts, turn by turn, by the keys of their tokens."""
    keys: set[bytes] = set()
    for conversation in conversations:
        tokens = conversation.tokens
        for turn in conversation.turns:
            keys.update(chain_keys(tokens[: turn.answer_end - 1 if answers else turn.prompt_end], chunk))
    return len(keys)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload["kind"])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("chunk", [16, 48, 512])
def test_it_is_what_distinct_keys_are(workload, answers, chunk):
    conversations = make_workload(workload, 3)
    found = working_set_units(conversations, chunk, answers)
    assert found == kept(conversations, chunk, answers)
    assert found == sum(prefix_tree(conversations, answers).units(chunk).count)


@given(
    st.integers(1, 3),
    st.integers(1, 8),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 24),
    st.booleans(),
    st.integers(0, 99),
)
def test_it_is_what_distinct_keys_are_for_any_documents(count, requests, length, rest, chunk, answers, seed):
    conversations = make_workload(documents(count, requests, [1, length], [1, rest], [1, rest]), seed)
    assert working_set_units(conversations, chunk, answers) == kept(conversations, chunk, answers)


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 7), st.integers(1, 9)),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 24),
    st.booleans(),
    st.integers(12, 60),
)
def test_it_is_what_distinct_keys_are_for_any_trace(tmp_path_factory, requests, chunk, answers, limit):
    """Blocks of 8 tokens with any names, the last one partly filled; long requests cut."""
    trace = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    rows = [
        {"timestamp": 0, "input_length": 8 * len(ids) - short, "output_length": answer, "hash_ids": ids}
        for ids, short, answer in requests
    ]
    trace.write_text("\n".join(map(json.dumps, rows)))
    workload = {"kind": "trace", "trace": str(trace), "block_tokens": 8}
    workload |= {"long_requests": "cut", "max_context_tokens": limit}
    conversations = make_workload(workload, 1)
    assert working_set_units(conversations, chunk, answers) == kept(conversations, chunk, answers)


def test_questions_on_shared_documents_are_kept_once():
    conversations = make_workload(QUESTIONS, 1)
    assert working_set(conversations, QWEN.chunk_bytes(64), 64, True) / 1e9 == pytest.approx(6.4, abs=0.2)
    all_contexts = sum(item.turns[-1].answer_end for item in conversations) * QWEN.kv_bytes_per_token
    assert 2 * all_contexts / 1e9 == pytest.approx(126, abs=2)


def test_clients_may_ask_about_different_documents_at_once():
    """Not about the longest alone: its questions are longer than any other's, and share it."""
    conversations = make_workload(documents(4, 40, [6_000, 12_000], [20, 40], [8, 16]), 1)
    asked = least_shared(conversations, 4, 64)
    assert len({each.tokens[:64].tobytes() for each in asked}) == 4
    longest = sorted(conversations, key=lambda each: -each.turns[-1].answer_end)[:4]
    assert working_set_units(asked, 64, True) > 2 * working_set_units(longest, 64, True)
    assert len(least_shared(conversations, 99, 64)) == 40


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 60), st.integers(1, 9), st.integers(0, 99))
def test_each_next_one_adds_most(count, requests, length, asked, seed):
    """Held against trying every one that is left."""
    left = make_workload(documents(count, requests, [1, length], [1, 30], [1, 30]), seed)
    keys = {each.name: set(chain_keys(each.tokens, 8)) for each in left}
    held: set[bytes] = set()
    for each in least_shared(left, asked, 8):
        assert len(keys[each.name] - held) == max(len(own - held) for own in keys.values())
        held |= keys.pop(each.name)
    assert len(keys) == max(0, requests - asked)


def test_the_largest_context_counts_its_last_unit_whole():
    conversations = make_workload(QUESTIONS, 1)
    longest = max(item.turns[-1].answer_end for item in conversations)
    assert (
        largest_context(conversations, QWEN.chunk_bytes(16), 16)
        == -(-longest // 16) * 16 * QWEN.kv_bytes_per_token
    )
    prompt = max(item.turns[-1].prompt_end for item in conversations)
    assert (
        largest_context(conversations, QWEN.chunk_bytes(1), 1, answers=False)
        == prompt * QWEN.kv_bytes_per_token
    )


def test_the_run_is_not_refused_where_the_working_set_fits(tmp_path, monkeypatch):
    """40 questions on 4 documents of 600 tokens: 20 times less than all contexts."""
    shared = cell(tmp_path, "files")
    shared.spec["workload"] = QUESTIONS | {"document_tokens": [600, 600], "answer_tokens": [2, 2]}
    shared.spec["replay"]["hbm_kv_bytes"] = 64 << 20
    conversations = make_workload(shared.spec["workload"], shared.seed)
    needed = int(1.1 * working_set(conversations, shared.geometry.chunk_bytes(32), 32, True))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, needed))
    assert measure_cell(shared).evidence.sent_requests == 40
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, needed - 1))
    with pytest.raises(
        UserError, match=r"GB needed on the disk of .* free; choose another data_dir or a smaller"
    ):
        measure_cell(shared)


def with_memory(monkeypatch, available: int) -> None:
    monkeypatch.setattr(cells.psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(available))


@pytest.mark.parametrize(
    ("scenario", "buffer", "needed", "words"),
    [
        ({"store": "dram", "dram_pool_bytes": 500}, 0, 500, "set a lower dram_pool_bytes"),
        ({"store": "valkey", "capacity_bytes": 300}, 0, 300, "set a lower capacity_bytes"),
        ({"store": "valkey", "capacity_bytes": None}, 0, 1000, "set a lower capacity_bytes"),
        ({"store": "valkey", "bound_bytes": 300}, 0, 330, "set a lower bound_bytes"),
        (
            {"store": "valkey", "capacity_bytes": 300, "dram_pool_bytes": 200},
            0,
            500,
            "set a lower capacity_bytes or dram_pool_bytes",
        ),
        ({"store": "files", "tier": "ssd", "dram_pool_bytes": 400}, 0, 400, "set a lower dram_pool_bytes"),
        ({"store": "files", "tier": "ssd"}, 700, 700, "set a lower vllm.staging_bytes"),
    ],
)
def test_room_in_memory(tmp_path, monkeypatch, scenario, buffer, needed, words):
    """1000 bytes are saved; what must be in memory is the pool or buffer, and a RAM store up to its bound."""
    full = cell(tmp_path, "files")
    full.spec["scenario"] |= {"tier": "dram", "dram_pool_bytes": None, **scenario}
    full.data_dir.mkdir(parents=True, exist_ok=True)
    with_memory(monkeypatch, needed)
    check_room(full, 1000, buffer)
    with_memory(monkeypatch, needed - 1)
    with pytest.raises(UserError, match=words):
        check_room(full, 1000, buffer)


def test_a_job_of_engine_vllm_keeps_its_loads_proofs_and_single_requests(tmp_path):
    base = cell(tmp_path, "files").spec
    spec = base | {"loads": [2, 3], "loop": "closed", "latency": {"prompt_tokens": [320], "prompts": 2}}
    spec["loadgen"] = {"conversations_per_client": None}
    spec["scenario"] = base["scenario"] | {"save_decode_cache": False, "connector": "inprocess"}
    job = CellSpec(spec, 0, 1, Path(tmp_path))
    found = vllm_running.saved_bytes(job)
    chunk, size = spec["scenario"]["chunk_tokens"], job.geometry.chunk_bytes(32)
    loads = [vllm_running.conversations_of(job.at(load)) for load in (2, 3)]
    proofs = [length for load in loads for length in vllm_running.proof_lengths(load)]
    expected = sum(kept(load, chunk, False) for load in loads)
    expected += sum((length + 4) // chunk for length in (*proofs, 320, 320))
    assert found == expected * size
    spec["scenario"] |= {"connector": "mp"}
    assert vllm_running.saved_bytes(job) > found
