"""Owned processes: the whole group ends, whoever dies first, and every failure is one line."""

import importlib
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.helpers import eventually
from workflow.hyperkv.base.cli import ends_on_sigterm
from workflow.hyperkv.base.errors import StoreDied, StoreError, UserError
from workflow.hyperkv.machine import processes
from workflow.hyperkv.machine.processes import OwnedProcess, describe_exit, free_port, require_free_port
from workflow.hyperkv.stores.valkey import valkey_binary

GRANDCHILD_IGNORES = "(trap '' TERM; exec sleep 60) & echo $!; exec sleep 60"
ALL_IGNORE = "trap '' TERM; sleep 60 & echo $!; while :; do wait; done"


def shell(script: str, log: Path) -> OwnedProcess:
    return OwnedProcess(["sh", "-c", script], log=log, label="store x")


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "new folder" / "server.log"


@pytest.mark.parametrize(
    ("script", "timeout_s"), [(GRANDCHILD_IGNORES, 600), (ALL_IGNORE, 0.3)], ids=["grandchild", "all"]
)
def test_stop_ends_a_group_that_ignores_sigterm(script, timeout_s, log):
    process = shell(script, log)
    process.start()
    process.wait_ready(lambda: process.last_line().isdigit(), 5)
    leader, grandchild = process.pid, int(process.last_line())
    assert os.getpgid(grandchild) == leader != os.getpgid(0)
    process.stop(timeout_s)
    assert not is_running(leader)
    assert not is_running(grandchild)


def test_stop_lets_a_server_finish(log):
    process = shell("trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.02; done", log)
    with process:
        process.wait_ready(lambda: process.last_line() == "up", 5)
    assert process.last_line() == "saved"
    process.stop()
    with pytest.raises(StoreError, match="store x is not running"):
        _ = process.pid


def test_kill_is_a_crash(log):
    with shell("trap 'echo saved' TERM; sleep 60 & echo $!; wait", log) as process:
        process.wait_ready(lambda: process.last_line().isdigit(), 5)
        grandchild = int(process.last_line())
        process.kill()
        assert process.exit_code() == -signal.SIGKILL
        assert eventually(lambda: not is_running(grandchild))
        assert "saved" not in log.read_text()


