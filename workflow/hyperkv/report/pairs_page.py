"""What docs/pairs.md shows of the newest kept trial of pairs of vLLM and LMCache: a row per pair and connector.

python -m workflow.hyperkv.report.pairs_page
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.errors import UserError
from ..records.frames import read_jsonl
from .front import write_between

KEPT, PAGE = Path("results/reference/pairs"), Path("docs/pairs.md")
_HEAD = "| pair | connector, store | verdict | answers alike | tokens found | bytes served | why | day |"


def main(*, kept: Path = KEPT, page: Path = PAGE) -> None:
    """Write the table between the two comments of the page.

    Args:
        kept: folder with a folder for each trial that is kept, with records.jsonl.
        page: the file.
    """
    found = table(newest(kept))
    write_between(page, "pairs", found)


def newest(kept: Path) -> list[dict[str, Any]]:
    """The records of the newest trial. Raises UserError when there is none."""
    if not (files := sorted(kept.glob("*/records.jsonl"))):
        raise UserError(f"{kept}: there is no folder with records.jsonl; copy results/pairs/*.jsonl there")
    return read_jsonl(files[-1:])


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """A table in Markdown, in the order of the records; a pair of whose connectors the same is to be said has one row."""
    lines = [_HEAD, "|" + "---|" * (_HEAD.count("|") - 1)]
    for _, found in groupby(records, lambda record: record["pair"]):
        rows = list(found)
        alone = len(rows) > 1 and len({(row["verdict"], row["reason"]) for row in rows}) == 1
        lines += [_line(rows[0], "all")] if alone else [_line(row, _connector(row)) for row in rows]
    return "\n".join([*lines, ""])


def _connector(record: Mapping[str, Any]) -> str:
    named = f"`{record['connector']}`, {record['store']}" if record["connector"] else "none"
    return named + (f", values {record['damage']}" if record["damage"] else "")


def _line(record: Mapping[str, Any], connector: str) -> str:
    alike, hits, served = (record[name] for name in ("alike", "hit_tokens", "served_bytes"))
    cells = [
        record["pair"],
        connector,
        record["verdict"],
        "" if alike is None else f"{alike} of {record['prompts']}",
        "" if hits is None else f"{hits:,} of {record['prompt_tokens']:,}",
        "" if served is None else f"{served:,}",
        record["reason"].partition("; the whole log: ")[0].replace("|", "\\|"),
        record["measured_at"][:10],
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(run_stage("pairs_page", main))
