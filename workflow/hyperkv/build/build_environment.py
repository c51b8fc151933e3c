"""Make the environment of vLLM and LMCache, or of AIPerf, and prove that it can do what is asked of it.

    python -m workflow.hyperkv.build.build_environment --kind engine --device cuda --requirements envs/engine-cuda.txt \\
        --wheels results/build/engine/wheels.tar --venv results/build/engine/venv --out results/build/engine/engine.json
    python -m workflow.hyperkv.build.build_environment --kind engine --device cuda --python /opt/vllm/bin/python --out ...

The record has the versions that are imported, torch's CUDA, and whether LMCache's native RESP client is there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Words
from ..base.surroundings import past_proxies
from ..machine.interpreter import import_path
from .fetch_wheels import run_pip

_PREFLIGHT_TIMEOUT_S = 600


def main(
    *,
    kind: Literal["engine", "loadgen"],
    device: Literal["cuda", "cpu"] = "cuda",
    needs: Words = (),
    python: str | None = None,
    requirements: Path | None = None,
    wheels: Path | None = None,
    venv: Path | None = None,
    out: Path,
) -> None:
    """Install, probe, and write the record.

    Args:
        kind: what it is for.
        device: what vLLM runs on.
        needs: what must be there: lmcache, resp.
        python: interpreter of an environment that is there; nothing is installed.
        requirements: pinned packages.
        wheels: tar of fetch_wheels.
        venv: the folder to make.
        out: JSON record to write.
    """
    if python is None:
        if requirements is None or wheels is None or venv is None:
            raise UserError("give --python, or --requirements, --wheels and --venv")
        python = install(requirements, wheels, venv)
    elif shutil.which(python) is None:
        section = "vllm" if kind == "engine" else "loadgen"
        raise UserError(f"{section}.python: there is no program {python}; leave it null to have one made")
    record = {"python": python, **probe(python, kind)}
    refuse(record, kind, device, needs)
    text = json.dumps(record, indent=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n")
    print(text)


def install(requirements: Path, wheels: Path, venv: Path) -> str:
    """A new virtual environment from the wheels alone; returns its interpreter. Raises UserError."""
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    with tempfile.TemporaryDirectory(dir=venv.parent) as folder, tarfile.open(wheels) as archive:
        archive.extractall(folder, filter="data")
        run_pip(python, "install", "--no-index", "--find-links", folder, "--requirement", str(requirements))
    return python


def probe(python: str, kind: str) -> dict[str, Any]:
    """What the environment's own interpreter says of itself (preflight.py). Raises UserError when it cannot run."""
    environment = os.environ | past_proxies(os.environ) | {"PYTHONPATH": import_path()}
    argv = [python, "-m", "workflow.hyperkv.build.preflight", kind]
    done = subprocess.run(
        argv,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        timeout=_PREFLIGHT_TIMEOUT_S,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise UserError(f"{python} cannot run the preflight (status {done.returncode}); see the log")
    return json.loads(lines[-1])


def refuse(record: dict[str, Any], kind: str, device: str, needs: Sequence[str]) -> None:
    """Raise UserError, one line, for what is missing in an environment that was probed.

    needs: lmcache and resp (its native RESP client), as the scenarios use them.
    """
    errors, python = record["errors"], record["python"]
    torch, lmcache = (record["versions"].get(name) for name in ("torch", "lmcache"))
    wanted = ["aiperf"] if kind == "loadgen" else ["torch", "vllm", *(["lmcache"] if needs else [])]
    for name in wanted:
        if record["versions"].get(name) is None:
            raise UserError(f"{name} cannot be imported by {python}: {errors.get(name)}; install it there")
    if kind == "loadgen":
        return
    if device == "cuda" and record["cuda"] is None:
        raise UserError(
            f"torch {torch} of {python} is built without CUDA; install a CUDA build, or set vllm.device: cpu"
        )
    if device == "cuda" and not record["gpus"]:
        raise UserError(f"torch {torch} sees no GPU; look at nvidia-smi, or set vllm.device: cpu")
    if device == "cpu" and record["cuda"] is not None:
        raise UserError(f"torch {torch} of {python} is a CUDA build; vllm.device: cpu needs the CPU build")
    if "resp" in needs and not record["native_resp"]:
        raise UserError(
            f"lmcache {lmcache} has no native RESP client ({errors.get('native_resp')}); install a "
            f"wheel that has it, or choose connector redis"
        )


if __name__ == "__main__":
    sys.exit(run_stage("build_environment", main))
