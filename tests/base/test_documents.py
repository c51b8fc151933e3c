"""What a user writes is bounded and printable: one line for what is too deep, too large, or would act on a terminal."""

import json
import os
import signal
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.configs import BASE, changed
from tests.hostile import BRACES, lines
from workflow.hyperkv.base.documents import LARGEST, Unreadable, check_values, from_json, from_yaml
from workflow.hyperkv.base.errors import UserError, printable
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.config_text import require_readable
from workflow.hyperkv.config.models.config import Config
from workflow.hyperkv.config.models.texts import FREE, RULES
from workflow.hyperkv.config.schema import schema
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.tables.judging.claim import read_claims
from workflow.hyperkv.workloads.trace_forms.forms import read_trace


def laughs(levels: int, merge: bool = False) -> str:
    """A YAML document of a few lines and 10 ** levels values."""
    text = "a0: &a0 {x: 1}\n"
    for level in range(1, levels):
        parts = ", ".join([f"*a{level - 1}"] * 10)
        text += f"a{level}: &a{level} {{<<: [{parts}]}}\n" if merge else f"a{level}: &a{level} [{parts}]\n"
    return text


BAD_YAML = {
    "nested 2,000 deep": "a: " + "[" * 2_000 + "]" * 2_000,
    "a mapping nested deep": "a: " + "{b: " * 300 + "1" + "}" * 300,
    "in blocks": "".join(f"{' ' * level}a:\n" for level in range(400)),
    "aliases": laughs(30),
    "merge keys": laughs(30, merge=True),
    "in itself": "a: &a [*a]",
    "in itself by keys": "a: &a {b: {c: *a}}",
    "digits": f"a: {'9' * 5000}",
    "no date": "a: 2024-13-45",
    "no boolean": "a: !!bool x",
    "no timestamp": "a: !!timestamp x",
    "an object": "a: !!python/object/apply:os.system [touch CANARY]",
    "a key that is none": "? {a: b}\n: c",
}


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_yaml_that_cannot_be_read_is_one_line(text, tmp_path):
    with pytest.raises(Unreadable) as caught:
        from_yaml(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    path = tmp_path / "x.yaml"
    path.write_text(text)
    for read in (
        lambda: checked(changed("gpu", str(path))),
        lambda: load_geometry(path, "auto"),
        lambda: read_claims(path),
        lambda: require_readable([path]),
    ):
        with pytest.raises(UserError, match=r"x\.yaml") as refused:
            read()
        assert str(refused.value).isprintable()
    assert not Path("CANARY").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5000, f'{{"a": {"9" * 5000}}}', "{", "\x00"])
def test_json_that_cannot_be_read_is_one_line(text, tmp_path):
    with pytest.raises(Unreadable, match=r"nested|not JSON"):
        from_json(text)
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"config\.json is (nested|not JSON)"):
        load_geometry(path, "auto")
    with pytest.raises(UserError, match=r"^trace:1: "):
        read_trace(path, "trace")


