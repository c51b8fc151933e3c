"""Reading the files that a config names: whatever is wrong with one is one line that names key and file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .documents import LARGEST, Unreadable, check_values, from_json, from_yaml, refuse_endless, text_in
from .errors import UserError


def read_text(path: Path, key: str, instead: str) -> str:
    """A file's text. instead: what to name when it cannot be had, as in 'config/claims.yaml is one'. Raises UserError."""
    return text_of(path, f"config: {key}:", instead)


def text_of(path: Path, where: str, instead: str) -> str:
    """The same with how the message begins."""
    named = f"{where} {path}".strip()
    try:
        refuse_endless(path)
        return text_in(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{where} there is no file {path}; {instead}".strip()) from None
    except IsADirectoryError:
        raise UserError(f"{named} is a folder; name a file in it: {instead}") from None
    except Unreadable as error:
        raise UserError(f"{named} is {error}; {instead}") from None
    except OSError as error:
        raise UserError(f"{named} cannot be read ({error.strerror}); make it readable") from None


def read_mapping(path: Path, key: str, instead: str) -> dict[str, Any]:
    """A YAML file's mapping, which a key of the config names. Raises UserError as mapping_of."""
    return mapping_of(path, f"config: {key}:", instead)


def mapping_of(path: Path, where: str, instead: str, largest: int = LARGEST) -> dict[str, Any]:
    """The mapping of a YAML file, or by its suffix of a JSON file. where: how messages begin.

    Raises UserError as text_of, and for what is no YAML, empty, no mapping or has a value that documents.py does not let in.
    """
    named = f"{where} {path}".strip()
    try:
        text = text_of(path, where, instead)
        document = from_json(text) if path.suffix == ".json" else from_yaml(text)
    except Unreadable as error:
        raise UserError(f"{named} is {error}; mend that, or: {instead}") from None
    if not isinstance(document, Mapping):
        told = "empty" if document is None else "no mapping of keys"
        raise UserError(f"{named} is {told}; {instead}")
    check_values(document, named, lines=True, largest=largest)
    return dict(document)


def there(folder: Path, suffix: str) -> str:
    """'FOLDER has A, B', for messages: its files with that suffix."""
    return f"{folder} has {', '.join(str(path) for path in sorted(folder.glob(f'*{suffix}')))}"
