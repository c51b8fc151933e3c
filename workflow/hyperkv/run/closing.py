"""What a run says at its end: the files that it really made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

_FIRST = {
    "results/answer.txt": "the answer",
    "results/report/index.html": "the page to read first",
    "results/recommended/README.txt": "what to run",
}
_FEW = 3


def closing_lines(made: Iterable[str], asked: Iterable[str]) -> list[str]:
    """One line with the named results among the files that were made, and one with the others that were asked for, a
    folder of results at a time. What was made on the way is not named."""
    wanted = {str(PurePath(file)) for file in asked}
    files = [file for file in dict.fromkeys(str(PurePath(file)) for file in made) if file in wanted]
    if not files:
        return ["HyperKV is done. Nothing had to be made."]
    named = [f"{what}: {file}" for file, what in _FIRST.items() if file in files]
    folders: dict[str, list[str]] = {}
    for file in files:
        if file not in _FIRST:
            folders.setdefault("/".join(PurePath(file).parts[:2]), []).append(file)
    rest = [
        ", ".join(inside) if len(inside) <= (1 if named else _FEW) else f"{folder} ({len(inside)} files)"
        for folder, inside in sorted(folders.items())
    ]
    lines = [f"HyperKV is done. {_sentence(named)}" if named else f"HyperKV is done. Made: {', '.join(rest)}"]
    return [*lines, f"Made besides: {', '.join(rest)}"] if named and rest else lines


def _sentence(named: list[str]) -> str:
    text = "; ".join(named)
    return text[0].upper() + text[1:]
