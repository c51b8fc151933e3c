"""How hypothesis looks for counterexamples: fewer, without a deadline; `--hypothesis-profile=thorough` looks longer.

And the order of the tests: what takes longest begins first; and how many run at once.
"""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=1000)
settings.load_profile("quick")


_FILES_THAT_TAKE_LONG = 16


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` is: many tests wait, so that three workers fill two cores; in the end files of a worker each are waited for."""
    return min(_FILES_THAT_TAKE_LONG, max(2, len(os.sched_getaffinity(0)) * 3 // 2))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that drive snakemake come first, those with more of such tests before others, so that short ones fill the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
