"""Conversations as text: ShareGPT's form, a chat template's tokens, and what a workload makes of them."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.models.workload import Text as Keys
from workflow.hyperkv.workloads import NothingLeft
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.hyperkv.workloads.factory import make_workload, read_by, workload_notes
from workflow.hyperkv.workloads.prefix_tree import prefix_tree
from workflow.hyperkv.workloads.text.sharegpt import read
from workflow.hyperkv.workloads.text.tokenize_texts import line, tagged
from workflow.hyperkv.workloads.text.tokens_file import check_texts, options, with_tokens

TIDY = [
    {"from": "system", "value": "be brief"},
    {"from": "human", "value": "what is a heap"},
    {"from": "gpt", "value": "a tree in a list"},
    {"from": "human", "value": "and a lock"},
    {"from": "gpt", "value": "one holds it"},
]


class Tokenizer:
    """A made-up one: words and single other characters are tokens, and turns are between marks, as ChatML has them. strips: the
    template adds words to the last answer's beginning alone, as those of models that think do."""

    def __init__(self, strips: bool = False):
        self.strips, self.known = strips, {}

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert not tokenize
        text = "".join(f"<{each['role']}>\n{each['content'].strip()}</>\n" for each in messages)
        return text + ("<assistant>\n" + ("<think></think>" if self.strips else "")) * add_generation_prompt

    def __call__(self, text, add_special_tokens, return_offsets_mapping):
        assert (return_offsets_mapping, add_special_tokens) == (True, False)
        found = [*re.finditer(r"\w+|\W", text)]
        ids = [self.known.setdefault(match[0], len(self.known)) for match in found]
        return {"input_ids": ids, "offset_mapping": [match.span() for match in found]}

    def words(self, tokens):
        names = {number: word for word, number in self.known.items()}
        return "".join(names[token] for token in tokens)


def talks(folder, *conversations, name="talks.json"):
    path = folder / name
    path.write_text(
        json.dumps([{"id": f"t{n}", "conversations": each} for n, each in enumerate(conversations)])
    )
    return path


def said(*pairs):
    return [{"from": who, "value": value} for who, value in pairs]


