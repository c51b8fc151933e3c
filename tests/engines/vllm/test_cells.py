"""Cells of engine vllm, on stand-ins of vLLM and AIPerf (tests/fake_engine) and a real Valkey."""

import contextlib
import json
import re
import time
from pathlib import Path

import psutil
import pytest

from tests.engines.vllm.slices import VALKEY, measured, slice_of
from tests.helpers import command
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.cells.cell import CellSpec
from workflow.hyperkv.cells.samples import Sample
from workflow.hyperkv.engines.vllm import cells as vllm_cells
from workflow.hyperkv.engines.vllm import single as vllm_single
from workflow.hyperkv.engines.vllm import starting as vllm_starting
from workflow.hyperkv.engines.vllm.cells import SINGLE, Measurement, points
from workflow.hyperkv.engines.vllm.evidence import joules_per_mtoken
from workflow.hyperkv.engines.vllm.running import Patience, Running
from workflow.hyperkv.engines.vllm.single import device_faults, proof_faults, warm_up, write_curve
from workflow.hyperkv.machine.meters import Energy
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.records.evidence import Evidence
from workflow.hyperkv.records.kinds.cell import Pass
from workflow.hyperkv.records.record_file import read_records
from workflow.hyperkv.stores.server import ServerStore
from workflow.hyperkv.sweep import measure_scenario as sweep

pytestmark = pytest.mark.usefixtures("fake_modules")


def without_a_tier(spec: dict) -> dict:
    return {**spec, "scenario": {**spec["scenario"], "tier": "none", "dram_pool_bytes": None}}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory) -> dict:
    """Records that nothing went wrong with, by tier and point: with a DRAM pool and with none."""
    folder = tmp_path_factory.mktemp("ordinary")
    built = {
        "pair": "reference",
        "versions": {"vllm": "0.25.0"},
        "lacks": ["lmcache.cuda_ops cannot be imported"],
    }
    (folder / "engine.json").write_text(json.dumps(built))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path("tests/fake_engine").absolute()))
        patch.setenv("OMP_NUM_THREADS", "7")
        spec = slice_of(folder)
        spec["vllm"]["environment"] = {"MKL_NUM_THREADS": "3"}
        dram = measured(spec, folder, SINGLE, 2, 1)
        none = measured(without_a_tier(spec), folder, SINGLE, 2)
    points_of = zip((SINGLE, 2, 1), dram, strict=True), zip((SINGLE, 2), none, strict=True)
    return {"dram": dict(points_of[0]), "none": dict(points_of[1])}


def test_single_requests_come_first_when_there_are_any(spec):
    assert points(spec) == [SINGLE, 2]
    assert points(spec | {"latency": {"prompt_tokens": [], "prompts": 1}}) == [2]


def test_a_record_has_the_environments_that_were_built(ordinary):
    environment = ordinary["dram"][2]["environment"]
    assert environment["engine"]["versions"]["vllm"] == "0.25.0"
    assert "lmcache.cuda_ops cannot be imported" in ordinary["dram"][2]["notes"]
    assert "loadgen" not in environment


def test_a_record_tells_the_threads_of_the_engine_and_not_those_of_its_job(ordinary):
    for record in ordinary["dram"].values():
        told = record["environment"]["thread_variables"]
        assert (told["OMP_NUM_THREADS"], told["MKL_NUM_THREADS"], told["PYTHONHASHSEED"]) == (None, "3", "0")


def test_what_the_engine_is_given_is_its_users_alone_and_goes(spec, tmp_path):
    """LMCache's configuration, the load's requests and what the servers write: in a folder that only its user can enter."""
    (data := tmp_path / "data").mkdir()
    with Measurement(spec, 1, tmp_path / "logs") as measurement:
        measurement.measure(2)
        (folder,) = data.iterdir()
        found = {path.name: path.stat().st_mode & 0o077 for path in folder.rglob("*")}
        assert {"lmcache.yaml", "input.jsonl"} <= set(found)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert found["lmcache.yaml"] == 0
    assert list(data.iterdir()) == []


