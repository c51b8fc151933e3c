"""What `make test-engine` measured with the real AIPerf, vLLM, LMCache and RocksDB (config/engine-cpu.yaml, tests/engines/run.yaml)."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from workflow.hyperkv.records.record_file import read_records
from workflow.hyperkv.workloads.factory import make_workload

pytestmark = pytest.mark.engine
STORES = ("engine_rocksdb",)
ALL = ("none", *STORES)
TURNS = [
    ("context-managers", 0),
    ("context-managers", 1),
    ("context-managers", 2),
    ("exceptions", 0),
    ("kitchen", 0),
    ("kitchen", 1),
]


@pytest.fixture(scope="module")
def records():
    """Records of the sweep's first repeat by scenario and kind."""
    found = {}
    for name in ALL:
        records = read_records(Path(f"results/sweep/{name}/1.jsonl"))
        found |= {(name, record["record"]): record for record in records}
    return found


@pytest.mark.parametrize("kind", ["single", "cell"])
@pytest.mark.parametrize("name", ALL)
def test_everything_proves_itself(records, name, kind):
    assert (records[name, kind]["valid"], records[name, kind]["reasons"]) == (True, [])


@pytest.mark.parametrize("name", STORES)
def test_hits_come_from_the_store_and_its_bytes_say_so(records, name):
    record = records[name, "cell"]
    evidence = record["evidence"]
    assert evidence["sent_requests"] == len(TURNS)
    assert evidence["store_hit_tokens"] > 0
    assert evidence["hit_tokens"] + evidence["computed_tokens"] == evidence["queried_tokens"]
    assert evidence["loaded_bytes"] == evidence["store_hit_tokens"] * record["kv_bytes_per_token"]
    assert evidence["served_bytes"] >= evidence["loaded_bytes"]
    assert record["values"]["hit_rate"] > 0.2


@pytest.mark.parametrize("kind", ["single", "cell"])
@pytest.mark.parametrize("name", ["none", *STORES])
def test_the_engine_told_what_it_is_and_it_is_what_was_asked(records, name, kind):
    record = records[name, kind]
    told = {key: value for key, value in record["effective"].items() if value is not None}
    served = (
        {"chunk_tokens": 64, "save_decode_cache": True, "buffer_bytes": 256 << 20} if name in STORES else {}
    )
    assert told | {"vllm": None} == served | {
        "kv_bytes_per_token": pytest.approx(record["kv_bytes_per_token"], rel=1e-3),  # of whole blocks
        "block_tokens": 64,
        "prefix_caching": False,
        "gpus": 1,
        "pair": "current",
        "vllm": None,
    }
    assert told["vllm"]


@pytest.mark.parametrize("name", STORES)
def test_the_server_told_its_hits_by_tier_and_what_it_saved(records, name):
    record = records[name, "cell"]
    counted, evidence = record["engine_counters"], record["evidence"]
    told = counted["dram_hit_tokens"], counted["store_hit_tokens"]
    assert sum(told) >= evidence["dram_hit_tokens"] + evidence["store_hit_tokens"] > 0
    assert evidence["store_hit_tokens"] <= counted["store_hit_tokens"]
    assert evidence["saved_bytes"] % record["chunk_bytes"] == 0 < evidence["saved_bytes"]


def test_the_pair_says_what_it_is_sound_for():
    built = json.loads(Path("results/build/current/current.json").read_text())
    assert built["sound"].startswith(
        "sound for mp, striped_mp, direct_mp; not for inprocess, redis, resp, striped, direct: "
    )
    assert None not in built["modules"].values()


def test_ssd_means_the_device(records):
    assert records["engine_rocksdb", "cell"]["served_from"] == "ssd"
    assert records["engine_rocksdb", "cell"]["evidence"]["device_share"] >= 0.8


@pytest.mark.parametrize("name", ["engine_rocksdb"])
def test_a_prompt_from_a_store_on_the_disk_was_read_from_the_device(records, name):
    record = records[name, "single"]
    for sample in record["samples"]:
        if sample["pass"] == "again":
            whole = sample["prompt_tokens"] // 64 * 64 * record["kv_bytes_per_token"]
            assert sample["device_read_bytes"] >= 0.8 * whole  # the rest was still in write buffers


@pytest.mark.parametrize("name", STORES)
def test_the_same_prompts_get_the_same_token_computed_and_from_the_store(records, name):
    """One token of random words, whose next ones are all as likely; 16 tokens of texts are tests/pairs'."""
    computed = [sample for sample in records["none", "single"]["samples"] if sample["pass"] == "first"]
    again = [sample for sample in records[name, "single"]["samples"] if sample["pass"] == "again"]
    assert len(again) == len(computed) == 3
    for left, right in zip(computed, again, strict=True):
        assert left["tokens"][0] == right["tokens"][0]
        assert right["cached_tokens"] > 0.85 * right["prompt_tokens"]
    assert len({tuple(sample["tokens"]) for sample in computed}) == len(computed)


@pytest.mark.parametrize("name", ALL)
def test_the_conversations_of_the_file_were_asked_through_the_models_own_chat_template(records, name):
    """A first prompt is what was made of the text beforehand, to the token; a later one has the model's own answers in it."""
    asked = records[name, "cell"]["requests"]
    turns = [*zip(asked["conversation"], asked["turn"], strict=True)]
    assert sorted(turns) == TURNS
    spec = records[name, "cell"]["spec"]["workload"]
    planned = {each.name: each.turns for each in make_workload(spec, 1)}
    for (talk, turn), tokens, answer in zip(
        turns, asked["prompt_tokens"], asked["answer_tokens"], strict=True
    ):
        assert answer == planned[talk][turn].answer_end - planned[talk][turn].prompt_end
        assert tokens == pytest.approx(planned[talk][turn].prompt_end, abs=2 * turn * 8)
        assert turn or tokens == planned[talk][turn].prompt_end


def test_the_plugin_and_lmcaches_own_adapters_inside_lmcache_and_vllm_themselves():
    """Its tests need LMCache and vLLM, so they run with the engine's interpreter, with pytest from this one's environment."""
    python = json.loads(Path("results/build/current/current.json").read_text())["python"]
    files = ("test_remote.py", "test_lmcache_l2.py", "test_password.py", "test_tier.py")
    tests = [f"tests/plugin/{name}" for name in files]
    tests += ["tests/connectors/test_lmcache_adapters.py", "tests/engines/replay/test_server_pool.py"]
    tests = ["-rs", "--disable-warnings", "-p", "no:cacheprovider", *tests]
    code = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r}); import pytest; sys.exit(pytest.main({tests}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=340, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"\d+ passed", done.stdout)
    skipped = set(re.findall(r"^SKIPPED \[\d+\] [^ ]+ (.*)$", done.stdout, re.MULTILINE))
    assert skipped <= {"KVROCKS_BIN is not set"}


def test_the_figure_of_single_requests_was_drawn():
    assert Path("results/figures/latency.png").stat().st_size > 10_000
