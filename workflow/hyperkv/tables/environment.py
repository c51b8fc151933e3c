"""Rule write_environment: the different environments that the sweep's records come from.

python -m workflow.hyperkv.tables.environment --cells results/sweep/*/*.jsonl --out results/tables/environment.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..base.cli import run_stage
from ..records.frames import Asked, Cells, read_cells
from ..records.hardware import unique_environments


def main(*, cells: Cells, asked: Asked = None, out: Path) -> None:
    """Write the list.

    Args:
        out: JSON file.
    """
    environments = unique_environments(read_cells(cells, asked))
    out.write_text(json.dumps(environments, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_stage("environment", main))
