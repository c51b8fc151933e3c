"""A scenario of a pair on a stand-in of vLLM (tests/fake_engine), with a real store."""

import json
import sys
from pathlib import Path

import pytest

from tests.engines.vllm.slices import VALKEY, slice_of
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.pairs.layer import Made
from workflow.hyperkv.pairs.trial import tried

ROOT = Path(__file__).parents[2]
CHUNK = 32


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """The stage's spec, the control's and a connector's slices, and an environment: that of these tests."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/fake_engine"))
    kv_bytes = load_geometry(Path("config/models/tiny-llama.json")).kv_bytes_per_token
    monkeypatch.setenv("FAKE_KV_BYTES", str(kv_bytes))
    texts = ["what is a heap " * 20, "what is a lock " * 30]
    talks = [
        {"id": str(n), "conversations": [{"from": "human", "value": text}]} for n, text in enumerate(texts)
    ]
    (tmp_path / "talks.json").write_text(json.dumps(talks))
    own = slice_of(tmp_path)
    bare = {key: value for key, value in own["scenario"].items() if key not in ("store", "connector")}
    none = {**own, "scenario": {**bare, "name": "none", "tier": "none", "dram_pool_bytes": None}}
    striped = {"connector": "striped", "stripe_bytes": 8192, "processes": 1, "chunk_tokens": CHUNK}
    tier = {**own, "scenario": {**own["scenario"], **VALKEY, **striped}}
    spec = {"pair": "p", "conversations": str(tmp_path / "talks.json"), "answer_tokens": 1}
    versions = {"torch": "2.13.0", "vllm": "0.32.0", "lmcache": "0.5.6"}
    return spec, none, tier, Made(sys.executable, tmp_path / "environment.json", versions, {})


def measured(pair, tmp_path):
    """The records of the tier, beside a control that answers right."""
    spec, none, tier, made = pair
    (control,) = tried(spec, none, made, [], tmp_path / "logs")
    assert (control.verdict, control.hit_tokens, control.connector) == ("safe", 0, None)
    return tried(spec, tier, made, control.passes, tmp_path / "logs")


def test_hits_and_their_bytes_are_proved_and_damaged_values_are_refused(pair, tmp_path):
    found, *damaged = measured(pair, tmp_path)
    assert (found.verdict, found.damage, found.alike, found.prompts) == ("safe", None, 2, 2)
    assert found.hit_tokens == sum(length // CHUNK * CHUNK for length in found.passes[1].prompt_tokens)
    assert (
        found.served_bytes
        >= found.hit_tokens * load_geometry(Path("config/models/tiny-llama.json")).kv_bytes_per_token
    )
    assert (found.vllm, found.lmcache, found.connector, found.store) == (
        "0.32.0",
        "0.5.6",
        "striped",
        "valkey",
    )
    assert [each.damage for each in damaged] == ["swapped", "inverted"]
    assert {(each.verdict, each.hit_tokens) for each in damaged} == {("no hits", 0)}


def test_an_engine_that_answers_wrongly_from_its_tier_is_caught(pair, tmp_path, monkeypatch):
    spec, none, tier, made = pair
    (control,) = tried(spec, none, made, [], tmp_path / "logs")
    monkeypatch.setenv("FAKE_VLLM", "wrong")
    found = tried(spec, tier, made, control.passes, tmp_path / "logs")[0]
    assert (found.verdict, found.alike, found.agreed_tokens) == ("wrong answers", 0, 0)
    assert found.reason.startswith("warm: 2 of 2 answers are not the control's")


def test_an_engine_that_does_not_start_is_told_with_its_cause(pair, tmp_path, monkeypatch):
    spec, none, _, made = pair
    monkeypatch.setenv("FAKE_VLLM", "die")
    (found,) = tried(spec, none, made, [], tmp_path / "logs")
    assert (found.verdict, found.alike, found.passes) == ("does not start", None, [])
    assert "too little GPU memory is free" in found.reason


def test_without_environment_module_or_control_nothing_is_started(pair, tmp_path):
    spec, none, tier, made = pair
    (found,) = tried(spec, none, "pip could not install the packages", [], tmp_path / "logs")
    assert (found.verdict, found.reason, found.vllm) == (
        "not tried",
        "pip could not install the packages",
        None,
    )
    lacking = Made(made.python, made.record, made.versions | {"lmcache": None}, {"lmcache": "ImportError: x"})
    (found,) = tried(spec, tier, lacking, [], tmp_path / "logs")
    assert (found.verdict, found.reason) == ("does not start", "lmcache cannot be imported: ImportError: x")
    (found,) = tried(spec, tier, made, [], tmp_path / "logs")
    assert (found.verdict, found.reason) == (
        "not tried",
        "without a tier there are no answers to compare with",
    )
    assert not (tmp_path / "logs").exists()


def test_conversations_of_another_form_are_refused_in_a_line(pair, tmp_path):
    spec, none, _, made = pair
    Path(spec["conversations"]).write_text('[{"messages": [{"role": "user", "content": "x"}]}]')
    with pytest.raises(
        UserError,
        match=r"^pairs\.conversations: \S+: conversation 1: no \"conversations\" \(it has messages\); ShareGPT's form is",
    ) as caught:
        tried(spec, none, made, [], tmp_path / "logs")
    assert "\n" not in str(caught.value)
