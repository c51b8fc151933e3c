#!/usr/bin/env python3
"""Stand-in for OpenPBS: called as qsub, qstat or qdel, it runs jobs on this machine at once.

State lies in $FAKE_PBS: ID.words (qsub's arguments), ID.pid, and ID.status when the job has ended.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_PBS"])
_RUN = 'bash "$1" > "$2.out" 2>&1; echo $? > "$2.new"; mv "$2.new" "$2.status"'


def qsub(words: list[str]) -> None:
    """Start the script, the last word, in a session of its own and print an id."""
    job = f"{sum(1 for _ in STATE.glob('*.words'))}.fake"
    (STATE / f"{job}.words").write_text("\n".join(words))
    process = subprocess.Popen(
        ["bash", "-c", _RUN, "job", words[-1], str(STATE / job)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (STATE / f"{job}.pid").write_text(str(process.pid))
    print(job)


def qstat(words: list[str]) -> None:
    """Say what `qstat -x -f` says of a job's state."""
    status = STATE / f"{words[-1]}.status"
    if status.exists():
        print(
            f"Job Id: {words[-1]}\n    job_state = F\n    Exit_status = {status.read_text().strip()}\n    queue = fake"
        )
    else:
        print(f"Job Id: {words[-1]}\n    job_state = R\n    queue = fake")


def qdel(words: list[str]) -> None:
    """End jobs as a scheduler does, with SIGTERM to all of their processes."""
    for job in words:
        os.killpg(int((STATE / f"{job}.pid").read_text()), signal.SIGTERM)


if __name__ == "__main__":
    {"qsub": qsub, "qstat": qstat, "qdel": qdel}[Path(sys.argv[0]).name](sys.argv[1:])
