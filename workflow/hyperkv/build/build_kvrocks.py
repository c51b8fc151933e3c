"""Stage build_kvrocks: put a Kvrocks program, compiled or found, where the workflow looks for it.

python -m workflow.hyperkv.build.build_kvrocks (--compiled FILE | --spec JSON) --out FILE --record FILE
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.digests import sha256_of
from .kvrocks_program import install_program, link_program


def main() -> None:
    """Parse the command line and install."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.build.build_kvrocks", description=__doc__
    )
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--compiled", type=Path, help="program to copy, its record beside it")
    origin.add_argument("--spec", type=json.loads, help="source and program: the program to link")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--record", required=True, type=Path)
    arguments = parser.parse_args()
    if arguments.compiled:
        install_program(arguments.compiled, arguments.out, arguments.record)
    else:
        spec = arguments.spec
        patched = spec.get("patched", False)
        link_program(spec["program"], arguments.out, arguments.record, spec["source"], patched)


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