def test_dies_with_its_parent(log):
    """Even kill -9 of a stage leaves no server."""
    parent_code = (
        "import sys, time; from pathlib import Path; from workflow.hyperkv.machine.processes import OwnedProcess\n"
        "server = OwnedProcess(['sleep', '60'], log=Path(sys.argv[1]), label='store x'); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code, str(log)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        server = int(parent.stdout.readline())
        assert is_running(server)
    finally:
        parent.kill()
        parent.wait(5)
        parent.stdout.close()
    assert eventually(lambda: not is_running(server))


def test_failing_start_shows_the_last_line(log):
    message = r"^store x ended with status 3 at start: the disk is on fire$"
    process = shell("echo one; echo the disk is on fire >&2; echo; exit 3", log)
    with process, pytest.raises(StoreError, match=message):
        process.wait_ready(lambda: False, 5)


def test_failing_start_does_not_show_an_earlier_runs_line(log):
    with shell("echo all was well then; exit 1", log) as process:
        assert eventually(lambda: process.exit_code() == 1)
    with shell("exit 1", log) as process, pytest.raises(StoreError, match="it wrote nothing"):
        process.wait_ready(lambda: False, 5)
    assert "all was well then" in log.read_text()


def test_late_start_names_the_log(log):
    with shell("echo still loading; sleep 60", log) as process:
        assert eventually(lambda: process.last_line() == "still loading")
        with pytest.raises(StoreError, match=r"did not answer within 0 s; see .*server\.log: still loading"):
            process.wait_ready(lambda: False, 0.1)


@pytest.mark.parametrize("program", ["/nowhere/at-all", "hyperkv-no-such-program"])
def test_missing_program(program, log):
    process = OwnedProcess([program], log=log, label="store x")
    with pytest.raises(UserError, match=f"store x: cannot run {program}: No such file"):
        process.start()
    process.stop()


def test_check_alive_names_the_signal(log):
    with shell("kill -SEGV $$", log) as process:
        assert eventually(lambda: process.exit_code() is not None)
        with pytest.raises(StoreDied, match=rf"pid {process.pid}\) died with signal 11 \(SIGSEGV\)"):
            process.check_alive()
    with shell("sleep 60", log) as process:
        process.check_alive()


def test_environment_reaches_the_process(log):
    with OwnedProcess(
        ["sh", "-c", "echo $OF_OURS $SPT_NOENV; exit"], log=log, label="x", env={"OF_OURS": "yes"}
    ) as process:
        assert eventually(lambda: process.last_line() == "yes 1")


def test_threads_of_a_snakemake_job_are_not_a_servers(log, monkeypatch):
    source = inspect.getsource(importlib.import_module("snakemake.shell"))
    names = re.findall(r'envvars\["(\w+)"\] = threads', source)
    assert "OMP_NUM_THREADS" in names
    for name in names:
        monkeypatch.setenv(name, "16")
    told = ["sh", "-c", "env | grep _THREADS; echo that is all"]
    with OwnedProcess(told, log=log, label="x") as process:
        assert eventually(lambda: process.last_line() == "that is all")
    assert "_THREADS" not in log.read_text()
    with OwnedProcess(told, log=log, label="x", env={"OMP_NUM_THREADS": "2"}) as process:
        assert eventually(lambda: "OMP_NUM_THREADS=2" in log.read_text())


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "status 0"), (2, "status 2"), (-9, "signal 9 (SIGKILL)"), (-15, "signal 15 (SIGTERM)")],
)
def test_describe_exit(code, text):
    assert describe_exit(code) == text


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [("32768 60999", 10_000, 32_767), ("1024 65535", 1024, 65_535), (None, 1024, 65_535)],
)
def test_a_free_port_is_none_that_a_connection_may_be_given(told, least, most, tmp_path, monkeypatch):
    given = tmp_path / "range"
    if told is not None:
        given.write_text(told)
    monkeypatch.setattr(processes, "_GIVEN_PORTS", given)
    ports = {free_port() for _ in range(50)}
    assert len(ports) > 40
    assert all(least <= port <= most for port in ports)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_require_free_port(address):
    with socket.create_server((address, 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(UserError, match=rf"^my_port: port {port} .* in use by pid {os.getpid()} \("):
            require_free_port(port, "my_port")
    require_free_port(port, "my_port")
    require_free_port(free_port(), "my_port")


def test_ends_on_sigterm():
    seen = []
    original = signal.signal(signal.SIGTERM, lambda *_: seen.append("outside"))
    try:
        with pytest.raises(KeyboardInterrupt), ends_on_sigterm():
            signal.raise_signal(signal.SIGTERM)
        assert seen == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert eventually(lambda: seen == ["outside"])
    finally:
        signal.signal(signal.SIGTERM, original)


def test_a_processes_new_lines_are_told_from_those_before_and_from_an_earlier_start(log):
    with shell("echo earlier", log) as process:
        assert eventually(lambda: process.lines() == ["earlier"])
    pipe = log.parent / "pipe"
    os.mkfifo(pipe)
    process = shell(f"echo one; read word < '{pipe}'; echo two", log)
    assert process.written() == len("earlier\n")
    with process:
        assert eventually(lambda: process.lines() == ["one"])
        mark = process.written()
        pipe.write_text("go\n")
        assert eventually(lambda: process.lines(mark) == ["two"])
        assert (process.lines(), process.tail(1)) == (["one", "two"], ["two"])


def test_lines_have_no_colours_and_nothing_that_a_terminal_acts_on(log):
    with shell(
        r"printf '\033[31;20mLMCache ERROR:\033[0m Failed\033[2J\tto \033[3mput\033[0m\n'", log
    ) as process:
        assert eventually(lambda: process.lines() == ["LMCache ERROR: Failed\\x1b[2J to put"])


def test_what_was_never_started_has_written_nothing(log):
    process = shell("true", log)
    assert (process.written(), process.lines(), process.tail(3)) == (0, [], [])


def test_a_process_that_goes_to_the_background_is_told_and_ended(log):
    process = shell("setsid sh -c 'echo $$; exec sleep 60' & sleep 0.2; exit 0", log)
    process.start()
    try:
        with pytest.raises(
            StoreError, match=r"ended with status 0 at start, and left a process in the back"
        ) as said:
            process.wait_ready(lambda: False, 10)
    finally:
        process.stop()
    assert "\n" not in str(said.value)
    assert not is_running(int(process.last_line()))


def test_what_is_not_its_own_is_not_taken_for_a_stray(log, tmp_path):
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        with shell("echo up; exec sleep 60", log) as one:
            with shell("echo up; exec sleep 60", tmp_path / "other.log"):
                pass
            one.check_alive()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_valkey_that_goes_to_the_background_is_ended(log, tmp_path):
    """It writes its title over its environment."""
    port = free_port()
    argv = [valkey_binary(), "--port", str(port), "--daemonize", "yes", "--save", "", "--dir", str(tmp_path)]
    process = OwnedProcess(argv, log=log, label="store x")
    process.start()
    try:
        with pytest.raises(StoreError, match="left a process in the background"):
            process.wait_ready(lambda: False, 10)
    finally:
        process.stop()
    require_free_port(port, "port")


def test_what_a_server_s_children_leave_is_waited_for(tmp_path):
    """Adopted orphans would stay as zombies for as long as a job runs."""
    script = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"
    process = OwnedProcess([sys.executable, "-c", script], log=tmp_path / "log", label="server")
    process.start()
    process.wait_ready(lambda: "up" in process.lines())
    (child,) = psutil.Process(process.pid).children()
    process.stop()
    assert not psutil.pid_exists(child.pid)


def mapped(path: Path) -> bool:
    """Whether any process has a file mapped."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            if f" {path}\n" in maps.read_text():
                return True
    return False


def sharing(name: str, create: bool) -> list[str]:
    script = (
        "from multiprocessing import resource_tracker, shared_memory as shared; import time; "
        f"one = shared.SharedMemory({name!r}, create={create}, size=1 << 20); "
        "resource_tracker.unregister(one._name, 'shared_memory'); print('up', flush=True); time.sleep(60)"
    )
    return [sys.executable, "-c", script]


@pytest.mark.parametrize("used", [False, True])
def test_shared_memory_that_a_killed_owner_left_goes_with_the_next_server_of_its_log(used, log, tmp_path):
    """As vLLM's pool after kill -9 of the stage; of another's file the note may say what it likes."""
    block = Path("/dev/shm", f"hyperkv-{os.getpid()}-left-{used}")
    argv = sharing(block.name, True)
    other = OwnedProcess(sharing(block.name, False), log=tmp_path / "log", label="x")
    script = (
        "import os, signal; from pathlib import Path; from workflow.hyperkv.machine.processes import OwnedProcess\n"
        f"process = OwnedProcess({argv!r}, log=Path({str(log)!r}), label='server'); process.start()\n"
        "process.wait_ready(lambda: 'up' in process.lines(), 20); os.kill(os.getpid(), signal.SIGKILL)"
    )
    note, kept = log.with_name(log.name + ".shared"), tmp_path / "kept"
    kept.touch()
    try:
        owner = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
        assert owner.returncode == -signal.SIGKILL
        eventually(lambda: not mapped(block))  # the server dies with its owner
        assert block.exists()
        assert note.read_text() == f"{block}\n"
        note.write_text(f"{block}\n{kept}\n/dev/shm/../../{kept}\n/dev/shm/none\n")
        with ExitStack() as stack:
            if used:
                stack.enter_context(other).wait_ready(lambda: "up" in other.lines(), 20)
            with OwnedProcess(["sleep", "60"], log=log, label="next"):
                assert block.exists() is used
            assert note.exists() is used
        assert not block.exists()
        assert kept.exists()
    finally:
        block.unlink(missing_ok=True)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("used", [False, True])
def test_shared_memory_that_a_server_left_goes_but_not_anothers(used, killed, log, tmp_path):
    name = f"hyperkv-{os.getpid()}-{used}-{killed}"
    block = Path("/dev/shm", name)
    try:
        with ExitStack() as stack:
            with OwnedProcess(sharing(name, True), log=log, label="server") as process:
                process.wait_ready(lambda: "up" in process.lines(), 20)
                if used:
                    other = OwnedProcess(sharing(name, False), log=tmp_path / "log", label="other")
                    stack.enter_context(other).wait_ready(lambda: "up" in other.lines(), 20)
                if killed:
                    process.kill()
            assert block.exists() is used
        assert not block.exists()
    finally:
        block.unlink(missing_ok=True)
