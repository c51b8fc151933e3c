"""Every remedy that a message gives has been tried: the config fails, the message says what to do, and that is enough."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.configs import BASE, engine, one_line, with_kvrocks, with_striped
from tests.workflow_helpers import changed as applied
from tests.workloads.kinds import EXCERPT
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import predict_spec, sweep_spec
from workflow.hyperkv.workloads.factory import make_workload

TRACE = {"kind": "trace", "trace": str(EXCERPT)}


def roomy(workload: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """BASE with a workload and room for its contexts."""
    return applied(BASE, {"workload": workload, "replay.hbm_kv_bytes": "32 GiB", **keys})


REFUSED = yaml.safe_load(Path(__file__).with_name("refused.yaml").read_text())
BASES = {"base": BASE, "engine": engine(), "kvrocks": with_kvrocks(), "striped": with_striped()}


def remedy_of(changes: dict[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    """Changes of the table with its words filled in."""
    return {path: ... if value == "..." else filled(value, words) for path, value in changes.items()}


def case_of(case: dict[str, Any], words: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """A case of the table: the configuration, and the remedies by the words that say them."""
    (base, changes), *remedies = case.items()
    return applied(BASES[base], remedy_of(changes, words)), dict(remedies)


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
    return {"short": str(tmp_path / "short.json"), "longest": longest, "trace": str(EXCERPT)}


@pytest.mark.parametrize("case", REFUSED["mistakes"], ids=str)
def test_a_mistake_is_one_line_with_the_key_and_what_is_allowed(case):
    base, changes, *told = case
    message = one_line(applied(BASES[base], remedy_of(changes, {})))
    assert message.startswith("config: ")
    assert [words for words in told if words not in message] == []


@pytest.mark.parametrize("case", REFUSED["remedies"].values(), ids=REFUSED["remedies"])
def test_what_a_message_says_helps(case, words):
    config, remedies = case_of(case, words)
    message = one_line(config)
    assert message.startswith("config: ")
    takes = re.search(r"it takes (\d+) MiB", message)
    words |= {"MiB": takes[1]} if takes else {}
    for told, changes in remedies.items():
        assert filled(told, words) in message
        for each in changes:
            checked(applied(config, remedy_of(each, words)))


def test_the_least_that_is_said_is_the_least(words):
    """One MiB less than a message asks for is refused again."""
    for name in ("hbm for no context", "vLLM's own cache for no context", "staging for no prefix"):
        config, remedies = case_of(REFUSED["remedies"][name], words)
        [[changes]] = remedies.values()
        least = int(re.search(r"it takes (\d+) MiB", one_line(config))[1])
        mended = applied(config, remedy_of(changes, {"MiB": least - 1}))
        assert f"it takes {least} MiB" in one_line(mended)


def test_the_circle_is_gone(words):
    """Requests longer than the model's context: what the first message says is enough, and the sweep does it."""
    config = filled(roomy({**TRACE, "long_requests": "cut"}, model="{short}"), words)
    full = checked(config)
    sent = json.loads(sweep_spec(full, "files"))["workload"]
    assert sent["max_context_tokens"] == 8192
    assert max(item.turns[0].answer_end for item in make_workload(sent, 1)) == 8192
    assert "max_context_tokens" not in full["workload"]


def test_vllm_s_room_for_a_template_counts(words):
    workload = {**TRACE, "long_requests": "cut"}
    config = applied(engine(), {"workload": workload, "model": words["short"], "experiment.loads": [1]})
    config["vllm"] = {"staging_bytes": "8 GiB"}
    assert json.loads(sweep_spec(checked(config), "valkey"))["workload"]["max_context_tokens"] == 8192 - 8


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("array", True),
        ("indented", True),
        ("utf-16", False),
        ("torn", False),
        ("64-bit hashes", True),
        ("gz", True),
    ],
)
def test_a_file_that_is_mended_as_its_message_says_is_read(tmp_path, kind, taken):
    rows = [json.loads(line) for line in EXCERPT.read_text().splitlines()][:3]
    good = "".join(json.dumps(row) + "\n" for row in rows)
    huge = "".join(
        json.dumps(row | {"hash_ids": [number + (1 << 60) for number in row["hash_ids"]]}) + "\n"
        for row in rows
    )
    content, words = {
        "array": (json.dumps(rows).encode(), ""),
        "indented": (json.dumps(rows[0], indent=1).encode(), ""),
        "torn": (good.encode()[:-20], "take the line out"),
        "utf-16": (good.encode("utf-16"), "convert it with iconv -f UTF-16 -t UTF-8"),
        "64-bit hashes": (huge.encode(), ""),
        "gz": (gzip.compress(good.encode()), ""),
    }[kind]
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    config = roomy({"kind": "trace", "trace": str(path)})
    if not taken:
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
    workload = {"kind": "trace", "trace": alike(tmp_path, 9000, 50), "long_requests": "leave_out"}
    with pytest.raises(UserError, match=r"no request is left .*: choose a model with a longer context$"):
        checked(filled(roomy(workload, model="{short}"), words))


@pytest.mark.parametrize(
    ("prompt", "answer", "ways"), [(5000, 50, ["cut"]), (500, 4600, []), (3000, 2500, ["cut"])]
)
def test_only_what_leaves_requests_is_offered(tmp_path, prompt, answer, ways):
    trace = {"kind": "trace", "trace": alike(tmp_path, prompt, answer)}
    config = roomy({**trace, "max_context_tokens": 4500})
    message = one_line(config)
    assert [word for word in ("leave_out", "cut") if re.search(rf"\b{word}\b", message)] == ways
    for way in ways:
        checked(applied(config, {"workload.long_requests": way}))


def test_a_case_of_which_no_request_is_left_wants_another_model(tmp_path, words):
    own = {"kind": "trace", "trace": alike(tmp_path, 9000, 50), "long_requests": "leave_out"}
    case = {"tiers": {"a": {}}, "workload": own, "model": "{short}"}
    config = filled(applied(BASE, {"predict.cases": {"mine": case}}), words)
    with pytest.raises(
        UserError, match=r"no request is left .*: choose a model with a longer context$"
    ) as error:
        checked(config)
    assert "config: predict.cases.mine.workload.trace: " in str(error.value)
    checked(applied(config, {"predict.cases.mine.model": "config/models/llama-3.1-8b.json"}))


def test_two_limits_that_leave_nothing_are_both_told(tmp_path, words):
    workload = {"kind": "trace", "trace": alike(tmp_path, 9000, 50), "long_requests": "leave_out"}
    config = filled(roomy(workload | {"max_context_tokens": 4000}, model="{short}"), words)
    told = "choose a model with a longer context, and raise workload.max_context_tokens to 9050"
    assert one_line(config).endswith(told)
    longer = applied(config, {"model": "config/models/llama-3.1-8b.json"})
    assert one_line(longer).endswith(": raise it to 9050 at least")
    checked(applied(longer, {"workload.max_context_tokens": 9050}))
