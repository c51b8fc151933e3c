"""Stage fetch_trace: download a published trace and check what came.

python -m workflow.hyperkv.workloads.fetch_trace --url URL --sha256 HEX --out FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..base.cli import run_stage
from ..machine.download import fetch


def main() -> None:
    """Parse the command line and download."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.workloads.fetch_trace", description=__doc__
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--sha256", required=True, help="64 hex digits")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    fetch(arguments.url, arguments.sha256, arguments.out)


if __name__ == "__main__":
    sys.exit(run_stage("fetch_trace", main))
