"""What a run takes from its surroundings: which Python runs, what it imports, and whether builds are shared."""

from __future__ import annotations

import os
import sys


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
