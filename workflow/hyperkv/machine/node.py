"""The machine that a job runs on: its name, and where the stores' files lie on it."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from pathlib import Path

from ..base.errors import UserError, printable
from ..base.folders import check_folder
from ..base.surroundings import has_home
from .place import place_of

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def node_name() -> str:
    """This machine's name, without its domain."""
    return printable(socket.gethostname().partition(".")[0])


def expanded(text: str) -> Path:
    """A folder of the configuration with environment variables replaced by this machine's values.

    TMPDIR is always known: the folder for temporary files. Raises UserError naming a variable that is not set here, or whose
    value has what no text of the configuration may have: lines and words of files are made of it.
    """
    known = {"TMPDIR": tempfile.gettempdir(), **os.environ}
    known |= {} if has_home() else {"HOME": ""}

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not known.get(name):
            raise UserError(
                f"data_dir: {text}: ${name} is not set on {node_name()}; set it there, or write the path out"
            )
        if not known[name].isprintable():
            raise UserError(
                f"data_dir: {text}: ${name} has a line break or another control character on {node_name()}; set it to "
                f"another folder there"
            )
        return known[name]

    return Path(_VARIABLE.sub(value, text))


def data_dir_of(text: str) -> Path:
    """`expanded`, and the folder that holds it must be there: what is not mounted here is not made on another disk.

    Raises UserError.
    """
    folder = expanded(text)
    if text.startswith("$") and not folder.is_absolute():
        raise UserError(
            f"data_dir: {text}: it is {folder} on {node_name()}, below whatever folder is the current one; set the variable to an "
            f"absolute path there, or write the path out"
        )
    if folder.is_absolute() and not folder.parent.is_dir():
        raise UserError(
            f"data_dir: {folder}: there is no folder {folder.parent} on {node_name()}; mount or make it there, or choose "
            f"another data_dir"
        )
    return folder


def where_files_go(text: str, submitted: bool, on_array: bool = False) -> str:
    """What a run says of data_dir before it measures.

    submitted: other machines measure, which are not seen here. on_array: each job verifies the array that it is on.

    Raises UserError when this machine measures and does not have it, or cannot write there.
    """
    if not submitted:
        folder = expanded(text) if on_array else data_dir_of(text)
        if not on_array:
            check_folder(folder, "data_dir")
        return f"{folder}: {place_of(folder).note()}"
    if Path(text).is_absolute() or text.startswith("$"):
        return f"{text} on the node that measures"
    return (
        f"{text} below this folder, so to the file system that all nodes share; set data_dir to a folder of the nodes' own "
        f"disk, such as $TMPDIR/hyperkv"
    )
