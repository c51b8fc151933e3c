"""Stage fetch: download one file and check what came.

python -m workflow.hyperkv.fetch --url URL --sha256 HEX --out FILE
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

from .cli import run_stage
from .errors import UserError

_TIMEOUT_S = 60


def main() -> None:
    """Parse the command line and download."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.fetch", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--sha256", required=True, help="64 hex digits")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    fetch(arguments.url, arguments.sha256, arguments.out)


def fetch(url: str, sha256: str, out: Path) -> None:
    """Download `url` to `out`, which appears only when its SHA-256 is right. Raises UserError."""
    partial = out.with_name(out.name + ".partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as source, partial.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (urllib.error.URLError, OSError, ValueError) as error:
        partial.unlink(missing_ok=True)
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot download {url}: {reason}; place the file at {out} yourself to go on"
        ) from error
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        partial.unlink()
        raise UserError(f"{url} has SHA-256 {found}, not {sha256}; it changed or was damaged on the way")
    os.replace(partial, out)


if __name__ == "__main__":
    sys.exit(run_stage("fetch", main))
