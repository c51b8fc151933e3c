"""Text of --config, which Snakemake hands over without types, and files that a config names."""

import os
from pathlib import Path
from typing import Any

import pytest
from snakemake.cli import parse_config

from tests.configs import BASE, changed, engine
from tests.workflow_helpers import merged
from workflow.hyperkv.base.documents import shown
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import cost_spec, sweep_spec
from workflow.hyperkv.engines.vllm.lmcache import mp_arguments
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.tables.judging.claim import read_claims


def with_config(base, *entries: str):
    """The base with what `--config` entries give, as Snakemake reads and merges them."""
    found = parse_config(list(entries))
    return checked(merged(base, found))


@pytest.mark.parametrize(
    ("entry", "path", "value"),
    [
        ('experiment={"loads": [3, 5]}', "experiment.loads", [3, 5]),
        ("experiment={loads: [3]}", "experiment.loads", [3]),
        ('experiment={"slo": {"ttft_ms": 0.5}}', "experiment.slo.ttft_ms", 0.5),
        ('experiment={"slo": {"ttft_ms": 1e3}}', "experiment.slo.ttft_ms", 1000.0),
        ('experiment={"slo": {"ttft_ms": null}}', "experiment.slo.ttft_ms", None),
        ('experiment={"repeats": 2, "seed": 7}', "experiment.seed", 7),
        ('replay={"prefix_caching": false}', "replay.prefix_caching", False),
        ('replay={"hbm_kv_bytes": 268435456}', "replay.hbm_kv_bytes", 268435456),
        ('replay={"hbm_kv_bytes": 256 MiB}', "replay.hbm_kv_bytes", 256 << 20),
        ('workload={"turns": [2, 6]}', "workload.turns", [2, 6]),
        ('scenarios={"files": {"chunk_tokens": [32, 64]}}', "scenarios.files-32.chunk_tokens", 32),
        ('scenarios={"files": {"chunk_tokens": 64, "save_decode_cache": "false"}}', "scenarios.files.save_decode_cache",
         False),
        ('scenarios={"files": {"dram_pool_bytes": null}}', "scenarios.files.dram_pool_bytes", None),
        ('scenarios={"rocksdb": {"settings": {"direct_io": yes}}}', "scenarios.rocksdb.settings.direct_io", "yes"),
        ('scenarios={"rocksdb": {"environment": {"N": 2}}}', "scenarios.rocksdb.environment.N", "2"),
        ('scenarios={"files": {"vllm": {"prefix_caching": true, "block_tokens": 32}}}', "scenarios.files.vllm.block_tokens",
         32),
        ('scenarios={"files": {"lmcache": {"enable_async_loading": "false"}}}', "scenarios.files.lmcache",
         {"enable_async_loading": False}),
        ('scenarios={"files": {"lmcache": {"a": "no", "b": 4, "c": 0.5, "d": null, "e": LRU, "f": "007"}}}',
         "scenarios.files.lmcache", {"a": False, "b": 4, "c": 0.5, "d": None, "e": "LRU", "f": "007"}),
        ('scenarios={"files": {"lmcache": {"extra_config": {"a": true, "b": [1, none]}}}}',
         "scenarios.files.lmcache.extra_config", {"a": True, "b": [1, "none"]}),
        ('scenarios={"files": {"vllm": {"flags": ["-q", 1], "environment": {"A": 1}}}}', "scenarios.files.vllm.environment",
         {"A": "1"}),
        ('replay={"hbm_kv_bytes": 1e9}', "replay.hbm_kv_bytes", 10**9),
        ('scenarios={"files": {"vllm": {"hbm_kv_bytes": "1e9"}}}', "scenarios.files.vllm.hbm_kv_bytes", 10**9),
        ('array={"owner": 1000}', "array.owner", "1000"),
        ('predict={"cases": {"a": {"tiers": {"x": {"dram_bytes": null}}, "workload": {"kind": multi_turn, '
         '"conversations": 3, "turns": [2, 2]}}}}', "predict.cases.a.workload.turns", [2, 2]),
        ('recommend={"load": 2}', "recommend.load", 2),
        ('cost={"slo": {"tps_per_user": 2.5}}', "cost.slo.tps_per_user", 2.5),
        ("kv_dtype=fp8", "kv_dtype", "fp8"),
    ],
)  # fmt: skip
def test_text_of_the_command_line_becomes_what_the_schema_wants(entry, path, value):
    found = with_config(BASE, entry)
    for name in path.split("."):
        found = found[name]
    assert found == value
    assert type(found) is type(value)


