"""The executor: in order, announced, stopped at the first failure, and nothing left behind."""

import os
import time

import psutil
import pytest

from tests.helpers import eventually
from workflow.hyperkv.array.commands import AddLine, DropLine, Run, call, execute
from workflow.hyperkv.array.refusal import FAILED, IN_USE, ArrayError, Refusal


def test_steps_run_in_order_and_are_announced(tmp_path):
    said = []
    steps = [Run(("touch", str(tmp_path / name))) for name in ("a b", "c")]
    execute(steps, said.append)
    assert said == [f"+ touch '{tmp_path}/a b'", f"+ touch {tmp_path}/c"]
    assert {path.name for path in tmp_path.iterdir()} == {"a b", "c"}


def test_the_first_failure_stops_and_says_what_the_command_said(tmp_path):
    steps = [
        Run(("sh", "-c", "echo why >&2; exit 3"), fails_as=IN_USE),
        Run(("touch", str(tmp_path / "after"))),
    ]
    with pytest.raises(ArrayError) as caught:
        execute(steps, lambda line: None)
    assert (
        str(caught.value) == "`sh -c 'echo why >&2; exit 3'` failed (status 3): why; mend that and run again"
    )
    assert caught.value.exit_status == IN_USE
    assert not (tmp_path / "after").exists()


def test_a_program_that_is_not_there():
    with pytest.raises(ArrayError, match=r"`no-such-program` failed \(status 127\)") as caught:
        execute([Run(("no-such-program",))], lambda line: None)
    assert caught.value.exit_status == FAILED


def sleeping() -> list[psutil.Process]:
    return [
        process for process in psutil.process_iter(["cmdline"]) if "61.25" in (process.info["cmdline"] or [])
    ]


def test_a_late_command_is_killed_with_its_children():
    started = time.monotonic()
    done = call(["sh", "-c", "sleep 61.25 & sleep 61.25"], timeout_s=0.3)
    assert done.status == 124
    assert time.monotonic() - started < 10
    assert eventually(lambda: not sleeping())  # a process may be seen a moment after its SIGKILL


def test_commands_read_nothing_and_speak_english():
    assert call(["cat"]).text == ""
    assert call(["sh", "-c", "echo $LC_ALL"]).text == "C\n"


def test_lines_are_added_and_dropped(tmp_path):
    path = tmp_path / "etc/fstab"
    add, drop = AddLine(str(path), "UUID=1 /x xfs a 0 0"), DropLine(str(path), "UUID=1 /x xfs a 0 0")
    execute([add], lambda line: None)
    path.chmod(0o640)
    path.write_text("first\n" + path.read_text() + "last")
    execute([add], lambda line: None)
    assert path.read_text() == "first\nlast\nUUID=1 /x xfs a 0 0\n"
    assert path.stat().st_mode & 0o777 == 0o640
    execute([drop], lambda line: None)
    assert path.read_text() == "first\nlast\n"
    assert os.listdir(path.parent) == ["fstab"]
    assert str(add).startswith("echo 'UUID=1 /x xfs a 0 0' >> ")
    assert str(drop).startswith("grep -vxF ")


def test_the_gravest_reason_is_the_exit_status():
    error = ArrayError([Refusal(2, "a"), Refusal(4, "b"), Refusal(2, "a")])
    assert (str(error), error.exit_status) == ("a\nb", 4)
