"""Rule write_pairs: of each pair of vLLM and LMCache that was tried whether its answers are right, a row per connector.

python -m workflow.hyperkv.tables.pairs --pairs results/pairs/*.jsonl --out results/tables/pairs.csv
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Files
from ..records.frames import Asked, Out, read_jsonl, write_table
from .methods.dictionary import table_of


def main(*, pairs: Files = (), asked: Asked = None, out: Out) -> None:
    """Write the table.

    Args:
        pairs: JSONL files of the pairs that were tried.
    """
    write_table(pairs_table(read_jsonl(pairs, asked)), out)


def pairs_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per record, in order. What is not known is empty."""
    return table_of("pairs", records)


if __name__ == "__main__":
    sys.exit(run_stage("pairs", main))