def test_it_is_the_same_run_as_with_a_file():
    told = with_config(
        BASE, 'experiment={"loads": [3], "active_conversations": 5}', 'replay={"hbm_kv_bytes": 134217728}'
    )
    written = changed("experiment.loads", [3])
    written["experiment"]["active_conversations"] = 5
    assert sweep_spec(told, "dram-32") == sweep_spec(checked(written), "dram-32")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            'experiment={"loads": [three]}',
            "experiment.loads.0: 'three' is wrong; it must be a number, more than 0",
        ),
        ('experiment={"loads": [2.5]}', "experiment.loads: 2.5 is no number of clients; take whole numbers"),
        ('experiment={"loads": [0]}', "experiment.loads.0: '0' is wrong; it must be a number, more than 0"),
        ('experiment={"loads": 3}', "experiment.loads: '3' is wrong; it must be a list"),
        ('experiment={"loads": [3 ]', "is wrong; it must be a mapping"),
        ('experiment={"laods": [3]}', "experiment.laods is not a key; did you mean loads"),
        ('replay={"prefix_caching": maybe}', "'maybe' is wrong; it must be true or false"),
        ('experiment={"repeats": "3 "}', "experiment.repeats: '3 ' is wrong"),
    ],
)
def test_what_is_no_number_is_told_as_before(entry, words):
    with pytest.raises(UserError) as error:
        with_config(BASE, entry)
    assert words in str(error.value)


def test_text_that_may_be_text_stays_text():
    own = {
        "settings": {"workers": "4", "x": "yes"},
        "environment": {"A": "1"},
        "vllm": {"flags": ["-q", "1", 2]},
    }
    found = checked(changed("scenarios.other", {"tier": "none", **own}))["scenarios"]["other"]
    assert {key: found[key] for key in own} == own


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (None, "null"), ("a", "'a'"), (1.5, "1.5"), ([1], "[1]")],
)
def test_values_are_shown_as_yaml_has_them(value, text):
    assert shown(value) == text


# Files that a config names


FILES = {
    "model": lambda path: checked(changed("model", path)),
    "gpu": lambda path: checked(changed("gpu", path)),
    "break_even.models": lambda path: checked(changed("break_even.models", [path])),
    "break_even.gpus": lambda path: checked(changed("break_even.gpus", [path])),
    "predict.cases.mine.model": lambda path: checked(
        changed("predict.cases", {"mine": {"tiers": {"a": {}}, "model": path}})
    ),
    "cost.prices": lambda path: cost_spec(checked(changed("cost", {"prices": path}))),
    "claims": lambda path: read_claims(Path(checked(changed("claims", path))["claims"])),
    "vllm.pairs.reference.requirements": lambda path: checked(
        engine(vllm__pairs={"reference": {"requirements": path}})
    ),
    "loadgen.requirements": lambda path: checked(engine(loadgen__requirements=path)),
    "workload.trace": lambda path: checked(changed("workload", {"kind": "trace", "trace": path})),
    "predict.cases.mine.workload.trace": lambda path: checked(
        changed(
            "predict.cases", {"mine": {"tiers": {"a": {}}, "workload": {"kind": "trace", "trace": path}}}
        )
    ),
}  # fmt: skip
CONTENTS = {
    "missing": None,
    "empty": b"",
    "binary": b"\x80\xff\x00\xfe",
    "list": b"- 1\n- 2\n",
    "text": b"a: [\n",
}


