"""One line for what the models refuse: the key, what is there, what is allowed, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..base.documents import shown
from ..base.errors import UserError
from .models.config import REMOVED
from .models.faults import FAULT, WRONG
from .schema import allowed, alternatives, rules_at, unit_of, words_of

_LONGEST_SHOWN = 300
M = TypeVar("M", bound=BaseModel)
Path = tuple[str | int, ...]


def validated(model: type[M], document: Any, where: str = "config") -> M:
    """The document as the model. Raises UserError, a line that begins with `where`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        mistakes = _mistakes(error, model, document)
        raise UserError(min(mistakes, key=lambda mistake: len(mistake.path)).line(where)) from None


@dataclass(frozen=True)
class _Mistake:
    """What is wrong at one place of a document: pydantic's kind of error, its words, and the value as it was written."""

    path: Path
    kind: str
    told: str
    value: Any
    context: Mapping[str, Any]
    model: type[BaseModel]
    document: Any

    def line(self, where: str) -> str:
        at = ".".join(map(str, filter(None, (*map(str, self.path), self.context.get("key")))))
        if self.kind in ("missing", "union_tag_not_found"):
            return f"{where}: {at} is missing"
        if self.kind == "extra_forbidden":
            owner, name = ("", *map(str, self.path))[-2:]
            if told := REMOVED.get(f"{owner}.{name}") or REMOVED.get(f"*.{name}"):
                return f"{where}: {at} is not a key any more; {told}"
            return f"{where}: {at} is not a key; {self._keys()}"
        if self.kind == FAULT:
            return f"{where}: {at}: {self.told}"
        must = self.told if self.kind == WRONG else must_be(self.model, self.path, self.kind == "name")
        value = shown(self.value)
        short = value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}..."
        return f"{where}: {at}: {short} is wrong; {must}{self._quoting()}"

    def _keys(self) -> str:
        """What may be there instead, of the alternatives those of the document's kind."""
        there = _at(self.document, self.path[:-1])
        known: dict[str, None] = {}
        for rules in rules_at(self.model, self.path[:-1]):
            for choice in alternatives(rules, self.model):
                keys = choice.get("properties", {})
                if all(rule.get("const", there.get(name)) == there.get(name) for name, rule in keys.items()):
                    known |= dict.fromkeys(keys)
        return f"{did_you_mean(str(self.path[-1]), known)}allowed are {', '.join(known)}"

    def _quoting(self) -> str:
        """'; write "yes"' where quotes make the value right, with why; else ''."""
        return quoting(self.value, lambda text: _is_right(text, self))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'did you mean files? ' of 'fils', '' where nothing is near."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]}? " if close else ""


def quoting(value: Any, is_right: Any) -> str:
    """'; write "yes"' where the text that YAML took for something else is right, with why; else ''."""
    if isinstance(value, bool):
        text, why = (
            ("yes" if value else "no"),
            "YAML reads yes, no, on and off without quotes as true and false",
        )
    elif value is None or isinstance(value, str | list | Mapping):
        return ""
    else:
        text, why = str(value), "text that looks like a number or a date needs quotes"
    return f'; {why}: write "{text}"' if is_right(text) else ""


def must_be(model: type[BaseModel], path: Path, names: bool = False) -> str:
    """What the value at a path of a model must be, in words; names: those of a mapping there."""
    rules, *others = rules_at(model, path)
    if "const" in rules and others:
        rules = {"enum": [choice["const"] for choice in (rules, *others)]}
    if names:
        [pattern] = rules["patternProperties"]
        longest = rules.get("propertyNames", {}).get("maxLength")
        return f"it must be text{f' of at most {longest} characters' if longest else ''} like {pattern}"
    if (words := words_of(rules)) is not None:
        return f"allowed are {', '.join(words)}"
    unit = unit_of(rules)
    return f"it must be {allowed(rules, model)}{f' (unit: {unit})' if unit else ''}"


def _mistakes(error: ValidationError, model: type[BaseModel], document: Any) -> list[_Mistake]:
    return [_mistake(entry, model, document) for entry in error.errors(include_url=False)]


def _mistake(entry: Mapping[str, Any], model: type[BaseModel], document: Any) -> _Mistake:
    """The error of pydantic, whose location has its own names of alternatives among the document's keys."""
    location, kind, context = entry["loc"], entry["type"], entry.get("ctx", {})
    at_key = kind in ("missing", "extra_forbidden")
    names = location[-1:] == ("[key]",)
    value, path, alternative = document, [], False
    for part in location[: len(location) - (2 if names else 1 if at_key else 0)]:
        if isinstance(value, Mapping) and value.get("kind") == part and not alternative:
            alternative = True  # kind trace has a key of that name
            continue
        alternative = False
        if (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list) and isinstance(part, int)
        ):
            path.append(part)
            value = value[part]
    if at_key:
        path.append(location[-1])
    elif kind.startswith("union_tag"):
        path.append(context["discriminator"].strip("'"))
        value = value.get(path[-1]) if isinstance(value, Mapping) else None
    if names:
        kind, value = "name", location[-2]
    return _Mistake(tuple(path), kind, entry["msg"], value, context, model, document)


def _at(document: Any, path: Path) -> Any:
    for part in path:
        document = document[part]
    return document


def _is_right(text: str, mistake: _Mistake) -> bool:
    """Whether a text would be right where a mistake is."""
    document = _replaced(mistake.document, mistake.path, text)
    try:
        mistake.model.model_validate(document)
    except ValidationError as error:
        return mistake.path not in [found.path for found in _mistakes(error, mistake.model, document)]
    return True


def _replaced(document: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    part, *rest = path
    found: Any = list(document) if isinstance(document, list) else dict(document)
    found[part] = _replaced(found[part], tuple(rest), value)
    return found
