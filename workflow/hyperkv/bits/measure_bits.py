"""Stage bits: what each format of stored KV takes in bytes and seconds, and how a real model goes on from it. Runs in the engine's environment.

    python -m workflow.hyperkv.bits.measure_bits --spec '{...}' --out results/bits/bits.jsonl

spec: model (config.json), model_dir (folder of weights, or null: KV is random, and quality is not known), device (cuda or cpu),
environment (vLLM's variables), conversations, answer_tokens. Seconds are from host memory to host memory, as LMCache's server has it,
a chunk of 256 tokens at a time; without a GPU they are of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.errors import UserError
from ..cells.point import common_fields
from ..records.identity import BY_HAND, identity_of
from ..records.journal import Journal


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.bits.measure_bits", description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads)
    parser.add_argument("--code", default=BY_HAND)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    spec: dict[str, Any] = arguments.spec
    with tempfile.TemporaryDirectory() as caches:
        os.environ |= spec["environment"] | {"NUMBA_CACHE_DIR": caches}
        try:
            from .trial import trials
        except ImportError as error:
            raise UserError(f"formats need the engine's environment ({error})") from error
        journal = Journal(arguments.out, identity_of(spec, arguments.code))
        keys = []
        for record in trials(spec, journal.has):
            keys.append(record if isinstance(record, str) else record.format)
            if isinstance(record, str):
                continue
            journal.append(record.format, record.dump())
            print(f"hyperkv bits: {record.format}: {record.reason or 'measured'}", flush=True)
    journal.finish(keys, common_fields(spec, Path(".")))


if __name__ == "__main__":
    sys.exit(run_stage("bits", main, resumes=True))