@pytest.mark.parametrize("content", [*CONTENTS, "folder", "unreadable"])
@pytest.mark.parametrize("key", FILES)
def test_a_file_that_is_none_is_one_line_with_key_and_file(tmp_path, key, content):
    if key.endswith("requirements") and content in ("empty", "list", "text"):
        pytest.skip("pip says what it cannot read")
    path = tmp_path / "named.json"
    if content == "folder":
        path.mkdir()
    elif content == "unreadable":
        path.write_bytes(b"{}")
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("root reads everything")
    elif CONTENTS[content] is not None:
        path.write_bytes(CONTENTS[content])
    with pytest.raises(UserError) as error:
        FILES[key](str(path))
    message = str(error.value)
    assert message.startswith(f"config: {key}: ")
    assert str(path) in message
    assert "\n" not in message


def test_of_a_predicted_case_only_what_its_kind_has_is_taken():
    """Keys of another kind come from a configuration below, and were never written by who changes the kind."""
    shipped = {"conversations": 400, "turns": [2, 28], "prefix_tokens": [800, 1200], "user_tokens": [50, 150]}
    own = {"kind": "long_documents", "documents": 2, "requests": 3, "document_tokens": [90, 99]}
    own |= {"question_tokens": [5, 9], "answer_tokens": [5, 9]}
    config = checked(changed("predict.cases", {"reference": {"tiers": {"a": {}}, "workload": shipped | own}}))
    assert config["predict"]["cases"]["reference"]["workload"] == own


@pytest.mark.parametrize(
    ("key", "path"), [("gpu", "none.yaml"), ("model", "none.json"), ("model", "Makefile")]
)
def test_with_engine_vllm_files_are_named_by_their_keys_too(key, path):
    with pytest.raises(UserError, match=f"config: {key}: .*{path}"):
        checked(engine() | {key: path})


def test_an_option_of_lmcaches_server_that_is_false_on_the_command_line_is_a_no():
    entry = 'scenarios={"pool": {"tier": "dram", "store": "dram", "connector": "mp", "dram_pool_bytes": "64 MiB", "chunk_tokens": 32, "lmcache": {"l1_use_lazy": "false"}}}'
    scenario = with_config(BASE, entry)["scenarios"]["pool"]
    words = mp_arguments(scenario, 1 << 30, Held(Path("/kv")), [], 7000, 7001)
    assert "--no-l1-use-lazy" in words
    assert "--l1-use-lazy" not in words


def test_a_float_of_yaml_where_an_integer_is_wanted_is_one():
    found = checked(
        changed(
            "scenarios.files.vllm",
            {"hbm_kv_bytes": 4.0e9, "block_tokens": 16.0, "ready_timeout_s": 9.0},
        )
    )
    own = found["scenarios"]["files"]["vllm"]
    assert {key: (value, type(value)) for key, value in own.items()} == {
        "hbm_kv_bytes": (4_000_000_000, int),
        "block_tokens": (16, int),
        "ready_timeout_s": (9.0, float),
    }


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "key",
    [
        "cost.gpu_hour_usd",
        "cost.slo.ttft_ms",
        "experiment.slo.ttft_ms",
        "loadgen.timeout_s",
        "evidence.device_share_min",
        "scenarios.dram.timeout_s",
        "scenarios.dram.settings.x",
        "profile.value_bytes.0",
    ],
)
def test_a_number_that_is_not_finite_is_refused_wherever_it_is(key, number):
    document: Any = number
    for word in reversed(key.split(".")):
        document = [document] if word == "0" else {word: document}
    with pytest.raises(
        UserError, match=rf"^config: {key}: -?\.(nan|inf) is wrong; it must be a finite number$"
    ):
        checked(document)


def test_text_beyond_all_numbers_stays_text():
    with pytest.raises(UserError, match=r"timeout_s: '1e999' is wrong; it must be a number"):
        checked(changed("loadgen.timeout_s", "1e999"))
