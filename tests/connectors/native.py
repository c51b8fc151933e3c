"""The compiled client of connector striped, for the tests that need it."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from workflow.hyperkv.build_striped import compile_library

SOURCE = Path("workflow/hyperkv/connectors/striped.c")


@cache
def _missing() -> str:
    """What a build lacks on this machine, '' when nothing."""
    if shutil.which("cc") is None:
        return "a C compiler (Debian: gcc)"
    probe = ["cc", "-E", "-include", "xxhash.h", "-x", "c", "/dev/null"]
    found = subprocess.run(probe, capture_output=True, timeout=60)
    return "xxhash.h (Debian: libxxhash-dev)" if found.returncode else ""


def compiled_library(folder: Path) -> Path:
    """The library, compiled into `folder`; skips the test where that cannot be done."""
    if missing := _missing():
        pytest.skip(f"client native needs {missing}")
    compile_library(SOURCE, "native", folder / "striped.so")
    return folder / "striped.so"
