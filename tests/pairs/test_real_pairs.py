"""What `make pairs` left: run `python -m pytest -m engine tests/pairs` after it."""

import json
from pathlib import Path

import pytest

from workflow.hyperkv.machine.probe import call
from workflow.hyperkv.records.record_file import read_records

pytestmark = pytest.mark.engine
CURRENT = "vllm-0.32.0-lmcache-0.5.6"
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
    """Those of the pair that a run takes, by scenario and whether its values were swapped."""
    found = read_records(Path(f"results/pairs/{CURRENT}.jsonl"))
    return {(record["scenario"], record["swapped"]): record for record in found}


def test_the_model_answers_in_words():
    python = json.loads(Path("results/build/current/current.json").read_text())["python"]
    assert call([python, "-c", ASK], 300).text.strip() == "The capital of France is Paris."


def test_the_control_computes_the_same_twice(records):
    assert records["none", False]["verdict"] == "safe"
    assert all(len(answer) == 64 for each in records["none", False]["passes"] for answer in each["answers"])


@pytest.mark.parametrize("scenario", ["mp", "striped_mp"])
def test_answers_from_a_tier_are_those_that_were_computed(records, scenario):
    record = records[scenario, False]
    assert (record["verdict"], record["alike"]) == ("safe", record["prompts"])
    assert record["hit_tokens"] > 0.8 * record["prompt_tokens"]
    assert record["served_bytes"] >= record["hit_tokens"] * 23_040


def test_a_store_that_serves_other_tokens_kv_is_caught_or_refused(records):
    """LMCache's own adapter takes what it is given; connector striped_mp sees that a value is another's."""
    assert records["mp", True]["verdict"] == "wrong answers"
    assert (records["striped_mp", True]["verdict"], records["striped_mp", True]["hit_tokens"]) == (
        "no hits",
        0,
    )