def workload(folder, *conversations, tokenizer=None, **keys):
    """A workload of kind text whose tokens are made with the made-up tokenizer."""
    file = talks(folder, *conversations)
    lines = [line(tagged(talk), tokenizer or Tokenizer()) for talk in read(file, "x")]
    (folder / "tokens.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return {"kind": "text", "file": str(file), "tokens": str(folder / "tokens.jsonl"), **keys}


def test_a_tidy_conversation_is_what_was_said(tmp_path):
    (talk,) = read(talks(tmp_path, TIDY), "x")
    assert (talk.system, talk.questions, talk.answers) == (
        "be brief",
        ("what is a heap", "and a lock"),
        ("a tree in a list", "one holds it"),
    )
    assert [each["role"] for each in talk.messages(2, 1)] == ["system", "user", "assistant", "user"]


def test_untidy_ones_are_put_in_order(tmp_path):
    found = read(
        talks(
            tmp_path,
            said(("gpt", "before"), ("human", "a"), ("human", "b"), ("chatgpt", "c")),
            said(("user", "a"), ("assistant", "b"), ("user", " "), ("gpt", "never asked")),
            said(("gpt", "nothing is asked")),
            [],
        ),
        "x",
    )
    assert [(each.questions, each.answers) for each in found] == [(("a\n\nb",), ("c",)), (("a",), ("b",))]


def test_one_object_a_line_and_the_first_so_many_are_read(tmp_path):
    lines = [json.dumps({"conversations": said(("human", f"q{n}"), ("gpt", "a"))}) for n in range(4)]
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(lines) + "\n")
    assert [talk.questions for talk in read(path, "x", 2)] == [("q0",), ("q1",)]
    assert len({talk.name for talk in read(path, "x")}) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '[{"messages": [{"role": "user", "content": "a"}]}]',
            r"conversation 1: no \"conversations\" \(it has messages\)",
        ),
        (
            '[{"conversations": [{"role": "user", "content": "a"}]}]',
            'conversation 1: a message is {"role": "user"',
        ),
        ('[{"conversations": [{"from": "tool", "value": "a"}]}]', 'a message is {"from": "tool"'),
        (
            '[{"conversations": [{"from": "human", "value": 3}]}]',
            'a message is {"from": "human", "value": 3}',
        ),
        (
            '{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": [1]}',
            "it has timestamp, input_length",
        ),
        ('{"conversations": []}\nnot json', "talks.json:2: not a JSON object"),
        ("a,b\n1,2\n", "talks.json:1: not a JSON object"),
        ("[", "not JSON"),
        ("[]", "no conversation with a question"),
        ('[{"conversations": [{"from": "gpt", "value": "a"}]}]', "no conversation with a question"),
        ("[3]", r"no \"conversations\" \(it is no object\)"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_a_file_of_another_form_is_refused_in_a_line_that_says_what_is_read(tmp_path, content, words):
    path = tmp_path / "talks.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=words.replace("{", r"\{") if "\\" not in words else words) as caught:
        read(path, f"workload.file: {path}")
    assert "ShareGPT's form is" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strips", [False, True])
def test_a_prompt_ends_where_an_answer_begins(tmp_path, strips):
    """Also where a template puts words before the last answer alone: they are not part of what later prompts share."""
    tokenizer = Tokenizer(strips)
    (talk,) = read(talks(tmp_path, TIDY), "x")
    told = line(tagged(talk), tokenizer)
    pieces, start = [], 0
    for prompt_end, answer_end in told["turns"]:
        pieces.append(
            (
                tokenizer.words(told["tokens"][start:prompt_end]),
                tokenizer.words(told["tokens"][prompt_end:answer_end]),
            )
        )
        start = answer_end
    assert pieces == [
        ("<system>\n[0000000000] be brief</>\n<user>\nwhat is a heap</>\n<assistant>\n", "a tree in a list"),
        ("</>\n<user>\nand a lock</>\n<assistant>\n", "one holds it"),
    ]
    assert tokenizer.words(told["tokens"][slice(*told["tag"])]) == "0000000000"
    assert told["said"] == [
        ["system", "[0000000000] be brief"],
        ["user", "what is a heap"],
        ["user", "and a lock"],
    ]


def test_each_seed_has_a_number_of_its_own_in_front(tmp_path):
    spec = workload(tmp_path, TIDY)
    (one,), (same,), (other,) = (make_workload(spec, seed) for seed in (7, 7, 8))
    assert one.said == (
        ("system", "[0000000007] be brief"),
        ("user", "what is a heap"),
        ("user", "and a lock"),
    )
    assert np.array_equal(one.tokens, same.tokens)
    apart = np.flatnonzero(one.tokens != other.tokens)
    assert list(apart) == [5]  # behind the opening mark, a line and [
    assert [(turn.prompt_end, turn.answer_end) for turn in one.turns] == [(34, 43), (64, 69)]


def test_answers_are_as_long_as_the_files_or_as_is_asked(tmp_path):
    asked = [*TIDY, {"from": "human", "value": "why"}]
    as_they_are, cut = (
        make_workload(workload(tmp_path, asked, **keys), 1)[0] for keys in ({}, {"max_answer_tokens": 3})
    )
    assert [turn.answer_end - turn.prompt_end for turn in as_they_are.turns] == [9, 5]
    assert [turn.answer_end - turn.prompt_end for turn in cut.turns] == [3, 3, 3]
    assert [text for role, text in cut.said if role == "user"] == ["what is a heap", "and a lock", "why"]
    assert len(cut.tokens) == cut.turns[-1].answer_end
    assert workload_notes(workload(tmp_path, asked)) == [
        "text: 1 questions of 1 conversations left out, without an answer"
    ]
    assert workload_notes(workload(tmp_path, asked, max_answer_tokens=3)) == []


def test_a_conversation_ends_before_it_is_too_long(tmp_path):
    spec = workload(tmp_path, TIDY, said(("human", "a"), ("gpt", "b")), max_context_tokens=50)
    first, second = make_workload(spec, 1)
    assert (len(first.turns), len(second.turns)) == (1, 1)
    assert workload_notes(spec) == [
        "text: 1 questions of 2 conversations left out, longer than 50 tokens or without an answer"
    ]
    with pytest.raises(NothingLeft, match="the shortest first turn has 18 tokens: raise it to 18 at least"):
        make_workload({**spec, "max_context_tokens": 10}, 1)


def test_questions_without_answers_alone_are_refused_with_the_key(tmp_path):
    with pytest.raises(UserError, match=r"no question has an answer; set workload\.max_answer_tokens"):
        make_workload(workload(tmp_path, said(("human", "a"))), 1)


WORDS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(" ".join)
TALKS = st.lists(st.lists(WORDS, min_size=1, max_size=5), min_size=1, max_size=6)


@given(TALKS, st.integers(1, 5), st.booleans())
def test_equal_chunks_are_equal_spans(tmp_path_factory, texts, chunk, decode):
    """Whatever conversations share, chunks in the tree of prefixes are those of chained keys."""
    sides = [[*zip(["human", "gpt"] * 3, each, strict=False)] for each in texts]
    spec = workload(tmp_path_factory.mktemp("w"), *(said(*each) for each in sides), max_answer_tokens=2)
    conversations = make_workload(spec, 3)
    ends = [
        [turn.answer_end - 1 if decode else turn.prompt_end for turn in each.turns] for each in conversations
    ]
    keys = {
        key
        for conversation, own in zip(conversations, ends, strict=True)
        for end in own
        for key in chain_keys(conversation.tokens[:end], chunk)
    }
    assert sum(prefix_tree(conversations, decode).units(chunk).count) == len(keys)


def model_folder(folder, **settings):
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_tokens_are_made_of_the_model_that_is_served_unless_another_is_named(tmp_path):
    own = {"kind": "text", "file": "a b.json"}
    made = with_tokens(own, "models/m")
    assert (made["tokenizer"], made["tokens"][:22]) == (
        "models/m",
        "results/texts/a_b-" + made["tokens"][18:22],
    )
    assert read_by(made) == [made["tokens"]]
    assert with_tokens({**own, "tokenizer": "other"}, "models/m")["tokens"] != made["tokens"]
    assert options({**made, "max_conversations": 5}) == [
        "--file",
        "a b.json",
        "--tokenizer",
        "models/m",
        "--most",
        "5",
    ]
    assert with_tokens({"kind": "multi_turn"}, None) == {"kind": "multi_turn"}
    with pytest.raises(
        UserError, match=r"workload\.tokenizer: kind text needs a model's own tokenizer and chat template"
    ):
        with_tokens(own, None)


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    file = talks(tmp_path, TIDY)
    bare, chats = model_folder(tmp_path / "bare"), model_folder(tmp_path / "chats", chat_template="{{ x }}")
    jinja = model_folder(tmp_path / "jinja")
    (jinja / "chat_template.jinja").write_text("{{ x }}")
    for folder in (chats, jinja):
        check_texts(str(file), "workload.file", str(folder), "workload.tokenizer")
    check_texts(str(file), "workload.file", None, "workload.tokenizer")
    told = "^vllm.model_dir: .*bare has no chat template, .* a model that chats, such as an Instruct one"
    with pytest.raises(UserError, match=told):
        check_texts(str(file), "workload.file", str(bare), "vllm.model_dir")
    told = "^workload.tokenizer: not/there has no tokenizer_config.json; name the folder of a whole model"
    with pytest.raises(UserError, match=told):
        check_texts(str(file), "workload.file", "not/there", "workload.tokenizer")
    with pytest.raises(UserError, match=r"^workload.file: there is no file gone\.json"):
        check_texts("gone.json", "workload.file", str(chats), "workload.tokenizer")


def test_the_configurations_keys_are_read(tmp_path):
    keys = Keys.model_validate({"kind": "text", "file": "x.json", "max_answer_tokens": 20})
    assert keys.model_dump(exclude_unset=True) == {"kind": "text", "file": "x.json", "max_answer_tokens": 20}
