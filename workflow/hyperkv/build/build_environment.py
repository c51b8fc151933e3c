"""Make the environment of a pair of vLLM and LMCache, or of AIPerf, and prove that it can do what is asked of it.

    python -m workflow.hyperkv.build.build_environment --kind current --device cuda --requirements envs/current-cuda.txt \\
        --wheels results/build/current/wheels.tar --venv results/build/current/venv --out results/build/current/current.json
    python -m workflow.hyperkv.build.build_environment --kind current --device cuda --python /opt/vllm/bin/python --out ...

The record has the versions that are imported, torch's CUDA, the compiled modules that are there, and for which connectors the
pair is sound.
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
from ..base.digests import sha256_of
from ..base.errors import UserError
from ..base.options import Words
from ..base.surroundings import import_path, past_proxies
from .fetch_wheels import run_pip
from .pairs import MODULES, OF_LMCACHE, soundness, unsound

_PREFLIGHT_TIMEOUT_S = 600
_MARK = "made-of"  # in a virtual environment, written when it is whole


def main(
    *,
    kind: Literal["current", "reference", "loadgen"],
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
        kind: the pair that it has, or loadgen for AIPerf.
        device: what vLLM runs on.
        needs: what scenarios ask of it, of pairs.NEEDS.
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
        key = "loadgen" if kind == "loadgen" else f"vllm.pairs.{kind}"
        raise UserError(f"{key}.python: there is no program {python}; leave it null to have one made")
    record = {"python": python, **probe(python, kind, device, needs)}
    if kind != "loadgen":
        record |= {"pair": kind, "sound": soundness(record["versions"], device), "lacks": lacks(record)}
        for line in (record["sound"], *record["lacks"]):
            print(f"hyperkv build_environment: pair {kind}: {line}", file=sys.stderr)
    refuse(record, kind, device, needs)
    text = json.dumps(record, indent=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n")
    print(text)


def install(requirements: Path, wheels: Path, venv: Path) -> str:
    """The virtual environment of the wheels alone, a new one unless these made the one that is there; returns its interpreter.
    Raises UserError."""
    python, mark = str(venv / "bin" / "python"), venv / _MARK
    made_of = "\n".join([sys.version, str(venv.absolute()), sha256_of(requirements), sha256_of(wheels)])
    if mark.exists() and mark.read_text() == made_of:
        return python
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    with tempfile.TemporaryDirectory(dir=venv.parent) as folder, tarfile.open(wheels) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 has it
        archive.extractall(folder)
        run_pip(python, "install", "--no-index", "--find-links", folder, "--requirement", str(requirements))
    mark.write_text(made_of)
    return python


def probe(python: str, kind: str, device: str = "cuda", needs: Sequence[str] = ()) -> dict[str, Any]:
    """What the environment's own interpreter says of itself (preflight.py). Raises UserError when it cannot run."""
    environment = os.environ | past_proxies(os.environ) | {"PYTHONPATH": import_path()}
    of_engine = ["engine", device, *needs]
    argv = [python, "-m", "workflow.hyperkv.build.preflight"]
    argv += ["loadgen"] if kind == "loadgen" else of_engine
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
    """Raise UserError, one line, for what is missing or not sound in an environment that was probed.

    needs: of pairs.NEEDS, as the scenarios have them.
    """
    errors, python = record["errors"], record["python"]
    torch = record["versions"].get("torch")
    wanted = (
        ["aiperf"]
        if kind == "loadgen"
        else ["torch", "vllm", *(["lmcache"] if {*needs} & {*OF_LMCACHE} else [])]
    )
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
        told = f" ({errors['gpus']})" if "gpus" in errors else ""
        raise UserError(f"torch {torch} sees no GPU{told}; look at nvidia-smi, or set vllm.device: cpu")
    if device == "cuda" and record["absent"]:
        raise UserError(
            f"Triton compiles for the GPU, as vLLM asks of it, and lacks here: {', '.join(record['absent'])}; install that (Debian)"
        )
    if device == "cpu" and record["cuda"] is not None:
        raise UserError(f"torch {torch} of {python} is a CUDA build; vllm.device: cpu needs the CPU build")
    for name, found in record["modules"].items():
        if found is None and MODULES[name].required:
            raise UserError(f"{python}: {MODULES[name].absent} ({errors.get(name)})")
    why = unsound(record["versions"])
    for need in needs:
        if need in why:
            versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("vllm", "lmcache"))
            mend = (
                "name an environment with vLLM before 0.26 and LMCache before 0.5.7 in vllm.pairs.reference"
                if kind == "reference"
                else "leave out pair: current of scenarios with LMCache inside vLLM"
            )
            raise UserError(
                f"{why[need]}, and {python} has {versions}; {mend}, or choose connector mp or striped_mp"
            )


def lacks(record: dict[str, Any]) -> list[str]:
    """A line for each module that is not there and without which the engine goes on, with what that means."""
    return [
        f"{' or '.join(names[-1] for names in MODULES[name].names)} cannot be imported ({record['errors'].get(name)}): "
        f"{MODULES[name].absent}"
        for name, found in record["modules"].items()
        if found is None and not MODULES[name].required
    ]


if __name__ == "__main__":
    sys.exit(run_stage("build_environment", main))
