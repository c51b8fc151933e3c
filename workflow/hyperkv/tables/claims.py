"""Stage claims: the verdict on every claim of config/claims.yaml, from the result tables.

python -m workflow.hyperkv.tables.claims --claims config/claims.yaml --spec '{"chunk_tokens": 64}' --tables results/tables/cells.csv ... --records results/sweep/*/*.jsonl --table results/tables/claims.csv --text results/tables/claims.txt
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..records.frames import add_asked
from .judging.claim import RECORDS_OF, number_columns, read_claims
from .judging.verdict_table import claims_table, claims_text, source_of


def main() -> None:
    """Parse the command line and write the table and the text."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.tables.claims", description=__doc__)
    parser.add_argument("--claims", required=True, type=Path, help="YAML file of claims")
    parser.add_argument("--spec", required=True, help='JSON: {"chunk_tokens": ...}, what `compared` means')
    parser.add_argument(
        "--tables", nargs="*", default=[], type=Path, help="CSV files, each named as its table"
    )
    parser.add_argument("--records", nargs="*", default=[], type=Path, help="JSONL files behind the tables")
    parser.add_argument("--table", required=True, type=Path, help="CSV file for the verdicts")
    parser.add_argument("--text", required=True, type=Path, help="text file for them")
    add_asked(parser)
    arguments = parser.parse_args()
    claims = read_claims(arguments.claims)
    tables = {path.stem: read_csv(path) for path in arguments.tables}
    sources = [source_of(path, arguments.asked) for path in arguments.records]
    table = claims_table(claims, tables, sources, json.loads(arguments.spec)["chunk_tokens"])
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.table, index=False)
    arguments.text.write_text(claims_text(table))


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
