"""Stage build_striped: compile what connector striped's client `native` loads with.

python -m workflow.hyperkv.build.build_striped --source FILE.c --march native --out FILE.so

The compiler is $CC, else `cc`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ..base.cli import run_stage
from ..base.durable import appearing
from ..base.errors import UserError
from ..machine.probe import call

_OTHERWISE = "install it, or choose client python"
_TIMEOUT_S = 120


def main(*, source: Path, march: str = "native", out: Path) -> None:
    """Compile the library.

    Args:
        march: instruction set, as gcc names it.
    """
    compile_library(source, march, out)


def compile_library(source: Path, march: str, out: Path) -> None:
    """Compile `source` into the shared library `out`, which appears only when it is whole. Raises UserError."""
    if shutil.which(compiler()) is None:
        raise UserError(f"there is no C compiler {compiler()} (Debian: gcc; conda: gcc); {_OTHERWISE}")
    options = ["-std=gnu11", "-O3", f"-march={march}", "-Wall", "-Wextra", "-shared", "-fPIC"]
    with appearing(out) as partial:
        compiled = call([compiler(), *options, "-o", str(partial), str(source)], _TIMEOUT_S)
        print(compiled.errors, end="", file=sys.stderr)
        if compiled.status:
            raise UserError(_reason(compiled.errors, source))


def compiler() -> str:
    """The C compiler: $CC, else cc."""
    return os.environ.get("CC") or "cc"


def _reason(said: str, source: Path) -> str:
    lines = [line for line in said.splitlines() if "error" in line] or ["the compiler said nothing"]
    if any("xxhash.h" in line for line in lines):
        return f"{source} needs xxhash.h (Debian: libxxhash-dev; conda: xxhash); {_OTHERWISE}"
    return f"{source} did not compile: {lines[0]}; choose client python"


if __name__ == "__main__":
    sys.exit(run_stage("build_striped", main))
