"""How hypothesis looks for counterexamples: fewer, without a deadline; `--hypothesis-profile=thorough` looks longer.

And the order of the tests: what takes longest begins first.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=1000)
settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that drive snakemake come first, those with more of such tests before others, so that short ones fill the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
