"""The other node of a Slurm job, as the scheduler tells it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass

from ...base.errors import UserError

NEEDED = "it needs a Slurm job of two nodes: make run CONFIG=… PROFILE=workflow/profiles/slurm"
_ASKED_S = 60.0
_LAUNCH = ("--nodes=1", "--ntasks=1", "--overlap", "--mem=0", "--cpu-bind=none")


@dataclass(frozen=True)
class OtherNode:
    """name, address: as Slurm has them, the address resolved here. launch: words before a command that is to run there."""

    name: str
    address: str
    launch: tuple[str, ...]


def other_node(where: str) -> OtherNode:
    """The second node of this job. where: the key that asks for it, which begins an error. Raises UserError."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job or shutil.which("srun") is None:
        raise UserError(f"{where}: {NEEDED}")
    names = _told("scontrol", "show", "hostnames", _told("squeue", "-h", "-j", job, "-o", "%N")).split()
    others = [name for name in names if name != os.environ.get("SLURMD_NODENAME", names[0])]
    if not others:
        raise UserError(f"{where}: Slurm's job {job} has one node, {' '.join(names)}; {NEEDED}")
    name = others[0]
    words = dict(
        word.split("=", 1) for word in _told("scontrol", "show", "node", name, "-o").split() if "=" in word
    )
    known = words.get("NodeAddr", name)
    try:
        address = socket.getaddrinfo(known, None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise UserError(
            f"{where}: node {name}: its address {known} is not known here: {error.strerror}"
        ) from error
    # What the step that this process is in was given says nothing of another step.
    given = [name for name in os.environ if name.startswith(("SLURM_", "SRUN_")) and name != "SLURM_CONF"]
    unset = [word for name in given for word in ("-u", name)]
    return OtherNode(
        name, str(address), ("env", *unset, "srun", f"--jobid={job}", f"--nodelist={name}", *_LAUNCH)
    )


def _told(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_ASKED_S, check=True)
    except subprocess.CalledProcessError as error:
        raise UserError(f"Slurm: {' '.join(words)}: {error.stderr.strip() or error}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Slurm: {' '.join(words)}: {error}") from error
    return done.stdout.strip()
