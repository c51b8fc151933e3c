"""One cluster for all tests of Slurm."""

import contextlib
from collections.abc import Iterator

import pytest

from .cluster import Cluster, Unavailable, started


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Slurm of this machine alone, which has the names of two nodes."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(started())
        except Unavailable as why:
            pytest.skip(str(why))