def test_a_cell_and_its_evidence(ordinary):
    single, cell = ordinary["dram"][SINGLE], ordinary["dram"][2]
    assert (single["valid"], single["reasons"]) == (True, [])
    passes = [(sample["pass"], sample["cached_tokens"] > 0) for sample in single["samples"]]
    assert passes == [("first", False), ("again", True)] * 2
    assert (cell["valid"], cell["reasons"]) == (True, [])
    evidence = cell["evidence"]
    assert evidence["sent_requests"] == 8
    assert evidence["hit_tokens"] + evidence["computed_tokens"] == evidence["queried_tokens"]
    assert evidence["dram_hit_tokens"] == evidence["hit_tokens"] > 0
    assert evidence["retrieved_tokens"] >= evidence["hit_tokens"]
    assert evidence["saved_bytes"] > 0
    assert (evidence["corrupt_chunks"], evidence["damaged_chunks"]) == (None, None)
    assert cell["values"]["hit_rate"] == pytest.approx(cell["values"]["external_hit_rate"], abs=0.1)
    assert cell["values"]["load_gbps"] > 0
    assert len(cell["requests"]["turn"]) == 8
    assert json.loads(json.dumps(cell, allow_nan=False)) == cell


def test_energy_is_per_million_tokens(spec, tmp_path, monkeypatch):
    """Between the first request and the last answer: the load generator's own start is not in it."""
    asked = []

    class Meter:
        def between(self, begin_s, end_s):
            asked.append((begin_s, end_s))
            return Energy(cpu=30.0, gpu=6.0)

    monkeypatch.setattr(vllm_cells, "energy_metered", lambda *_: contextlib.nullcontext(Meter()))
    began = time.time()
    (cell,) = measured(spec, tmp_path, 2)
    requests, evidence = cell["requests"], cell["evidence"]
    tokens = sum(requests["prompt_tokens"]) + sum(requests["answer_tokens"])
    assert (evidence["cpu_energy_j"], evidence["gpu_energy_j"]) == (30.0, 6.0)
    assert cell["values"]["energy_j_per_mtoken"] == pytest.approx(36e6 / tokens)
    [(begin_s, end_s)] = asked
    assert began < begin_s < end_s < time.time()
    assert end_s - begin_s == pytest.approx(max(requests["finish_s"]), abs=1e-3)


@pytest.mark.parametrize(("cpu", "gpu", "joules"), [(None, None, None), (5.0, None, 5.0), (None, 2.0, 2.0)])
def test_energy_that_the_machine_does_not_tell_is_left_out(cpu, gpu, joules):
    evidence = Evidence.unknown().model_copy(update={"cpu_energy_j": cpu, "gpu_energy_j": gpu})
    samples = [Sample(0.0, 0.1, 0.2, prompt_tokens=999_990, answer_tokens=10, hit_tokens=0)]
    assert joules_per_mtoken(evidence, samples) == joules
    assert joules_per_mtoken(evidence, []) is None


def test_what_ran_is_read_back_beside_what_was_asked(ordinary):
    for record in ordinary["dram"].values():
        assert record["asked"] == record["effective"] | {
            "kv_bytes_per_token": load_geometry(Path("config/models/tiny-llama.json")).kv_bytes_per_token,
            "chunk_tokens": 32,
            "buffer_bytes": 64 << 20,
            "kv_dtype": "bfloat16",
        }
        assert record["effective"]["save_decode_cache"] is True


