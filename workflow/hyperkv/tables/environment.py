"""Rule write_environment: the different environments that the sweep's records come from.

python -m workflow.hyperkv.tables.environment --cells results/sweep/*/*.jsonl --out results/tables/environment.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..base.cli import run_stage
from ..records.frames import add_cells, read_cells
from ..records.hardware import unique_environments


def main() -> None:
    """Parse the command line and write the list."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.tables.environment", description=__doc__
    )
    add_cells(parser)
    parser.add_argument("--out", required=True, type=Path, help="JSON file")
    arguments = parser.parse_args()
    environments = unique_environments(read_cells(arguments))
    arguments.out.write_text(json.dumps(environments, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_stage("environment", main))
