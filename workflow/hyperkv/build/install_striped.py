"""Stage install_striped: see to it that the environment of vLLM and LMCache has this checkout's plugin, package lmcache-striped.

    python -m workflow.hyperkv.build.install_striped --environment results/build/current/current.json --made \\
        --out results/build/current/striped.json

An environment that was there already is looked at and stays as it is.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.sources import same_code
from ..machine.probe import call
from .fetch_wheels import run_pip

PLUGIN = Path("workflow/plugin")
_PACKAGE = PLUGIN / "lmcache_striped"
_NEEDED_BY = "connectors striped, striped_mp, striped_tier, direct and direct_mp"
_TIMEOUT_S = 600
_LOOK = """
import json
from importlib.metadata import version
import lmcache_striped, lmcache_striped.l2, lmcache_striped.remote
print(json.dumps({"version": version("lmcache-striped"), "folder": lmcache_striped.__path__[0]}))
"""


def main(*, environment: Path, made: bool = False, out: Path) -> None:
    """Install, look, and write the record.

    Args:
        environment: record of build_environment.
        made: it was made here, so the plugin is installed.
        out: JSON record to write.
    """
    python = json.loads(environment.read_text())["python"]
    if made:
        install(python)
    remedy = (
        "add numpy and xxhash to its requirements" if made else f"`{python} -m pip install ./{PLUGIN}` does"
    )
    record = {"python": python, **look(python, remedy)}
    out.write_text(json.dumps(record, indent=1) + "\n")


def install(python: str) -> None:
    """Build the plugin's wheel with this environment's setuptools, and install it there. Raises UserError."""
    with tempfile.TemporaryDirectory() as folder:
        source = shutil.copytree(PLUGIN, Path(folder, "plugin"))
        run_pip(sys.executable, "wheel", "--no-index", "--no-build-isolation", "-w", folder, str(source))
        (wheel,) = Path(folder).glob("*.whl")
        run_pip(python, "install", "--no-index", "--force-reinstall", str(wheel))


def look(python: str, remedy: str) -> dict[str, str]:
    """The version that `python` imports, and where from. Raises UserError when it is not this checkout's; remedy: what mends that."""
    looked = call([python, "-c", _LOOK], _TIMEOUT_S)
    if looked.status:
        said = looked.errors.strip().splitlines() or [f"status {looked.status}"]
        raise UserError(
            f"{_NEEDED_BY} need lmcache-striped, which {python} cannot import ({said[-1]}); {remedy}"
        )
    found: dict[str, str] = json.loads(looked.text.strip().splitlines()[-1])
    for path in sorted(_PACKAGE.glob("*.*")):
        there = Path(found["folder"], path.name)
        if not there.exists() or not same_code(path, there):
            raise UserError(
                f"lmcache-striped {found['version']} in {found['folder']} is not this checkout's ({path.name}); {remedy}"
            )
    return found


if __name__ == "__main__":
    sys.exit(run_stage("install_striped", main))
