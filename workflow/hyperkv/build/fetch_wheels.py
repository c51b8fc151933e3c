"""Get the pinned packages of one environment as wheels in a tar, which the build installs from without a network.

    python -m workflow.hyperkv.build.fetch_wheels --requirements envs/loadgen.txt --out results/build/loadgen/wheels.tar

What has no wheel is built here. `make pack` carries the tar to a machine without internet, and Snakemake's between-workflow
cache can keep it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ..base.cli import run_stage
from ..base.durable import appearing
from ..base.errors import UserError, printable


def main(*, requirements: Path, index: str | None = None, out: Path) -> None:
    """Download the packages.

    Args:
        requirements: pinned packages, dependencies included.
        index: one more package index.
        out: the tar to write.
    """
    fetch(requirements, index, out)


def fetch(requirements: Path, index: str | None, out: Path) -> None:
    """Get every package of `requirements` (none beside them) as a wheel for this Python. Raises UserError with pip's cause."""
    if not requirements.exists():
        raise UserError(
            f"there is no file {requirements}; name pinned packages in vllm.pairs.PAIR.requirements or loadgen.requirements"
        )
    with appearing(out) as partial, tempfile.TemporaryDirectory(dir=out.parent) as folder:
        more = ["--extra-index-url", index] if index else []
        run_pip(sys.executable, "wheel", "--wheel-dir", folder, "--requirement", str(requirements), *more)
        with tarfile.open(partial, "w") as archive:
            for wheel in sorted(Path(folder).iterdir()):
                archive.add(wheel, wheel.name)


def run_pip(python: str, verb: str, *options: str) -> None:
    """Run an interpreter's pip, without dependencies. Raises UserError: one line with its cause."""
    argv = [python, "-m", "pip", verb, "--quiet", "--no-deps", "--disable-pip-version-check", *options]
    done = subprocess.run(argv, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.writelines(f"{printable(line)}\n" for line in done.stderr.splitlines())
    if done.returncode:
        errors = [
            line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR:")
        ]
        why = next(
            (error for error in reversed(errors) if not error.startswith("ResolutionImpossible")),
            "see the log",
        )
        do = "get" if verb == "wheel" else verb
        raise UserError(f"pip could not {do} the packages: {why}{_hint(errors)}")


def _hint(errors: list[str]) -> str:
    if os.environ.get("PIP_NO_INDEX") and any("No matching distribution" in error for error in errors):
        return f"; PIP_NO_INDEX is set, so that pip looks into {os.environ.get('PIP_FIND_LINKS') or 'no folder'} alone: make the pack again with this configuration and code (docs/gpu-box.md)"
    if any("torch" in error and "No matching distribution" in error for error in errors):
        return "; PyTorch's build for this device may be on PyTorch's own index: write --extra-index-url URL into the file that vllm.pairs.PAIR.requirements names, or set PIP_EXTRA_INDEX_URL"
    return ""


if __name__ == "__main__":
    sys.exit(run_stage("fetch_wheels", main))