def test_an_engine_that_is_not_as_asked_makes_its_points_invalid(spec, tmp_path, monkeypatch):
    told = {"tensor_parallel_size": 2, "cache_dtype": "fp8_e4m3", "block_size": 32}
    told |= {"enable_prefix_caching": True, "kv_cache_memory_bytes": 100 * 16 * 4096 // 2}
    monkeypatch.setenv("FAKE_TOLD", json.dumps(told))
    for record in measured(spec, tmp_path, SINGLE, 2):
        assert not record["valid"]
        for words in (
            "gpus: 1 was asked for, the engine has 2; set vllm.tensor_parallel",
            "kv_dtype: bfloat16 was asked for, the engine has fp8",
            "block_tokens: 16 was asked for, the engine has 32",
            "prefix_caching: False was asked for, the engine has True",
            "kv_bytes_per_token: 4,096 was asked for",
        ):
            assert [reason for reason in record["reasons"] if reason.startswith(words)]


@pytest.mark.parametrize(("asked", "valid"), [(True, False), (False, True)])
def test_answers_that_are_not_saved_are_found_out(spec, tmp_path, monkeypatch, asked, valid):
    monkeypatch.setenv("FAKE_VLLM", "prompts")
    spec["scenario"]["save_decode_cache"] = asked
    (cell,) = measured(spec, tmp_path, 2)
    assert cell["effective"]["save_decode_cache"] is False
    assert cell["valid"] is valid
    assert (
        "save_decode_cache: True was asked for, the engine has False" in "; ".join(cell["reasons"])
    ) is not valid


def test_two_gpus_prove_themselves_and_count_as_two(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_starting, "gpu_lines", lambda: ["H100, 1, 80 GiB"] * 4)
    spec["vllm"] |= {"tensor_parallel": 2}
    single, cell = measured(spec, tmp_path, SINGLE, 2)
    assert (single["valid"], single["reasons"], single["gpus"]) == (True, [], 2)
    assert (cell["valid"], cell["reasons"], cell["gpus"]) == (True, [], 2)
    window_s, ends = cell["values"]["window_s"], cell["requests"]["finish_s"]
    answered = sum(end <= window_s + 1e-6 for end in ends)
    assert cell["values"]["rps_per_gpu"] == pytest.approx(answered / window_s / 2)
    # Both ranks tell of every token: it was moved once.
    assert cell["evidence"]["retrieved_tokens"] < 1.5 * cell["evidence"]["hit_tokens"]
    log = (tmp_path / "logs/s-1-vllm.log").read_text()
    assert "(Worker_TP0 " in log
    assert "(Worker_TP1 " in log


@pytest.mark.parametrize("mode", ["", "prompts"])
def test_what_is_saved_at_the_second_use_is_proven_at_the_third(spec, tmp_path, monkeypatch, mode):
    geometry = load_geometry(Path(spec["model"]), spec["kv_dtype"])
    monkeypatch.setenv("FAKE_KV_BYTES", str(geometry.kv_bytes_per_token))
    monkeypatch.setenv("FAKE_VLLM", mode)
    striped = {"connector": "striped", "stripe_bytes": 8192, "chunk_tokens": 32, "save": "second_use"}
    spec["scenario"] |= {**VALKEY, **striped, "save_decode_cache": mode == ""}
    single, cell = measured(spec, tmp_path, SINGLE, 2)
    assert (single["valid"], single["reasons"]) == (True, [])
    assert (cell["valid"], cell["reasons"]) == (True, [])
    assert single["effective"]["save_decode_cache"] == (mode == "")
    evidence = cell["evidence"]
    assert evidence["first_use_chunks"] > 0
    assert evidence["taken_bytes"] >= evidence["saved_bytes"]


def test_two_ranks_store_half_a_chunk_each(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_starting, "gpu_lines", lambda: [])
    geometry = load_geometry(Path(spec["model"]), "auto")
    monkeypatch.setenv("FAKE_KV_BYTES", str(geometry.kv_bytes_per_token // 2))
    spec["scenario"] |= {
        **VALKEY,
        "connector": "striped",
        "stripe_bytes": 8192,
        "vllm": {"tensor_parallel": 2},
    }
    (single,) = measured(spec, tmp_path, SINGLE)
    moved = 96 * geometry.kv_bytes_per_token
    assert (single["valid"], single["reasons"], single["gpus"]) == (True, [], 2)
    assert single["chunk_bytes"] == 32 * geometry.kv_bytes_per_token
    assert all(moved <= again["served_bytes"] < 1.1 * moved for again in single["samples"][1::2])


DOCUMENTS = {
    **{"kind": "long_documents", "documents": 2, "requests": 6, "document_tokens": [96, 96]},
    **{"question_tokens": [8, 8], "answer_tokens": [4, 4]},
}


def of_two_engines(spec: dict, monkeypatch, **keys) -> dict:
    """Two engines before a Valkey, which requests of two documents go to in turn, through the plugin."""
    monkeypatch.setattr(vllm_starting, "gpu_lines", lambda: ["H100, 1, 80 GiB"] * 2)
    geometry = load_geometry(Path(spec["model"]), "auto")
    monkeypatch.setenv("FAKE_KV_BYTES", str(geometry.kv_bytes_per_token))
    spec["scenario"] |= {**VALKEY, "connector": "striped", "stripe_bytes": 8192, **keys}
    return spec | {"engines": 2, "workload": DOCUMENTS}


def test_one_engine_finds_what_another_saved(spec, tmp_path, monkeypatch):
    single, cell = measured(of_two_engines(spec, monkeypatch), tmp_path, SINGLE, 2)
    assert (single["valid"], single["reasons"], single["gpus"]) == (True, [], 2)
    assert (cell["valid"], cell["reasons"], cell["gpus"]) == (True, [], 2)
    # What one engine computed the other loaded: of six requests two are computed, and of the others half are at the other engine.
    evidence = cell["evidence"]
    assert evidence["sent_requests"] == 6
    assert 0 < evidence["other_hit_tokens"] < evidence["store_hit_tokens"] == evidence["hit_tokens"]
    first, second = ((tmp_path / f"logs/s-1{word}-vllm.log").read_text() for word in ("", "-engine1"))
    assert "Stored" in first
    assert "Retrieved" in second
    assert "saved by another" in second


def test_engines_whose_store_is_not_shared_find_their_own_alone(spec, tmp_path, monkeypatch):
    single, cell = measured(of_two_engines(spec, monkeypatch, shared=False), tmp_path, SINGLE, 2)
    assert (single["valid"], cell["valid"], cell["reasons"]) == (True, True, [])
    assert (cell["evidence"]["other_hit_tokens"], cell["evidence"]["store_hit_tokens"] > 0) == (0, True)


def test_two_engines_on_one_gpu_are_refused(spec, tmp_path, monkeypatch):
    asked = of_two_engines(spec, monkeypatch)
    monkeypatch.setattr(vllm_starting, "gpu_lines", lambda: ["H100, 1, 80 GiB"])
    with pytest.raises(UserError, match="2 GPUs are asked for by 2 engines, this machine shows 1"):
        measured(asked, tmp_path, SINGLE)


def test_a_machine_with_fewer_gpus_is_refused_before_anything_starts(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_starting, "gpu_lines", lambda: ["L4, 1, 24 GiB"])
    spec["vllm"] |= {"tensor_parallel": 2}
    with pytest.raises(UserError, match="2 GPUs are asked for, this machine shows 1"):
        measured(spec, tmp_path, 2)
    assert not (tmp_path / "logs").exists()


def test_recompute_has_no_hits(ordinary):
    single, cell = ordinary["none"].values()
    assert (single["valid"], cell["valid"], cell["served_from"]) == (True, True, "recompute")
    assert cell["evidence"]["hit_tokens"] == 0


def test_striped_over_two_servers_proves_its_bytes(spec, tmp_path, monkeypatch):
    geometry = load_geometry(Path(spec["model"]), "auto")
    monkeypatch.setenv("FAKE_KV_BYTES", str(geometry.kv_bytes_per_token))
    striped = {"connector": "striped", "stripe_bytes": 8192, "processes": 2, "chunk_tokens": 32}
    spec["scenario"] |= {**VALKEY, **striped}
    single, cell = measured(spec, tmp_path, SINGLE, 2)
    assert (single["valid"], single["reasons"]) == (True, [])
    moved = 96 * geometry.kv_bytes_per_token
    assert all(moved <= again["served_bytes"] < 1.1 * moved for again in single["samples"][1::2])
    assert (cell["valid"], cell["reasons"], cell["served_from"]) == (True, [], "ram")
    assert cell["evidence"]["store_hit_tokens"] > 0
    assert cell["notes"][-1] == "2 processes"


def test_a_load_has_so_many_conversations_for_each_client(spec, tmp_path):
    spec["loadgen"]["conversations_per_client"] = 1
    (one,) = measured(spec, tmp_path, 1)
    assert set(one["requests"]["conversation"]) == {"chat-0"}


def test_the_workload_of_a_load_is_the_same_for_every_scenario_and_another_for_every_load(ordinary):
    lengths = [
        sorted(ordinary[tier][load]["requests"]["prompt_tokens"])
        for tier, load in (("dram", 2), ("none", 2), ("dram", 1))
    ]
    assert lengths[0] == lengths[1] != lengths[2]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("unloaded", "as loaded, LMCache loaded 0"),
        ("wrong", "got another first token from the tier than computed"),
    ],
)
def test_an_engine_that_did_not_load_or_answers_wrongly_is_found_out(
    spec, tmp_path, monkeypatch, mode, words
):
    monkeypatch.setenv("FAKE_VLLM", mode)
    for record in measured(spec, tmp_path, SINGLE, 2):
        assert not record["valid"]
        assert any(words in reason for reason in record["reasons"])


def test_a_load_that_was_not_sent_in_full_is_invalid_and_the_next_is_measured(spec, tmp_path, monkeypatch):
    with Measurement(spec, 1, tmp_path / "logs") as measurement:
        for load, mode, words in (
            (1, "short", "1 turns were not sent"),
            (2, "fail", "first failed request: HTTP 500"),
            (3, "all_fail", "measure: no request was answered, first: HTTP 500"),
        ):
            monkeypatch.setenv("FAKE_AIPERF", mode)
            lost = measurement.measure(load).dump()
            assert not lost["valid"]
            assert any(words in reason for reason in lost["reasons"])
        monkeypatch.delenv("FAKE_AIPERF")
        assert measurement.measure(4).valid
    assert (lost["values"]["requests"], lost["values"]["ttft_p50_ms"]) == (0, None)


def test_an_engine_that_died_while_no_request_was_answered_is_named(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "wounded")
    monkeypatch.setenv("FAKE_AIPERF", "all_fail")
    (cell,) = measured(spec, tmp_path, 2)
    assert cell["reasons"][0].endswith("; vllm's engine: AcceleratorError: CUDA error: unspecified")


def test_of_a_load_that_took_too_long_no_death_is_told_that_its_end_may_have_caused(
    spec, tmp_path, monkeypatch
):
    monkeypatch.setenv("FAKE_VLLM", "wounded")
    monkeypatch.setenv("FAKE_AIPERF", "hang")
    spec["loadgen"]["timeout_s"] = 1
    (cell,) = measured(spec, tmp_path, 2)
    assert cell["reasons"][0].endswith("; raise loadgen.timeout_s or lower the load")


def test_what_a_gate_decided_is_evidence_and_it_is_told_how_long_computing_takes(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "left")
    gated = []

    def proof(*arguments):
        gated.append(arguments[5])
        return proof_faults(*arguments)

    monkeypatch.setattr(vllm_single, "proof_faults", proof)
    spec["scenario"]["gate"] = "ttft"
    curves = []

    def written(cell, samples):
        write_curve(cell, samples)
        curves.append(json.loads((cell.directory / "engine/gate_curve.json").read_text()))

    monkeypatch.setattr(vllm_single, "write_curve", written)
    single, cell = measured(spec, tmp_path, SINGLE, 2)
    assert gated
    assert all(gated)
    computed = [each["ttft_s"] for each in single["samples"] if each["pass"] == "first"]
    assert min(computed) <= min(seconds for _, seconds in curves[-1])
    assert [tokens for tokens, _ in curves[-1]] == sorted(spec["latency"]["prompt_tokens"])
    found = cell["evidence"]
    assert found["gate_lookups"] > 0
    assert found["gate_left_chunks"] == 2 * found["gate_found_chunks"] == 2 * found["gate_lookups"]
    assert any(
        re.fullmatch(r"the gate left [1-9]\d* of \d+ chunks to be computed", note) for note in cell["notes"]
    )
    assert not any("no single requests" in note for note in cell["notes"])


def test_what_proves_a_load_is_read_cold_too_so_that_a_gate_learns_of_the_device_alone(
    spec, tmp_path, monkeypatch
):
    pushed = []
    monkeypatch.setattr(Running, "make_cold", lambda running, cell, push: pushed.append(push))
    measured(spec, tmp_path, SINGLE, 2)
    singles = spec["latency"]["prompts"] * len(spec["latency"]["prompt_tokens"])
    assert pushed[:singles] == [True] * singles
    assert pushed[singles:] == [False] * 2


def test_a_load_that_takes_too_long_is_lost_and_the_next_is_measured(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_AIPERF", "hang")
    spec["loadgen"]["timeout_s"] = 1
    with Measurement(spec, 1, tmp_path / "logs") as measurement:
        late = measurement.measure(2).dump()
        monkeypatch.delenv("FAKE_AIPERF")
        spec["loadgen"]["timeout_s"] = 60
        assert measurement.measure(3).valid
    assert not late["valid"]
    assert late["reasons"][0].startswith("aiperf did not end within 1 s; see ")
    assert late["reasons"][0].endswith("; raise loadgen.timeout_s or lower the load")


def test_a_load_generator_that_cannot_run_ends_the_scenario_with_its_own_words(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_AIPERF", "broken")
    with pytest.raises(UserError, match="aiperf ended with status 1: aiperf: no such option; see "):
        measured(spec, tmp_path, 2)


def test_a_start_that_dies_says_why_and_shows_the_last_30_lines(spec, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("FAKE_VLLM", "die")
    with pytest.raises(UserError, match="too little GPU memory is free") as raised:
        measured(spec, tmp_path, SINGLE)
    assert "\n" not in str(raised.value)
    shown = capfd.readouterr().out.splitlines()
    assert "line 49" in shown
    assert "line 20" not in shown
    assert len([line for line in shown if line.startswith(("line", "ValueError"))]) == 30


def test_an_engine_that_never_answers_costs_one_time_out(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "slow")
    spec["loadgen"]["request_timeout_s"] = 1
    asked = []
    monkeypatch.setattr(vllm_cells, "warm_up", lambda *of: (asked.append(of), warm_up(*of)))
    records = measured(spec, tmp_path, SINGLE, 2)
    assert len(asked) == 1
    assert all("warm-up: vllm gave no answer" in record["reasons"][0] for record in records)
    assert records[1]["values"]["rps_per_gpu"] is None


def test_an_engine_that_dies_is_lost_with_its_own_error(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "perish")
    spec["loadgen"]["warm_up_requests"] = 0
    single, cell = measured(spec, tmp_path, SINGLE, 2)
    for record in (single, cell):
        assert not record["valid"]
        assert record["reasons"][0].endswith("; vllm's engine: AcceleratorError: CUDA error: unspecified")


@pytest.mark.parametrize("fault", ["killed", "stopped"])
def test_a_dead_or_hanging_store_ends_the_load(spec, tmp_path, monkeypatch, fault):
    monkeypatch.setenv("FAKE_AIPERF", "hang")
    monkeypatch.setattr(Running, "patience", Patience(ping_s=1.0, settle_s=0.1))  # nothing is saved to Valkey
    spec["scenario"] |= VALKEY
    stores: list[ServerStore] = []
    check_alive = ServerStore.check_alive

    def remember(store: ServerStore, grace_s: float = 0.0) -> None:
        stores.append(store)
        check_alive(store, grace_s)

    monkeypatch.setattr(ServerStore, "check_alive", remember)
    with Measurement(spec, 1, tmp_path / "logs") as measurement:
        assert measurement.measure(SINGLE).record == "single"
        pid = stores[-1].pid()

        def remember_and_break(store: ServerStore, grace_s: float = 0.0) -> None:
            remember(store, grace_s)
            running = [child for child in psutil.Process().children() if child.status() != "zombie"]
            if "aiperf" in {part for child in running for part in child.cmdline()}:
                psutil.Process(pid).kill() if fault == "killed" else psutil.Process(pid).suspend()

        monkeypatch.setattr(ServerStore, "check_alive", remember_and_break)
        record = measurement.measure(2).dump()
    assert not record["valid"]
    assert "store valkey" in record["reasons"][0]
    assert record["values"]["ttft_p50_ms"] is None


def test_the_sweep_writes_both_kinds_of_records_and_resumes(spec, tmp_path):
    out = tmp_path / "sweep" / "s" / "1.jsonl"
    options = [
        "--spec",
        json.dumps(spec),
        "--repeat",
        "1",
        "--out",
        str(out),
        "--logs",
        str(tmp_path / "logs"),
    ]
    command(sweep, *options)
    records = read_records(out)
    assert [(record["record"], record["load"]) for record in records] == [("single", None), ("cell", 2)]
    assert {"job_started_at", "measured_in_job"} <= set(records[1])


SAMPLE = dict.fromkeys(Pass.model_fields) | {"kind": "first", "ttft_s": 1, "latency_s": 2, "faults": []}
SAMPLE |= {"prompt_tokens": 1000, "tokens": ["a"]}


@pytest.mark.parametrize(
    ("again", "first", "tier", "pool", "gated", "words"),
    [
        ({}, {}, "dram", False, False, None),
        ({"served_bytes": 9990, "retrieved_tokens": 1000}, {}, "dram", False, False, None),
        ({}, {"cached_tokens": 5}, "dram", False, False, "new prompt"),
        ({"cached_tokens": 0}, {}, "dram", False, False, "0 of 900 saved tokens"),
        ({"cached_tokens": 0}, {}, "none", False, False, None),
        ({"served_bytes": 9000}, {}, "dram", False, False, "the store served 9,000 bytes of 9,990"),
        ({"served_bytes": 0}, {}, "dram", True, False, None),
        ({"retrieved_tokens": 0}, {}, "dram", False, False, "LMCache loaded 0"),
        ({"cached_tokens": 200}, {}, "dram", False, False, "200 of 900 saved tokens"),
        ({"cached_tokens": 0}, {}, "dram", False, True, None),
        ({"served_bytes": 9000}, {}, "dram", False, True, "the store served 9,000 bytes of 9,990"),
    ],
)
def test_what_single_requests_disprove(again, first, tier, pool, gated, words):
    told = ({"cached_tokens": 0} | first, {"cached_tokens": 999} | again)
    found = proof_faults([Pass(**SAMPLE | each) for each in told], tier, 100, 10, pool, gated)
    assert words in found[0] if words else found == []


@pytest.mark.parametrize(
    ("tier", "share", "right"), [("ssd", 0.7, False), ("ssd", 0.9, True), ("dram", 0, True)]
)
def test_a_prompt_of_tier_ssd_must_come_from_the_device(spec, tmp_path, tier, share, right):
    spec["scenario"]["tier"] = tier
    cell = CellSpec(spec, 0, 1, tmp_path)
    loaded = 1000 * cell.geometry.kv_bytes_per_token
    sample = SAMPLE | {"prompt_tokens": 1001, "cached_tokens": 1000, "device_read_bytes": int(share * loaded)}
    found = device_faults(Pass(**sample), cell)
    assert not found if right else "was served from RAM: device reads 70% of bytes loaded" in found[0]
    assert not device_faults(Pass(**sample | {"cached_tokens": 0}), cell)
