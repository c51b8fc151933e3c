"""Stage claims: the verdict on every claim of config/claims.yaml, from the result tables.

python -m workflow.hyperkv.tables.claims --claims config/claims.yaml --spec '{"chunk_tokens": 64}' --tables results/tables/cells.csv ... --records results/sweep/*/*.jsonl --table results/tables/claims.csv --text results/tables/claims.txt
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Files, Spec
from ..records.frames import Asked, write_table
from .judging.claim import RECORDS_OF, number_columns, read_claims
from .judging.verdict_table import claims_table, claims_text, source_of


def main(
    *,
    claims: Path,
    spec: Spec,
    tables: Files = (),
    records: Files = (),
    asked: Asked = None,
    table: Path,
    text: Path,
) -> None:
    """Write the table and the text.

    Args:
        claims: YAML file of claims.
        spec: JSON: {"chunk_tokens": ...}, what `compared` means.
        tables: CSV files, each named as its table.
        records: JSONL files behind the tables.
        table: CSV file for the verdicts.
        text: text file for them.
    """
    found = {path.stem: read_csv(path) for path in tables}
    sources = [source_of(path, asked) for path in records]
    verdicts = claims_table(read_claims(claims), found, sources, spec["chunk_tokens"])
    write_table(verdicts, [table])
    text.write_text(claims_text(verdicts))


def read_csv(path: Path) -> pd.DataFrame:
    """A result table; words such as none stay words. Raises UserError for what is no table that claims may read."""
    if path.stem not in RECORDS_OF:
        raise UserError(f"{path}: there is no table {path.stem}; allowed are {', '.join(RECORDS_OF)}")
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table ({' '.join(str(error).split())}); make it again") from None
    for column in table.columns.intersection(number_columns(path.stem)):
        try:
            table[column] = pd.to_numeric(table[column])
        except ValueError as error:
            raise UserError(f"{path}: column {column} has no numbers ({error}); make it again") from None
    return table


if __name__ == "__main__":
    sys.exit(run_stage("claims", main))