REQUEST = {"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1]}


@pytest.mark.parametrize("key", ["timestamp", "input_length", "output_length"])
def test_a_traces_numbers_are_bounded(key, tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(REQUEST | {key: 10**400}))
    with pytest.raises(UserError, match=rf"^trace:1: {key} is 1000") as caught:
        read_trace(path, "trace")
    assert len(str(caught.value)) < 200


def test_json_is_configuration_too(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{\n\t"engine": "replay"\n}')
    require_readable([path])


@pytest.mark.parametrize("path", sorted(Path("config").glob("*.yaml")), ids=str)
def test_what_is_shipped_can_be_read(path):
    require_readable([path])


def deep(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data_dir", "a\nb", "data_dir: it has a line break or another control character (U+000A)"),
        ("data_dir", "a\x1b[31m", "(U+001B)"),
        ("model", "a\0b", "(U+0000)"),
        ("claims", "a\u202eb", "(U+202E)"),
        ("claims", "a\udc80", "(U+DC80)"),
        ("vllm.flags", ["--a", "b\r"], "vllm.flags.1: it has"),
        ("vllm.environment", {"A": "x\nRestart=no"}, "vllm.environment.A: it has"),
        ("vllm.environment", {"A\nB": "x"}, r"vllm.environment.A\nB: it has"),
        ("vllm.environment", {"A=B": "x"}, "vllm.environment: 'A=B' is wrong; it must be text like"),
        ("vllm.environment", {"A;touch CANARY;B": "x"}, "is wrong; it must be text like"),
        ("vllm.environment", {"": "x"}, "vllm.environment: '' is wrong"),
        ("scenarios.rocksdb.environment", {"$(x)": "x"}, "scenarios.rocksdb.environment: '$(x)' is wrong"),
        ("scenarios.files.vllm", {"environment": {"1A": "x"}}, "'1A' is wrong"),
        ("scenarios.rocksdb.settings", {"a b": 1}, "scenarios.rocksdb.settings: 'a b' is wrong"),
        ("scenarios.rocksdb.settings", {"a\ndaemonize": 1}, "it has a line break"),
        ("scenarios.dram.lmcache", {"a": {"b": ["x\x07"]}}, "scenarios.dram.lmcache.a.b.0: it has"),
        ("tune.space", {"environment.A=B": {"kind": "choice", "choices": ["a"]}}, "is wrong"),
        ("tune.space", {"settings.a b": {"kind": "choice", "choices": ["a"]}}, "is wrong"),
        ("workload.conversations", 10**400, f"the number is too large; at most {LARGEST}"),
        ("workload.conversations", "9" * 400, "workload.conversations: "),
        ("experiment.seed", -(10**30), "the number is too large"),
        ("vllm.ready_timeout_s", 1e300, "the number is too large"),
        ("replay.hbm_kv_bytes", "9" * 400 + " GiB", "replay.hbm_kv_bytes: "),
        ("claims", "a" * 5000, "5,000 characters are too many"),
        ("model", "a" * 300, "is wrong; it must be a path of at most 4000 bytes with names of at most 255"),
        ("break_even.models", [f"a/{'é' * 200}/b"], "it must be a path of at most 4000 bytes with names"),
        ("kvrocks", {"source": "path", "path": "漢/" * 1100}, "kvrocks.path: '漢/漢/"),
        ("kvrocks.deps_dir", "a" * 256, "kvrocks.deps_dir: 'aaa"),
        ("kvrocks.patches", ["a" * 300], "it must be a name of at most 200 letters, digits"),
        ("scenarios", {"a" * 101: {"tier": "none"}}, "it must be text of at most 100 characters like ^[a-z]"),
        ("scenarios.dram.lmcache", deep(10_000), "config: it is nested more than 50 deep"),
        ("scenarios.dram.lmcache", from_yaml("a: &a {b: 1}\nc: *a"), None),
        ("scenarios.dram.lmcache", {"a": "1e999"}, None),
    ],
)
def test_the_door(key, value, words):
    config = changed(key, value)
    if words is None:
        checked(config)
        return
    with pytest.raises(UserError) as caught:
        checked(config)
    assert words in str(caught.value)
    assert str(caught.value).startswith("config: ")
    assert str(caught.value).isprintable()


ENDLESS = ["model", "gpu", "break_even.models", "break_even.gpus", "workload"]


@pytest.fixture
def in_time():
    """A read that waits for ever ends in a minute."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("key", ENDLESS)
@pytest.mark.parametrize("kind", ["a pipe", "a link to a pipe", "a device"])
def test_a_file_that_never_ends_is_refused_and_not_read(key, kind, tmp_path, in_time):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    path = {"a pipe": f"{tmp_path}/pipe", "a link to a pipe": f"{tmp_path}/link", "a device": "/dev/zero"}[
        kind
    ]
    value = {"workload": {"kind": "trace", "trace": path}}.get(key, [path] if "break_even" in key else path)
    with pytest.raises(UserError, match=r"^config: .*cannot be read \(it is no file\)"):
        checked(changed(key, value))


def test_aliases_that_snakemake_has_read_are_counted():
    part: object = [1]
    for _ in range(20):
        part = [part] * 10
    with pytest.raises(UserError, match="it is larger than 200,000 values"):
        check_values({"a": part})


def test_a_preset_s_texts_come_through_the_same_door(tmp_path, monkeypatch):
    text = yaml.safe_dump({"description": "two\nlines", "settings": {}, "environment": {"A": "x\ny"}})
    (tmp_path / "own.yaml").write_text(text)
    monkeypatch.setattr("workflow.hyperkv.stores.kvrocks.store.KvrocksStore.presets", tmp_path)
    keys = {"tier": "ssd", "store": "kvrocks", "connector": "resp", "preset": "own"}
    with pytest.raises(UserError, match=r"scenarios\.kv\.environment\.A: it has a line break"):
        checked(changed("scenarios.kv", keys))


@pytest.mark.parametrize("name", ["a\nb", "", "a\x1bb", "a" * 200, "a\n"])
def test_a_gpus_name_is_one_line(name, tmp_path):
    document = yaml.safe_load(Path("config/gpus/h100.yaml").read_text())
    (tmp_path / "g.yaml").write_text(yaml.safe_dump(document | {"name": name}))
    with pytest.raises(UserError, match=r"g\.yaml: name: ") as caught:
        checked(changed("gpu", str(tmp_path / "g.yaml")))
    assert str(caught.value).isprintable()


@given(
    st.recursive(
        lines(tuple(BRACES)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(lines(), inner, max_size=2),
        max_leaves=6,
    )
)
def test_one_line_of_text_passes_wherever_it_is(value):
    before = deepcopy(value)
    check_values({"a": value})
    assert value == before


@given(st.text(), st.sampled_from("\0\n\r\t\x1b\x7f\x85\u2028\u200b\ufeff\ud800"))
def test_control_characters_do_not(text, odd):
    with pytest.raises(UserError):
        check_values({"a": [f"{text}{odd}"]})


def strings(rules: dict, path: str, unit: str | None = None):
    """(key, rules, unit) of every text of one's own that a model's JSON Schema has a place for, names of mappings among them."""
    unit = rules.get("unit", unit)
    if rules.get("type") == "string" and "enum" not in rules and "const" not in rules:
        yield path, rules, unit
    for choice in rules.get("anyOf", []):
        yield from strings(choice, path, unit)
    if "items" in rules:
        yield from strings(rules["items"], f"{path}[]", unit)
    for name, item in rules.get("properties", {}).items():
        yield from strings(item, f"{path}.{name}")
    values = [*rules.get("patternProperties", {}).values()]
    if isinstance(rules.get("additionalProperties"), dict):
        yield f"{path}, names", {}, None
        values.append(rules["additionalProperties"])
    for value in values:
        yield from strings(value, f"{path}.*", unit)


def test_every_text_of_the_models_has_a_rule():
    root = schema(Config)
    found = [entry for name, rules in {"": root, **root["$defs"]}.items() for entry in strings(rules, name)]
    assert {".data_dir", "Vllm.environment.*", "Git.git_url", "BreakEven.gpus[]"} <= {
        key for key, *_ in found
    }
    without = [
        key
        for key, rules, unit in found
        if "pattern" not in rules
        and unit not in (*RULES, *FREE)
        and not key.endswith("settings.*")  # what a store makes of them is its own check's
    ]
    assert without == []


def test_a_message_is_printable_and_on_its_lines():
    assert str(UserError("a\x1b[2J\nb\r\t\u202e é 漢")) == "a\\x1b[2J\nb\\r\\t\\u202e é 漢"
    assert printable("a\nb") == "a\\nb"


def test_base_is_let_in():
    assert checked(BASE)
