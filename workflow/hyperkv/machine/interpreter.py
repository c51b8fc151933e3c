"""What a run takes from its surroundings: Python and what it imports, the builds' shared cache, a scheduler."""

from __future__ import annotations

import os
import shutil
import sys

from ..base.errors import UserError


def put_own_python_first() -> None:
    """Let `python` in rules be the one that runs Snakemake, whether or not its environment was activated.

    A conda environment of a rule is activated later and comes before it.
    """
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]


def import_path() -> str:
    """PYTHONPATH with which another environment's interpreter finds this package: the repository's root first."""
    return os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))


def output_cache_is_set() -> bool:
    """Whether Snakemake's between-workflow cache has a place, so that a build may be taken from it (--cache)."""
    return bool(os.environ.get("SNAKEMAKE_OUTPUT_CACHE"))


def require_scheduler(executor: str) -> None:
    """Raises UserError when jobs are to go to Slurm and this machine knows none. executor: the name of Snakemake's."""
    if executor == "slurm" and shutil.which("sbatch") is None:
        raise UserError(
            "executor slurm: there is no sbatch on PATH; run this on a login node of the cluster, or leave the profile out"
        )
