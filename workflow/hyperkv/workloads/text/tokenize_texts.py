"""Conversations of ShareGPT's form as the tokens that a model gets: its own chat template, its own tokenizer, once for all runs.

    python -m workflow.hyperkv.workloads.text.tokenize_texts --file TALKS.json --tokenizer MODEL_DIR --out results/texts/NAME.jsonl

Runs with the interpreter of an environment that has transformers, as AIPerf's. A line of the result is one conversation, as
text.Line has it. A template may add to a last message what it leaves out of earlier ones; a prompt then ends where both agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from bisect import bisect_right
from pathlib import Path
from typing import Any

from ...base.cli import run_stage
from ...base.errors import UserError
from .sharegpt import TAG, Talk, read


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.workloads.text.tokenize_texts", description=__doc__
    )
    parser.add_argument("--file", required=True, type=Path, help="conversations in ShareGPT's form")
    parser.add_argument("--tokenizer", required=True, type=Path, help="a model's folder, with chat template")
    parser.add_argument("--most", type=int, help="take the first so many conversations")
    parser.add_argument("--out", required=True, type=Path, help="JSON lines to write")
    told = parser.parse_args()
    tokenizer = _tokenizer(told.tokenizer)
    talks = read(told.file, f"workload.file: {told.file}", told.most)
    lines = [json.dumps(line(tagged(talk), tokenizer), ensure_ascii=False) + "\n" for talk in talks]
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.write_text("".join(lines))


def tagged(talk: Talk) -> Talk:
    """The conversation with the tag in front of its first words."""
    if talk.system:
        return Talk(talk.name, f"[{TAG}] {talk.system}", talk.questions, talk.answers)
    first, *rest = talk.questions
    return Talk(talk.name, "", (f"[{TAG}] {first}", *rest), talk.answers)


def line(talk: Talk, tokenizer: Any) -> dict[str, Any]:
    """A conversation's tokens, and where in them are the tag, and each turn's prompt and answer."""
    unanswered = len(talk.questions) > len(talk.answers)
    text = _rendered(tokenizer, talk.messages(), unanswered)
    told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in told["offset_mapping"]]
    turns = []
    for turn in range(len(talk.questions)):
        prompt = _rendered(tokenizer, talk.messages(turn + 1, turn), True)
        begun = _common(prompt, text)
        answer = talk.answers[turn].strip() if turn < len(talk.answers) else ""
        found = text.find(answer, begun)
        at = begun if found < 0 else found + len(answer)
        turns.append((bisect_right(ends, begun), bisect_right(ends, at)))
    place = text.find(TAG)
    return {
        "name": talk.name,
        "said": [[each["role"], each["content"]] for each in talk.messages() if each["role"] != "assistant"],
        "tokens": told["input_ids"][: turns[-1][1]],
        "tag": [bisect_right(ends, place), bisect_right(ends, place + len(TAG))],
        "turns": turns,
    }


def _common(left: str, right: str) -> int:
    """Characters until two texts part."""
    parts = (at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    return next(parts, min(len(left), len(right)))


def _rendered(tokenizer: Any, messages: list[dict[str, str]], ask: bool) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    except Exception as error:  # a template raises what it likes, such as for a role that it does not know
        raise UserError(f"the chat template does not take a conversation: {error}") from None


def _tokenizer(folder: Path) -> Any:
    """Raises UserError where transformers or the folder's tokenizer or chat template are not there."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UserError(f"texts need an environment with transformers ({error})") from error
    try:
        found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise UserError(
            f"{folder}: no tokenizer that can be read ({' '.join(str(error).split())[:200]})"
        ) from None
    if not found.is_fast:
        raise UserError(f"{folder}: a tokenizer without offsets; use a folder with tokenizer.json")
    if not found.chat_template:
        raise UserError(
            f"{folder}: it has no chat template; name a folder whose tokenizer_config.json or chat_template.jinja has one"
        )
    return found


if __name__ == "__main__":
    sys.exit(run_stage("tokenize_texts", main))
