"""Every remedy that a message gives has been tried: the config fails, the message says what to do, and that is enough."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.configs import BASE, changed, engine, one_line, with_kvrocks, with_striped, without
from tests.workflow_helpers import changed as applied
from tests.workloads.kinds import EXCERPT
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import predict_spec, sweep_spec
from workflow.hyperkv.workloads.factory import make_workload

MULTI_TURN = BASE["workload"]
DOCUMENTS = {
    "kind": "long_documents",
    "documents": 2,
    "requests": 3,
    "document_tokens": [140_000, 140_000],
    "question_tokens": [10, 20],
    "answer_tokens": [10, 20],
}
TRACE = {"kind": "mooncake", "trace": str(EXCERPT)}


def roomy(workload: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """BASE with a workload and room for its contexts."""
    return applied(BASE, {"workload": workload, "replay.hbm_kv_bytes": "32 GiB", **keys})


def loads(values: list[int], **keys: Any) -> dict[str, Any]:
    return applied(engine(), {"experiment.loads": values, "scenarios.files.loads": ..., **keys})


CASES: dict[str, tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]] = {
    "preset of another store": (
        changed("scenarios.rocksdb.preset", "tuned"),
        [("scenarios.rocksdb.preset: presets are for store kvrocks; leave it out", {"scenarios.rocksdb.preset": ...})],
    ),
    "no such preset": (
        with_kvrocks(preset="fast"),
        [
            (
                "there is no file config/kvrocks/fast.yaml; config/kvrocks has reference, shipped, tuned",
                {"scenarios.kvrocks.preset": name},
            )
            for name in ("reference", "shipped", "tuned")
        ],
    ),
    "a reversed range": (
        changed("workload.turns", [8, 2]),
        [("workload.turns: [8, 2] is wrong; write [lowest, highest]", {"workload.turns": [2, 8]})],
    ),
    "no such scenario": (
        changed("experiment.scenarios", ["tape"]),
        [
            (
                "experiment.scenarios: no scenario 'tape'; scenarios has dram, dram-32, dram-64, files, none, rocksdb",
                {"experiment.scenarios": [name]},
            )
            for name in ("dram", "files", "none", "rocksdb")
        ],
    ),
    "profile of no store": (
        changed("profile.scenarios", ["none"]),
        [("profile.scenarios: none has no store to profile; leave it out", {"profile.scenarios": []})],
    ),
    "layers of several processes": (
        applied(with_striped(processes=2), {"layers": {"scenarios": ["striped"]}}),
        [
            ("layers.scenarios: striped has processes: 2", {"layers.scenarios": []}),
            ("leave it out, or set processes: 1", {"scenarios.striped.processes": 1}),
        ],
    ),
    "layers over a unix socket": (
        applied(with_striped(socket="unix"), {"layers": {"scenarios": ["striped"]}}),
        [("layers.scenarios: striped has socket: unix", {"layers.scenarios": []}), ("leave it out, or set socket: tcp", {"scenarios.striped.socket": "tcp"})],
    ),
    "baseline not measured": (
        changed("figures.baseline", "rocksdb"),
        [
            (
                "figures.baseline: 'rocksdb' is not among the experiment's scenarios; choose one of none, dram-32, dram-64, "
                "files, or null",
                {"figures.baseline": word},
            )
            for word in ("none", "dram-32", "files", None)
        ],
    ),
    "chunk of no scenario": (
        changed("figures.chunk_tokens", 128),
        [("figures.chunk_tokens: no scenario has chunk 128; choose one of 32, 64", {"figures.chunk_tokens": size}) for size in (32, 64)],
    ),
    "goodput without a bound": (
        changed("recommend.objective", "goodput"),
        [
            ("set experiment.slo.ttft_ms", {"experiment.slo": {"ttft_ms": 500}}),
            ("choose rps_per_gpu", {"recommend.objective": "rps_per_gpu"}),
        ],
    ),
    "a load that is not measured": (
        changed("recommend.load", 7),
        [("one of 1, 2, 4, 8", {"recommend.load": load}) for load in (1, 2, 4, 8)]
        + [("or null", {"recommend.load": None})],
    ),
    "half a block": (
        changed("scenarios.files.chunk_tokens", 72),
        [("choose 64 or 80", {"scenarios.files.chunk_tokens": size}) for size in (64, 80)],
    ),
    "less than a block": (
        applied(BASE, {"scenarios.files.chunk_tokens": 8}),
        [("choose 16", {"scenarios.files.chunk_tokens": 16})],
    ),
    "a chunk too long": (
        changed("scenarios.files.chunk_tokens", 4096),
        [("scenarios.files.chunk_tokens: 4096 exceeds the workload's longest context (960 tokens), so nothing would ever be "
          "cached; lower it to at most 960", {"scenarios.files.chunk_tokens": 960})],
    ),
    "no store": (
        without("scenarios.files.store"),
        [("scenarios.files.store is missing; tier ssd needs it: files or rocksdb or kvrocks", {"scenarios.files.store": "files"})],
    ),
    "no connector": (
        without("scenarios.files.connector"),
        [("inprocess", {"scenarios.files.connector": "inprocess"})],
    ),
    "a store of another tier": (
        changed("scenarios.dram.store", "files"),
        [("choose dram or valkey", {"scenarios.dram.store": "dram"})],
    ),
    "no pool": (
        without("scenarios.dram.dram_pool_bytes"),
        [("scenarios.dram.dram_pool_bytes is missing; store dram needs its size", {"scenarios.dram.dram_pool_bytes": "8 MiB"})],
    ),
    "several processes": (
        with_striped(connector="resp", processes=2),
        [
            ("processes: connector resp reaches one process; choose 1", {"scenarios.striped.processes": 1}),
            ("connector striped", {"scenarios.striped.connector": "striped"}),
        ],
    ),
    "several processes of files": (
        changed("scenarios.files.processes", 2),
        [("choose 1", {"scenarios.files.processes": 1})],
    ),
    "several processes below a server": (
        with_striped(connector="mp", processes=2),
        [
            ("connector mp reaches one process; choose 1", {"scenarios.striped.processes": 1}),
            ("or connector striped_mp", {"scenarios.striped.connector": "striped_mp"}),
        ],
    ),
    "connections of saves": (
        with_striped(connector="redis", save_connections=1),
        [
            ("save_connections: connector redis saves over its other connections; leave it out", {"scenarios.striped.save_connections": ...}),
            ("or connector striped", {"scenarios.striped.connector": "striped"}),
        ],
    ),
    "a queue of loads": (
        with_striped(load_queue_bytes="1 GiB"),
        [
            ("load_queue_bytes: connector striped has no queue of loads; leave it out", {"scenarios.striped.load_queue_bytes": ...}),
            ("or connector striped_mp (engine vllm)", {"scenarios.striped.connector": "striped_mp"}),
        ],
    ),
    "a queue of loads of files": (
        changed("scenarios.files.load_queue_bytes", "1 GiB"),
        [("leave it out", {"scenarios.files.load_queue_bytes": ...})],
    ),
    "a native client": (
        with_striped(connector="resp", client="native"),
        [
            ("client: connector resp has no client native; choose python", {"scenarios.striped.client": "python"}),
            ("or connector striped", {"scenarios.striped.connector": "striped"}),
        ],
    ),
    "a unix socket": (
        with_striped(connector="redis", socket="unix"),
        [
            ("socket: connector redis has no unix sockets; choose tcp", {"scenarios.striped.socket": "tcp"}),
            ("connector resp or striped", {"scenarios.striped.connector": "resp"}),
            ("connector resp or striped", {"scenarios.striped.connector": "striped"}),
        ],
    ),
    "a unix socket below a server": (
        with_striped(connector="mp", socket="unix"),
        [
            ("choose tcp", {"scenarios.striped.socket": "tcp"}),
            ("or connector striped_mp", {"scenarios.striped.connector": "striped_mp"}),
        ],
    ),
    "patches of another store": (
        changed("scenarios.rocksdb.patched", True) | {"profile": {"scenarios": ["rocksdb"]}},
        [("leave it out", {"scenarios.rocksdb.patched": ...})],
    ),
    "a stripe too small": (
        with_striped(stripe_bytes="1 KiB"),
        [("stripe_bytes: 1024 is below 4096; raise it", {"scenarios.striped.stripe_bytes": 4096})],
    ),
    "a connector of another store": (
        changed("scenarios.files.connector", "resp"),
        [("scenarios.files.connector: resp cannot reach store files; choose inprocess", {"scenarios.files.connector": "inprocess"})],
    ),
    "nothing to measure": (
        changed("scenarios.files.loads", []),
        [("write some", {"scenarios.files.loads": [2]})],
    ),
    "nothing to measure with vllm": (
        applied(engine(), {"scenarios.files.loads": [], "latency.prompt_tokens": []}),
        [("set latency.prompt_tokens", {"latency.prompt_tokens": [512]})],
    ),
    "open loops": (
        changed("experiment.loop", "open"),
        [
            ("experiment.loop: engine replay has closed loops only; choose closed", {"experiment.loop": "closed"}),
            ("or engine vllm", {"engine": "vllm"}),
        ],
    ),
    "active conversations with vllm": (
        engine(experiment__active_conversations=3),
        [("experiment.active_conversations: AIPerf's clients hold one conversation each; leave it null", {"experiment.active_conversations": None})],
    ),
    "too few conversations": (
        loads([2], loadgen={"conversations_per_client": 3}),
        [
            ("set workload.conversations: 6", {"workload.conversations": 6}),
            ("lower this to 2", {"loadgen.conversations_per_client": 2}),
        ],
    ),
    "fewer conversations than clients": (
        loads([8], loadgen={"conversations_per_client": 1}),
        [("set workload.conversations: 8", {"workload.conversations": 8})],
    ),
    "no model file": (
        changed("model", "config/models/gone.json"),
        [("config/models/qwen3-8b.json", {"model": "config/models/qwen3-8b.json"})],
    ),
    "a model that is a gpu": (
        changed("model", "config/gpus/h100.yaml"),
        [("config: model: config/gpus/h100.yaml", {"model": BASE["model"]})],
    ),
    "no gpu file": (
        changed("gpu", "config/gpus/gone.yaml"),
        [("config/gpus/l4.yaml", {"gpu": "config/gpus/l4.yaml"})],
    ),
    "a case called experiment": (
        changed("predict.cases", {"experiment": {"tiers": {"a": {}}}}),
        [("predict.cases: experiment is what the sweep measures; rename the case", {"predict.cases": {"other": {"tiers": {"a": {}}}}})],
    ),
    "hbm for no context": (
        changed("replay.hbm_kv_bytes", "1 MiB"),
        [("replay.hbm_kv_bytes: 1 MiB hold no context of 783 tokens of llama-3.2-1b; it takes {MiB} MiB or more", {"replay.hbm_kv_bytes": "{MiB} MiB"})],
    ),
    "staging for no chunk": (
        changed("replay.staging_bytes", "1 MiB"),
        [
            ("replay.staging_bytes: 1,048,576 bytes hold no chunk", {"replay.staging_bytes": "{MiB} MiB"}),
            ("lower chunk_tokens", {
                    "scenarios.dram.chunk_tokens": 32,
                    "scenarios.files.chunk_tokens": 32,
                    "figures": {"chunk_tokens": 32},
                }),
        ],
    ),
    "a pool for no chunk": (
        changed("scenarios.dram.dram_pool_bytes", "512 KiB"),
        [("it takes {MiB} MiB or more", {"scenarios.dram.dram_pool_bytes": "2 MiB"})],
    ),
    "a RAM store for no chunk": (
        applied(
            engine(),
            {"scenarios.valkey.capacity_bytes": "512 KiB", "scenarios.valkey.chunk_tokens": 64},
        ),
        [("it takes {MiB} MiB or more", {"scenarios.valkey.capacity_bytes": "{MiB} MiB"})],
    ),
    "vLLM's own cache for no context": (
        engine(vllm__hbm_kv_bytes="4 MiB"),
        [("it takes {MiB} MiB or more", {"vllm.hbm_kv_bytes": "{MiB} MiB"})],
    ),
    "staging for no prefix": (
        engine(vllm__staging_bytes="8 MiB"),
        [("it takes {MiB} MiB or more", {"vllm.staging_bytes": "{MiB} MiB"})],
    ),
    "a single request too long": (
        engine(latency__prompt_tokens=[200_000], vllm__staging_bytes="32 GiB"),
        [("lower it to at most 131060", {"latency.prompt_tokens": [131_060]})],
    ),
    "chats longer than the model's context": (
        roomy({**MULTI_TURN, "turns": [2000, 2000]}),
        [("set workload.max_context_tokens: 131072", {"workload.max_context_tokens": 131_072})],
    ),
    "first turns longer than the model's context": (
        roomy({**MULTI_TURN, "prefix_tokens": [140_000, 140_000]}),
        [
            (
                "workload.prefix_tokens, workload.user_tokens, workload.answer_tokens so that together they are at most "
                "131072",
                {"workload.prefix_tokens": [1000, 130_692], "workload.turns": [2, 2]},
            )
        ],
    ),
    "first turns longer than max_context_tokens": (
        roomy({**MULTI_TURN, "max_context_tokens": 300}),
        [
            ("raise it", {"workload.max_context_tokens": 580}),
            ("shorten the ranges", {"workload.prefix_tokens": [10, 20], "workload.user_tokens": [10, 20],
                                    "workload.answer_tokens": [10, 20]}),
        ],
    ),
    "documents longer than the model's context": (
        roomy(DOCUMENTS),
        [
            (
                "lower the highest of workload.document_tokens, workload.question_tokens, workload.answer_tokens so that "
                "together they are at most 131072",
                {"workload.document_tokens": [100, 131_032]},
            )
        ],
    ),
    "documents longer than max_context_tokens": (
        roomy(DOCUMENTS | {"document_tokens": [900, 1000], "max_context_tokens": 1000}),
        [
            ("raise it", {"workload.max_context_tokens": 1040}),
            ("shorten the ranges", {"workload.document_tokens": [900, 960]}),
        ],
    ),
    "long requests of a trace": (
        roomy({**TRACE, "max_context_tokens": 7000}),
        [
            ("set workload.long_requests: leave_out", {"workload.long_requests": "leave_out"}),
            ("or cut", {"workload.long_requests": "cut"}),
            ("or raise it to {longest}", {"workload.max_context_tokens": "{longest}"}),
        ],
    ),
    "too long a limit for the model": (
        roomy({**TRACE, "long_requests": "cut", "max_context_tokens": 60_000}, model="{short}"),
        [("set workload.max_context_tokens: 8192", {"workload.max_context_tokens": 8192})],
    ),
    "requests longer than the model's context": (
        roomy(TRACE, model="{short}"),
        [
            (
                "set workload.long_requests: leave_out, or cut, with workload.max_context_tokens: 8192",
                {"workload.long_requests": "leave_out", "workload.max_context_tokens": 8192},
            ),
            ("or cut", {"workload.long_requests": "cut", "workload.max_context_tokens": 8192}),
            ("set workload.long_requests: leave_out", {"workload.long_requests": "leave_out"}),
            ("choose a model with a longer context", {"model": "config/models/llama-3.1-8b.json"}),
        ],
    ),
    "a case's requests longer than its model's context": (
        applied(
            BASE,
            {"predict.cases": {"mine": {"tiers": {"a": {}}, "workload": TRACE, "model": "{short}"}}},
        ),
        [
            (
                "set predict.cases.mine.workload.long_requests: leave_out",
                {"predict.cases.mine.workload.long_requests": "leave_out"},
            ),
        ],
    ),
    "a case's unknown key": (
        changed("predict.cases", {"mine": {"tiers": {"a": {}}, "workload": {**MULTI_TURN, "turn": 3}}}),
        [("predict.cases.mine.workload.turn is not a key; did you mean turns",
          {"predict.cases.mine.workload.turn": ...})],
    ),
    "a case's reversed range": (
        changed("predict.cases", {"mine": {"tiers": {"a": {}}, "workload": {**MULTI_TURN, "turns": [4, 2]}}}),
        [("predict.cases.mine.workload.turns: [4, 2] is wrong; write [lowest, highest]",
          {"predict.cases.mine.workload.turns": [2, 4]})],
    ),
    "a case's missing key": (
        changed("predict.cases", {"mine": {"tiers": {"a": {}}, "workload": {"kind": "multi_turn"}}}),
        [("predict.cases.mine.workload.conversations is missing",
          {"predict.cases.mine.workload.conversations": 3})],
    ),
    "a missing key of the workload": (
        changed("workload", {k: v for k, v in DOCUMENTS.items() if k != "requests"} | {"document_tokens": [9, 900]}),
        [("workload.requests is missing", {"workload.requests": 2})],
    ),
    "YAML's yes": (
        changed("scenarios.files.settings", {"direct_io": True}),
        [("scenarios.files.settings.direct_io: true is wrong; it must be text or an integer or a number; YAML reads yes, no, "
          'on and off without quotes as true and false: write "yes"', {"scenarios.files.settings.direct_io": "yes"})],
    ),
    "YAML's no in a variable": (
        changed("scenarios.rocksdb.environment", {"MALLOC_CONF": False}),
        [('write "no"', {"scenarios.rocksdb.environment.MALLOC_CONF": "no"})],
    ),
    "a number in a variable": (
        changed("scenarios.rocksdb.environment", {"OMP_NUM_THREADS": 2}),
        [('write "2"', {"scenarios.rocksdb.environment.OMP_NUM_THREADS": "2"})],
    ),
    "a number where text is wanted": (
        changed("array", {"owner": 1000}),
        [('write "1000"', {"array.owner": "1000"})],
    ),
    "YAML's no as a name": (
        applied(BASE, {"scenarios": BASE["scenarios"] | {False: {"tier": "none"}}}),
        [('write it in quotes, such as "no"', {"scenarios": BASE["scenarios"] | {"no": {"tier": "none"}}})],
    ),
}  # fmt: skip


def filled(value: Any, words: dict[str, Any]) -> Any:
    """The value with {words} of the message or of the test's folder in place."""
    if isinstance(value, dict):
        return {key: filled(item, words) for key, item in value.items()}
    if isinstance(value, str):
        for word, text in words.items():
            if value == f"{{{word}}}":
                return text
            value = value.replace(f"{{{word}}}", str(text))
    return value


