"""Stage fetch_trace: download a published trace and check what came.

python -m workflow.hyperkv.workloads.fetch_trace --url URL --sha256 HEX --out FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..base.cli import run_stage
from ..machine.download import fetch


def main(*, url: str, sha256: str, out: Path) -> None:
    """Download the trace.

    Args:
        sha256: 64 hex digits.
    """
    fetch(url, sha256, out)


if __name__ == "__main__":
    sys.exit(run_stage("fetch_trace", main))
