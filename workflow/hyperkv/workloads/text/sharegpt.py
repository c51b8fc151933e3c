"""Conversations as text, in ShareGPT's form, as what is asked and what was answered.

    [{"id": "a", "conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}, …]}, …]

or one of these objects a line. Files of that form are not tidy: what comes before the first question, system prompts apart, is
left out, messages of one side in a row are one, and a conversation ends before its first empty message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ...base.documents import Unreadable, from_json, refuse_endless, text_in
from ...base.errors import UserError

ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "assistant", "model"), "assistant"),
    "system": "system",
}
FORM = (
    'ShareGPT\'s form is a JSON array, or one object a line, of {"id": …, "conversations": [{"from": "human", "value": text}, '
    '{"from": "gpt", "value": text}, …]}; "from" is system, human or gpt'
)
TAG = "0000000000"  # stands in front of a conversation for the number of a seed
Message = dict[str, str]  # role and content, as chat templates have them


@dataclass(frozen=True)
class Talk:
    """system: what comes before the first question, empty for nothing. questions, answers: in turn; the last question may have none."""

    name: str
    system: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]

    def messages(self, questions: int | None = None, answers: int | None = None) -> list[Message]:
        """So many questions and answers, all by default, in the order in which they were said."""
        sides = (self.questions[:questions], self.answers[:answers])
        said = [{"role": "system", "content": self.system}] if self.system else []
        for turn, question in enumerate(sides[0]):
            said.append({"role": "user", "content": question})
            said += [{"role": "assistant", "content": answer} for answer in sides[1][turn : turn + 1]]
        return said

    def to_last_question(self) -> list[Message]:
        """What was said until the last question, which is to be answered."""
        return self.messages(answers=len(self.questions) - 1)


def read(path: Path, where: str, most: int | None = None) -> list[Talk]:
    """The first `most` conversations of a file that have a question (None: all). where: begins messages.

    Raises UserError, one line that says what is wrong and what the form is.
    """
    found: list[Talk] = []
    for number, one in enumerate(_objects(path, where), start=1):
        if most is not None and len(found) >= most:
            break
        talk = _talk(one, f"{where}: conversation {number}")
        if talk.questions:
            found.append(talk)
    if not found:
        raise UserError(f"{where}: no conversation with a question; {FORM}")
    names = [talk.name for talk in found]
    if len(set(names)) == len(names) and all(names):
        return found
    return [Talk(f"talk-{at}", one.system, one.questions, one.answers) for at, one in enumerate(found)]


def _objects(path: Path, where: str) -> Iterator[Any]:
    try:
        refuse_endless(path)
        text = text_in(path.read_bytes())
    except Unreadable as error:
        raise UserError(f"{where}: {error}; {FORM}") from None
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror}); name a file of conversations") from None
    try:
        whole = from_json(text)
        yield from whole if isinstance(whole, list) else [whole]
        return
    except Unreadable as error:
        if text.lstrip().startswith("[") or "\n" not in text.strip():
            raise UserError(f"{where}: {error}; {FORM}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                raise UserError(f"{where}:{number}: not a JSON object; {FORM}") from None


def _talk(one: Any, where: str) -> Talk:
    messages = one.get("conversations") if isinstance(one, dict) else None
    if not isinstance(messages, list):
        told = f"it has {', '.join(one)[:100]}" if isinstance(one, dict) and one else "it is no object"
        raise UserError(f'{where}: no "conversations" ({told}); {FORM}')
    said = []
    for message in messages:
        known = message if isinstance(message, dict) else {}
        role, value = ROLES.get(str(known.get("from"))), known.get("value")
        if role is None or not isinstance(value, str):
            raise UserError(f"{where}: a message is {json.dumps(message)[:100]}; {FORM}")
        if not value.strip():
            break
        said.append((role, value))
    system = [value for role, value in said if role == "system"]
    sides = [(role, "\n\n".join(part[1] for part in parts)) for role, parts in _in_turn(said)]
    if sides and sides[0][0] == "assistant":
        sides = sides[1:]
    questions, answers = sides[::2], sides[1::2]
    return Talk(
        str(one.get("id") or ""),
        "\n\n".join(system),
        tuple(value for _, value in questions),
        tuple(value for _, value in answers),
    )


def _in_turn(said: list[tuple[str, str]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Runs of messages of one side, system prompts left out."""
    spoken = [part for part in said if part[0] != "system"]
    return ((role, [*parts]) for role, parts in groupby(spoken, key=lambda part: part[0]))
