"""A stage ends with what started it, and what it started ends with it, whoever is killed, stopped or deaf."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.helpers import eventually, hear_the_keyboard
from workflow.hyperkv.base import parent as module
from workflow.hyperkv.base.parent import VARIABLE, end_those_of, process_identity, those_of

REPOSITORY = Path(__file__).parents[2]
STAGE = """
    import os, subprocess, sys
    from workflow.hyperkv.base.cli import run_stage

    def main():
        subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM HUP INT; sleep 1000 & sleep 1000"])
        print(os.getpid(), flush=True)
        {hang}

    sys.exit(run_stage("test", main))
"""
SLEEPS = "import time; time.sleep(1000)"
DEAF = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); import time; time.sleep(1000)"
# The lock of the interpreter is held, so that no thread of it runs and no Python handler is called.
IN_C = "import ctypes; ctypes.PyDLL(None).sleep(1000)"
PARENT = """
    import subprocess, sys
    from workflow.hyperkv.base.parent import announce
    announce()
    subprocess.run(["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", sys.argv[1]])
"""


def stage(hang: str, grace_s: float) -> str:
    """A stage's program, with another patience of its guard."""
    patience = f"import workflow.hyperkv.base.parent as p; p.GRACE_S = {grace_s}"
    return f"{patience}\n{textwrap.dedent(STAGE.format(hang=hang))}"


@pytest.fixture
def run():
    """Runs a program below a parent: its process, the stage's pid and identity, and what the stage started."""
    started = []

    def run(hang: str, grace_s: float = 30.0):
        words = [sys.executable, "-c", textwrap.dedent(PARENT), stage(hang, grace_s)]
        parent = subprocess.Popen(
            words,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=hear_the_keyboard,
        )
        pid = int(parent.stdout.readline())
        identity = process_identity(pid)
        below = psutil.Process(parent.pid).children(recursive=True)
        started.append((parent, below, identity))
        assert eventually(lambda: len(those_of(identity)) == 3)
        return parent, pid, identity

    yield run
    for parent, below, identity in started:
        parent.kill()
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        end_those_of(identity)
        parent.communicate()


def gone(pid: int, identity: str) -> bool:
    return process_identity(pid) != identity and not those_of(identity)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_stage_and_what_it_started_end_with_the_parent(run, number):
    parent, pid, identity = run(SLEEPS)
    parent.send_signal(number)
    assert eventually(lambda: gone(pid, identity))
    assert "hyperkv test: interrupted; run again" in parent.stdout.read()


def test_they_end_with_the_shell_between_them(run):
    parent, pid, identity = run(SLEEPS)
    shell = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert shell != parent.pid
    os.kill(shell, signal.SIGKILL)
    assert eventually(lambda: gone(pid, identity))


@pytest.mark.parametrize("hang", [DEAF, IN_C], ids=["deaf", "in C code"])
def test_one_that_hangs_is_killed(run, hang):
    parent, pid, identity = run(hang, grace_s=0.3)
    parent.kill()
    assert eventually(lambda: gone(pid, identity))


def test_a_stopped_one_ends_in_order(run):
    parent, pid, identity = run(SLEEPS)
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    assert eventually(lambda: gone(pid, identity))
    assert "hyperkv test: interrupted; run again" in parent.stdout.read()


def test_what_a_killed_stage_started_ends(run):
    _, pid, identity = run(SLEEPS)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: gone(pid, identity))


def test_several_signals_interrupt_once(run):
    parent, pid, identity = run(
        "import time\n        try: time.sleep(1000)\n        finally: [os.kill(os.getpid(), n) for n in (1, 2, 3, 15)]"
    )
    os.kill(pid, signal.SIGTERM)
    assert eventually(lambda: gone(pid, identity))
    output = parent.stdout.read()
    assert "hyperkv test: interrupted; run again" in output
    assert "Traceback" not in output


def by_hand(told: str, code: str, **options) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", textwrap.dedent(code)]
    env = os.environ | {VARIABLE: told}
    return subprocess.run(
        words, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=30, **options
    )


SHORT = """
    import sys
    from workflow.hyperkv.base.cli import run_stage
    import time
    sys.exit(run_stage("test", lambda: (time.sleep(0.3), print("done"))))
"""


@pytest.mark.parametrize("told", ["", "another-boot/1/1/1", "nonsense", "a/b/c/d/e"])
def test_one_started_by_hand_or_told_of_another_machine_runs(told):
    done = by_hand(told, SHORT)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_pid_that_came_again_is_not_the_parent():
    there = process_identity(os.getpid())
    done = by_hand(f"{there.rpartition('/')[0]}/12345", SHORT)
    assert (done.returncode, done.stdout) == (130, "hyperkv test: interrupted; run again\n")


def test_hangup_is_passed_over_under_nohup():
    code = """
        import os, signal, sys
        from workflow.hyperkv.base.cli import run_stage
        sys.exit(run_stage("test", lambda: (os.kill(os.getpid(), signal.SIGHUP), print("done"))))
    """
    done = by_hand("", code, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert by_hand("", code).returncode == 130


def test_without_process_descriptors_it_looks(monkeypatch):
    """As on a kernel before 5.3."""
    monkeypatch.delattr(os, "pidfd_open")
    with subprocess.Popen(["sleep", "1000"]) as one, subprocess.Popen(["sleep", "1000"]) as other:
        try:
            identities = [process_identity(one.pid), process_identity(other.pid)]
            module._wait(identities, 0.3)
            assert [process_identity(one.pid), process_identity(other.pid)] == identities
            one.kill()
            module._wait(identities, None)
            assert process_identity(one.pid) is None
        finally:
            one.kill()
            other.kill()


def test_every_command_of_a_rule_has_a_guard():
    rules = "".join(path.read_text() for path in REPOSITORY.glob("workflow/rules/*.smk"))
    modules = set(re.findall(r"-m workflow\.hyperkv\.([a-z0-9_.]+)", rules))
    modules |= {f"figures.{path.stem}" for path in (REPOSITORY / "workflow/report/figures").glob("*.rst")}
    modules = {name for name in modules if not name.endswith(".")}  # a figure's is among the rule's params
    assert len(modules) > 30
    for name in modules:
        assert (
            "run_stage(" in (REPOSITORY / "workflow/hyperkv" / f"{name.replace('.', '/')}.py").read_text()
        ), name


def test_a_process_whose_name_is_no_text_is_known(tmp_path):
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff) \\n(', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert process_identity(process.pid) is not None
        process.stdin.write(b"\n")
