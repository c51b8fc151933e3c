"""Stage build_kvrocks: put a Kvrocks program, compiled or found, where the workflow looks for it.

python -m workflow.hyperkv.build.build_kvrocks (--compiled FILE | --spec JSON) --out FILE --record FILE
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.digests import sha256_of
from ..base.errors import UserError
from ..base.options import Spec
from .kvrocks_program import install_program, link_program


def main(*, compiled: Path | None = None, spec: Spec | None = None, out: Path, record: Path) -> None:
    """Install the program.

    Args:
        compiled: program to copy, its record beside it.
        spec: JSON: source and program: the program to link.
    """
    if (compiled is None) == (spec is None):
        raise UserError("give one of --compiled and --spec")
    if compiled is not None:
        install_program(compiled, out, record)
    elif spec is not None:
        link_program(spec["program"], out, record, spec["source"], spec.get("patched", False))


def link_spec(kvrocks: Mapping[str, Any], source: str, binary: str | None, patched: bool = False) -> str:
    """JSON of what linking depends on: for source binary the program's contents too, so that an upgrade is noticed.

    kvrocks: the config section. binary: the program that was found, if any. patched: for the patched program.
    """
    if source == "conda" and not patched:
        return json.dumps({"program": "kvrocks", "source": source}, sort_keys=True)
    program = str(binary or kvrocks["patched_binary" if patched else "binary"] or "kvrocks")
    found = shutil.which(program)
    sha256 = sha256_of(Path(found)) if found else None
    spec = {"program": program, "sha256": sha256, "source": source} | ({"patched": True} if patched else {})
    return json.dumps(spec, sort_keys=True)


if __name__ == "__main__":
    sys.exit(run_stage("build_kvrocks", main))