@pytest.fixture
def words(tmp_path) -> dict[str, Any]:
    """short: a model whose context ends at 8,192 tokens."""
    model = json.loads(Path(BASE["model"]).read_text()) | {"max_position_embeddings": 8192}
    (tmp_path / "short.json").write_text(json.dumps(model))
    rows = [json.loads(line) for line in EXCERPT.read_text().splitlines()]
    longest = max(row["input_length"] + row["output_length"] for row in rows)
    return {"short": str(tmp_path / "short.json"), "longest": longest}


@pytest.mark.parametrize(("config", "remedies"), CASES.values(), ids=CASES)
def test_what_a_message_says_helps(config, remedies, words):
    config = filled(config, words)
    message = one_line(config)
    assert message.startswith("config: ")
    takes = re.search(r"it takes (\d+) MiB", message)
    words |= {"MiB": takes[1]} if takes else {}
    for told, remedy in remedies:
        assert filled(told, words) in message
        checked(applied(config, filled(remedy, words)))


def test_the_least_that_is_said_is_the_least(words):
    """One MiB less than a message asks for is refused again."""
    for name in ("hbm for no context", "vLLM's own cache for no context", "staging for no prefix"):
        config, [(_, remedy)] = CASES[name]
        with pytest.raises(UserError) as error:
            checked(config)
        least = int(re.search(r"it takes (\d+) MiB", str(error.value))[1])
        with pytest.raises(UserError, match=f"it takes {least} MiB"):
            checked(applied(config, filled(remedy, {"MiB": least - 1})))


