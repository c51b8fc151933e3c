"""What `make pairs` or `make test-engine` left of the pair that a run takes, of the connectors that were tried."""

import json
from pathlib import Path

import pytest

from workflow.hyperkv.machine.probe import call
from workflow.hyperkv.records.record_file import read_records

pytestmark = pytest.mark.engine
CURRENT = "vllm-0.32.0-lmcache-0.5.6"
BELIEVING = ("mp", "fs", "fs_native", "raw_block", "nixl", "offloading")  # take what a store gives them
CHECKING = ("striped_mp", "direct_mp", "striped_tier")  # see by checksums that a value is not what was saved
PEERS = ("fs", "fs_native", "raw_block", "nixl", "offloading", "striped_tier")  # of `make pairs` alone
ASK = """
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = "results/build/models/smollm2-135m-real"
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
asked = [{"role": "user", "content": "What is the capital of France?"}]
words = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**words, max_new_tokens=12, do_sample=False)[0, words["input_ids"].shape[1]:]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""


@pytest.fixture(scope="module")
def records():
    """By scenario and how its store was damaged."""
    found = read_records(Path(f"results/pairs/{CURRENT}.jsonl"))
    return {(record["scenario"], record["damage"]): record for record in found}


def of(records, scenario, damage=None):
    if scenario in PEERS and (scenario, damage) not in records:
        pytest.skip(f"{scenario} is tried by `make pairs`")
    return records[scenario, damage]


def test_the_model_answers_in_words():
    python = json.loads(Path("results/build/current/current.json").read_text())["python"]
    assert call([python, "-c", ASK], 300).text.strip() == "The capital of France is Paris."


def test_the_control_computes_the_same_twice(records):
    assert records["none", None]["verdict"] == "safe"
    assert all(len(answer) == 16 for each in records["none", None]["passes"] for answer in each["answers"])


@pytest.mark.parametrize("scenario", [*BELIEVING, *CHECKING])
def test_answers_from_a_tier_are_those_that_were_computed(records, scenario):
    record = of(records, scenario)
    assert (record["verdict"], record["alike"]) == ("safe", record["prompts"])
    assert record["hit_tokens"] > 0.8 * record["prompt_tokens"]
    assert record["served_bytes"] >= record["hit_tokens"] * 23_040


@pytest.mark.parametrize("scenario", BELIEVING)
def test_a_damaged_store_is_caught_by_the_answers(records, scenario):
    assert of(records, scenario, "inverted")["verdict"] == "wrong answers"


@pytest.mark.parametrize("damage", ["swapped", "inverted"])
@pytest.mark.parametrize("scenario", CHECKING)
def test_connectors_with_checksums_load_nothing_from_a_damaged_store(records, scenario, damage):
    record = of(records, scenario, damage)
    assert (record["verdict"], record["hit_tokens"], record["alike"]) == ("no hits", 0, record["prompts"])


def test_well_formed_values_of_other_tokens_are_caught_too(records):
    assert records["mp", "swapped"]["verdict"] == "wrong answers"
