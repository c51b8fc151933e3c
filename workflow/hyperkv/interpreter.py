"""Which Python the rules run."""

from __future__ import annotations

import os
import sys


def put_own_python_first() -> None:
    """Let `python` in rules be the one that runs Snakemake, whether or not its environment was activated.

    A conda environment of a rule is activated later and comes before it.
    """
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