def test_the_circle_is_gone(words):
    """Requests longer than the model's context: what the first message says is enough, and the sweep does it."""
    config = filled(roomy({**TRACE, "long_requests": "cut"}, model="{short}"), words)
    full = checked(config)
    sent = json.loads(sweep_spec(full, "files"))["workload"]
    assert sent["max_context_tokens"] == 8192
    assert max(item.turns[0].answer_end for item in make_workload(sent, 1)) == 8192
    assert "max_context_tokens" not in full["workload"]


def test_vllm_s_room_for_a_template_counts(words):
    config = applied(engine(), {"workload": {**TRACE, "long_requests": "cut"}, "model": words["short"]})
    config["vllm"] = {"staging_bytes": "8 GiB"}
    assert json.loads(sweep_spec(checked(config), "valkey"))["workload"]["max_context_tokens"] == 8192 - 8


@pytest.mark.parametrize(
    ("kind", "packed"),
    [("array", False), ("indented", False), ("utf-16", False), ("64-bit hashes", False), ("gz", True)],
)
def test_a_file_that_is_mended_as_its_message_says_is_read(tmp_path, kind, packed):
    rows = [json.loads(line) for line in EXCERPT.read_text().splitlines()][:3]
    good = "".join(json.dumps(row) + "\n" for row in rows)
    huge = "".join(
        json.dumps(row | {"hash_ids": [number + (1 << 60) for number in row["hash_ids"]]}) + "\n"
        for row in rows
    )
    content, words = {
        "array": (json.dumps(rows).encode(), "write one object a line (jq -c '.[]')"),
        "indented": (json.dumps(rows[0], indent=1).encode(), "write one object a line (jq -c .)"),
        "utf-16": (good.encode("utf-16"), "convert it with iconv -f UTF-16 -t UTF-8"),
        "64-bit hashes": (huge.encode(), "number the blocks' hashes from 0 on"),
        "gz": (gzip.compress(good.encode()), ""),
    }[kind]
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    config = roomy({"kind": "mooncake", "trace": str(path)})
    if not packed:
        with pytest.raises(UserError, match=re.escape(words)) as error:
            checked(config)
        assert str(error.value).startswith(f"config: workload.trace: {path}")
        path.write_text(good)
    checked(config)


