#!/usr/bin/env python3
"""Stand-in for kubectl and for a node: a job's command runs on this machine at once, without a container.

State lies in $FAKE_KUBECTL: NAME.json (the job as it was sent), NAME.pid, and NAME.status when its command has ended.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_KUBECTL"])
_RUN = '"$@"; echo $? > "$0.new"; mv "$0.new" "$0.status"'


def create(words: list[str]) -> None:
    """Start what stdin describes, and print its name."""
    assert words == ["-f", "-", "-o", "name"], words
    job = json.load(sys.stdin)
    name = f"{job['metadata']['generateName']}{sum(1 for _ in STATE.glob('*.json'))}"
    (STATE / f"{name}.json").write_text(json.dumps(job))
    container = job["spec"]["template"]["spec"]["containers"][0]
    process = subprocess.Popen(
        ["bash", "-c", _RUN, str(STATE / name), *container["command"]],
        cwd=container["workingDir"],
        env=os.environ | {each["name"]: each["value"] for each in container["env"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (STATE / f"{name}.pid").write_text(str(process.pid))
    print(f"job.batch/{name}")


def get(words: list[str]) -> None:
    """Say a job's true conditions, as the path of the status script asks for them."""
    assert (words[0], words[2], words[3].count(".status.conditions[")) == ("job", "-o", 1), words
    if not (STATE / f"{words[1]}.json").exists():
        sys.exit(f'Error from server (NotFound): jobs.batch "{words[1]}" not found')
    status = STATE / f"{words[1]}.status"
    if status.exists():
        print(
            "SuccessCriteriaMet Complete " if status.read_text() == "0\n" else "FailureTarget Failed ", end=""
        )


def delete(words: list[str]) -> None:
    """End jobs as a node does: SIGTERM to the container's first process alone."""
    assert (words[0], *words[-2:]) == ("job", "--ignore-not-found", "--wait=false"), words
    for name in words[1:-2]:
        shell = (STATE / f"{name}.pid").read_text()
        [first] = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)


if __name__ == "__main__":
    {"create": create, "get": get, "delete": delete}[sys.argv[1]](sys.argv[2:])
