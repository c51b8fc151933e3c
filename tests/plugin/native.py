"""The compiled client of connector striped, for the tests that need it."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from workflow.hyperkv.build.build_striped import compile_library

SOURCE = Path("workflow/plugin/lmcache_striped/native.c")


@cache
def missing() -> str:
    """What a build lacks on this machine, '' when nothing."""
    if shutil.which("cc") is None:
        return "a C compiler (Debian: gcc)"
    probe = ["cc", "-E", "-include", "xxhash.h", "-x", "c", "/dev/null"]
    found = subprocess.run(probe, capture_output=True, timeout=60)
    return "xxhash.h (Debian: libxxhash-dev)" if found.returncode else ""


def compiled_library(folder: Path) -> Path:
    """The library, compiled into `folder`; skips the test where that cannot be done."""
    if lacking := missing():
        pytest.skip(f"client native needs {lacking}")
    compile_library(SOURCE, "native", folder / "striped.so")
    return folder / "striped.so"


SANITIZED = ("-std=gnu11 -O1 -g -fsanitize=address,undefined", "-fno-sanitize-recover=all -shared -fPIC")


def sanitized_run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the library compiled under the address and undefined-behaviour sanitizers, its path in argv[1].

    Skips the test where the compiler has none.
    """
    if lacking := missing():
        pytest.skip(f"client native needs {lacking}")
    library = folder / "sanitized.so"
    built = subprocess.run(
        ["cc", *" ".join(SANITIZED).split(), "-o", str(library), str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    runtime = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if built.returncode or not os.path.isabs(runtime):
        pytest.skip("the compiler has no sanitizers")
    return subprocess.run(
        [sys.executable, "-c", script, str(library), *arguments],
        env={**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        timeout=120,
    )
