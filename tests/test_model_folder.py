"""A model folder made here: what vLLM and AIPerf read of it."""

import json
from pathlib import Path

import pytest

from workflow.hyperkv.errors import UserError
from workflow.hyperkv.model_folder import word_of, write_model_folder

TINY = Path("config/models/tiny-llama.json")


def test_the_folder_has_config_tokenizer_and_a_template_that_keeps_prefixes(tmp_path):
    write_model_folder(TINY, tmp_path / "m")
    read = {path.name: json.loads(path.read_text()) for path in (tmp_path / "m").iterdir()}
    assert set(read) == {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    vocabulary = read["tokenizer.json"]["model"]["vocab"]
    assert len(vocabulary) == read["config.json"]["vocab_size"] == 4096
    assert vocabulary[word_of(17)] == 17
    assert (
        read["tokenizer_config.json"]["chat_template"]
        == "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    )


def test_no_model_config_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such model config"):
        write_model_folder(tmp_path / "absent.json", tmp_path / "m")


def test_words_name_one_token_and_a_text_of_them_is_within_vllms_bound_on_characters():
    words = [word_of(token) for token in range(128_256)]
    assert len(set(words)) == len(words)
    assert [int(word, 36) for word in words[1000::1000]] == [*range(1000, 128_256, 1000)]
    longest = max(map(len, words))
    assert max(map(len, words[1:])) + len(" ") <= longest
