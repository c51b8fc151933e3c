"""An environment that is another one but for some packages: a thin one of its own before that on the path."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import UserError
from ..build.build_environment import probe
from ..build.fetch_wheels import run_pip
from ..build.install_striped import install
from ..machine.probe import call

_FOLDERS = "import json, sysconfig; print(json.dumps([sysconfig.get_path('purelib'), sysconfig.get_path('platlib')]))"
_TIMEOUT_S = 120
_NEEDS = ("server", "resp")


@dataclass(frozen=True)
class Made:
    """python: its interpreter. record: the file in which it says what it is. versions: that it imports, None for what it does not.
    lacks: what cannot be imported, with the error."""

    python: str
    record: Path
    versions: dict[str, str | None]
    lacks: dict[str, str]


def make_layer(base: str, pins: Sequence[str], folder: Path) -> Made:
    """A new virtual environment in `folder` with the packages that `pins` name and this checkout's plugin, and all others of `base`.

    base: interpreter. pins: as pip reads them; nothing that they need is installed beside them. Raises UserError when a package
    cannot be had or the environment cannot run.
    """
    looked = call([base, "-c", _FOLDERS], _TIMEOUT_S)
    if looked.status:
        raise UserError(f"{base} does not run: {looked.errors.strip() or f'status {looked.status}'}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "base.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(json.loads(looked.text))))
    python = str(folder.absolute() / "bin" / "python")
    if pins:
        run_pip(python, "install", *pins)
    install(python)
    told = {"python": python, **probe(python, "current", "cpu", _NEEDS)}
    record = folder / "environment.json"
    record.write_text(json.dumps(told, indent=1) + "\n")
    return Made(python, record, told["versions"], told["errors"])
