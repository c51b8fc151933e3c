"""The executor: in order, announced, stopped at the first failure, and nothing left behind."""

import os
import subprocess
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import eventually
from workflow.hyperkv.array.refusal import FAILED, IN_USE, ArrayError, Refusal
from workflow.hyperkv.array.steps.boot_files import lines_of
from workflow.hyperkv.array.steps.commands import BACKUP, Edit, Run, Same, Zero, execute
from workflow.hyperkv.machine.probe import call


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


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (("diskseq=8", "serial=S2"), r"not the device that was looked at \(diskseq=7, serial=S1\), it is"),
        (("diskseq=8", "serial=S1"), r"not the device that was looked at \(diskseq=7\), it is"),
        ((), r"not the device that was looked at \(diskseq=7, serial=S1\), it is no device now"),
    ],
)
@pytest.mark.parametrize("kind", [Run, Zero])
def test_a_device_that_is_another_by_then_is_left_alone(tmp_path, there, said, kind):
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * 8192)
    on = (Same(str(disk), ("diskseq=7", "serial=S1")),)
    step = Zero(str(disk), 8192, on) if kind is Zero else Run(("rm", str(disk)), on=on)
    with pytest.raises(ArrayError, match=rf"{disk}: {said}.* was not run; run again$") as caught:
        execute([step], lambda line: None, lambda path: there)
    assert caught.value.exit_status == IN_USE
    assert "\n" not in str(caught.value)
    assert disk.read_bytes() == b"x" * 8192
    execute([step], lambda line: None, lambda path: ("diskseq=7", "size=16", "serial=S1"))
    assert not disk.exists() or not disk.read_bytes().strip(b"\0")


def sleeping() -> list[psutil.Process]:
    return [
        process for process in psutil.process_iter(["cmdline"]) if "361.25" in (process.info["cmdline"] or [])
    ]


def test_a_late_command_is_killed_with_its_children():
    done = call(["sh", "-c", "sleep 361.25 & sleep 361.25"], timeout_s=0.3)
    assert done.status == 124
    assert eventually(lambda: not sleeping())  # a process may be seen a moment after its SIGKILL


def test_commands_read_nothing_and_speak_english():
    assert call(["cat"]).text == ""
    assert call(["sh", "-c", "echo $LC_ALL"]).text == "C\n"


def test_lines_are_added_and_dropped(tmp_path):
    path = tmp_path / "etc/fstab"
    execute([Edit(str(path), "", add="one")], lambda line: None)
    assert path.read_text() == "one\n"
    path.chmod(0o640)
    said: list[str] = []
    execute([Edit(str(path), "one\n", (1,), "two")], said.append)
    assert said[1:] == [f"  {path}{BACKUP} has it as it was before"]
    assert path.read_text() == "two\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert (path.parent / f"fstab{BACKUP}").read_text() == "one\n"
    assert sorted(os.listdir(path.parent)) == ["fstab", f"fstab{BACKUP}"]
    with pytest.raises(ArrayError, match="it is not as it was looked at") as caught:
        execute([Edit(str(path), "one\n", add="three")], lambda line: None)
    assert caught.value.exit_status == FAILED
    assert path.read_text() == "two\n"


LINES = st.text(st.sampled_from("ab \t\\#'\"$&/é\r\x0b\u2028"), max_size=6)


@given(
    st.lists(LINES, max_size=5),
    st.booleans(),
    st.sets(st.integers(1, 5)),
    st.none() | st.just("U=1 /a\\040b x"),
)
def test_an_edit_is_the_command_that_is_printed(tmp_path, lines, ended, drop, add):
    """The text that an edit leaves is what the printed command leaves, and all lines but the dropped ones are as before."""
    before = "\n".join(lines) + ("\n" if ended else "")
    numbers = tuple(sorted(number for number in drop if number <= len(lines_of(before))))
    if not numbers and add is None:
        return
    edit = Edit(str(tmp_path / "by hand"), before, numbers, add)
    Path(edit.path).write_bytes(before.encode())
    subprocess.run(["bash", "-c", str(edit)], check=True)
    assert Path(edit.path).read_bytes().decode() == edit.after
    kept = [line for number, line in enumerate(lines_of(before), 1) if number not in numbers]
    left = [line for line in lines_of(edit.after) if line != f"{add}\n"]
    assert [line.rstrip("\n") for line in left] == [line.rstrip("\n") for line in kept]


def test_the_gravest_reason_is_the_exit_status():
    error = ArrayError([Refusal(2, "a"), Refusal(4, "b"), Refusal(2, "a")])
    assert (str(error), error.exit_status) == ("a\nb", 4)
