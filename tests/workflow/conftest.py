"""What several files of this folder take from one complete run, and stand-ins for schedulers."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow_helpers import Checkout

# Every Python process of a run writes down what it imported of the package.
TELLS_IMPORTS = """
import atexit, json, os, sys
from pathlib import Path

def tell():
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name.startswith("workflow.hyperkv."):
        ours = ("workflow.hyperkv", "workflow.plugin.lmcache_striped")
        found = [name for name in sys.modules if name.startswith(ours)]
        told = {"main": spec.name, "argv": sys.argv[1:], "imported": found}
        Path(__file__).with_name(f"{os.getpid()}-{spec.name}.json").write_text(json.dumps(told))

atexit.register(tell)
"""


@pytest.fixture(scope="session")
def complete(tmp_path_factory) -> tuple[Checkout, str]:
    """A checkout after a complete run, and what that run printed; one for all of xdist's workers. Not to be changed."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "complete"
    checkout, said = Checkout(folder / "checkout"), folder / "said"
    with (shared / "complete.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            imports = folder / "imports"
            imports.mkdir(parents=True)  # which fails where another worker's run did
            (imports / "sitecustomize.py").write_text(TELLS_IMPORTS)
            checkout = Checkout.new(checkout.folder)
            checkout.python_path = str(imports)
            status, output = checkout.snakemake()
            checkout.python_path = ""
            assert status == 0, output
            said.write_text(output)
    return checkout, said.read_text()


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Puts a program of this folder on PATH under some names; the folder of its state, which it knows by a variable."""

    def put(program: str, variable: str, *names: str) -> Path:
        programs, state = tmp_path / "programs", tmp_path / "state"
        for folder in (programs, state, tmp_path / "disk"):
            folder.mkdir()
        for name in names:
            (programs / name).symlink_to(Path(__file__).with_name(program))
        monkeypatch.setenv(variable, str(state))
        monkeypatch.setenv("PATH", str(programs), prepend=":")
        return state

    return put
