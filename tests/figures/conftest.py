"""Figures of a test know the stores, and are closed after it."""

import matplotlib.pyplot as plt
import pytest

from workflow.hyperkv.figures import looks
from workflow.hyperkv.stores import registry


@pytest.fixture(autouse=True)
def figures():
    looks.know(registry.looks())
    yield
    plt.close("all")
