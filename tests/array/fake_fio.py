"""A fio on PATH that makes its file and prints what the real one once did; it lists its calls beside itself."""

import sys
from pathlib import Path

from tests.array.machines import RECORDED

_SCRIPT = """#!{python}
import pathlib, sys
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
with open({calls!r}, "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
file = pathlib.Path(options["filename"])
if "runtime" in options:
    assert file.exists(), "no layout"
else:
    file.touch()
name = {{"write": "fio-randwrite", "randwrite": "fio-randwrite"}}.get(options["rw"], "fio-read")
print((pathlib.Path({recorded!r}) / (name + ".json")).read_text())
"""


def write_fio(folder: Path, script: str | None = None) -> Path:
    """Write the program: the file in which it lists its calls. script: another shell script instead."""
    folder.mkdir(parents=True, exist_ok=True)
    calls = folder / "calls"
    text = f"#!/bin/sh\n{script}\n" if script else None
    (folder / "fio").write_text(
        text or _SCRIPT.format(python=sys.executable, calls=str(calls), recorded=str(RECORDED))
    )
    (folder / "fio").chmod(0o755)
    return calls
