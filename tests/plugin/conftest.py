"""What the plugin's tests run on."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.native import compiled_library


@pytest.fixture(scope="session", autouse=True)
def importable() -> Iterator[None]:
    """LMCache and vLLM import the plugin by the name that an installed package has."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "workflow/plugin"))
    yield
    sys.path.pop(0)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, as LMCache has one."""
    one = asyncio.new_event_loop()
    thread = threading.Thread(target=one.run_forever)
    thread.start()
    yield one
    one.call_soon_threadsafe(one.stop)
    thread.join(10)
    one.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """Connector striped's compiled client; skips where there is no compiler."""
    return compiled_library(tmp_path_factory.mktemp("library"))