def test_a_case_s_long_requests_end_with_its_own_model_s_context(words):
    trace = {**TRACE, "long_requests": "leave_out"}
    cases = {
        "own": {"tiers": {"a": {}}, "workload": trace, "model": words["short"]},
        "theirs": {"tiers": {"a": {}}, "model": words["short"]},
    }
    config = roomy(trace, predict={"cases": cases}, model="config/models/llama-3.1-8b.json")
    found = json.loads(predict_spec(checked(config)))["cases"]
    limits = {name: case["workload"]["max_context_tokens"] for name, case in found.items()}
    assert limits == {"experiment": 131_072, "own": 8192, "theirs": 8192}


def alike(folder: Path, prompt: int, answer: int) -> str:
    """A trace of 12 requests of one size."""
    blocks = list(range(-(-prompt // 512)))
    row = {"input_length": prompt, "output_length": answer, "hash_ids": blocks}
    lines = [json.dumps({"timestamp": 1000 * number} | row) for number in range(12)]
    (folder / "trace.jsonl").write_text("\n".join(lines))
    return str(folder / "trace.jsonl")


def test_requests_longer_than_the_model_s_context_want_another_model(tmp_path, words):
    workload = {"kind": "mooncake", "trace": alike(tmp_path, 9000, 50), "long_requests": "leave_out"}
    with pytest.raises(UserError, match=r"no request is left .*: choose a model with a longer context$"):
        checked(filled(roomy(workload, model="{short}"), words))


@pytest.mark.parametrize(
    ("prompt", "answer", "ways"), [(5000, 50, ["cut"]), (500, 4600, []), (3000, 2500, ["cut"])]
)
def test_only_what_leaves_requests_is_offered(tmp_path, prompt, answer, ways):
    trace = {"kind": "mooncake", "trace": alike(tmp_path, prompt, answer)}
    config = roomy({**trace, "max_context_tokens": 4500})
    message = one_line(config)
    assert [word for word in ("leave_out", "cut") if re.search(rf"\b{word}\b", message)] == ways
    for way in ways:
        checked(applied(config, {"workload.long_requests": way}))


def test_a_case_of_which_no_request_is_left_wants_another_model(tmp_path, words):
    own = {"kind": "mooncake", "trace": alike(tmp_path, 9000, 50), "long_requests": "leave_out"}
    case = {"tiers": {"a": {}}, "workload": own, "model": "{short}"}
    config = filled(applied(BASE, {"predict.cases": {"mine": case}}), words)
    with pytest.raises(
        UserError, match=r"no request is left .*: choose a model with a longer context$"
    ) as error:
        checked(config)
    assert "config: predict.cases.mine.workload.trace: " in str(error.value)
    checked(applied(config, {"predict.cases.mine.model": "config/models/llama-3.1-8b.json"}))


def test_two_limits_that_leave_nothing_are_both_told(tmp_path, words):
    workload = {"kind": "mooncake", "trace": alike(tmp_path, 9000, 50), "long_requests": "leave_out"}
    config = filled(roomy(workload | {"max_context_tokens": 4000}, model="{short}"), words)
    told = "choose a model with a longer context, and raise workload.max_context_tokens to 9050"
    assert one_line(config).endswith(told)
    longer = applied(config, {"model": "config/models/llama-3.1-8b.json"})
    assert one_line(longer).endswith(": raise it to 9050 at least")
    checked(applied(longer, {"workload.max_context_tokens": 9050}))
