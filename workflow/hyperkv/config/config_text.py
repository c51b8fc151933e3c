"""Whether the files of a configuration can be read at all, told in one line with file and line before Snakemake reads them.

python -m workflow.hyperkv.config.config_text config/config.yaml my.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.config_files import text_of
from ..base.documents import Unreadable, check_values, from_json, from_yaml
from ..base.errors import UserError

_INSTEAD = "name a file of keys, such as config/smoke.yaml"
_EMPTY = "there is nothing in it; write keys, such as kv_dtype: auto, or leave the file out"


def main() -> None:
    """Check the files that the command line names."""
    require_readable(sys.argv[1:])


def require_readable(files: Iterable[str | Path]) -> None:
    """Raises UserError for the first file that is no mapping of keys in YAML or JSON, each key once."""
    for file in files:
        path = Path(file)
        text = text_of(path, "config:", _INSTEAD)
        try:
            document = _document(text)
            if not isinstance(document, Mapping):
                raise Unreadable(_EMPTY if document is None else _no_keys(document), 1)
        except Unreadable as error:
            raise UserError(f"config: {path}: {error.told}") from None
        check_values(document, f"config: {path}", lines=True)


def _no_keys(document: Any) -> str:
    what = "a list" if isinstance(document, list) else f"{document!r:.40}"
    return f"it has {what} at the top, where keys belong; write KEY: VALUE, such as kv_dtype: auto"


def _document(text: str) -> Any:
    """Of JSON, which Snakemake tries first and in which tabs may indent, or of YAML. Raises Unreadable."""
    try:
        from_json(text)
    except Unreadable:
        return from_yaml(text)
    return from_yaml(text.replace("\t", " "))


if __name__ == "__main__":
    sys.exit(run_stage("read_config", main))
