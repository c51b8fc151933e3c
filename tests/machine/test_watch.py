"""A process watched to its end."""

import sys
import threading

import pytest

from workflow.hyperkv.base.errors import StoreDied, UserError
from workflow.hyperkv.machine.processes import OwnedProcess
from workflow.hyperkv.machine.watch import every, run_watched


def python(tmp_path, code: str) -> OwnedProcess:
    return OwnedProcess([sys.executable, "-c", code], log=tmp_path / "log", label="loader")


def test_a_clean_end_is_an_end(tmp_path):
    run_watched(python(tmp_path, "print('done')"), [], 20)
    assert (tmp_path / "log").read_text() == "done\n"


def test_a_failure_is_one_line_with_its_last_words(tmp_path):
    with pytest.raises(UserError, match="loader ended with status 3: no such host"):
        run_watched(python(tmp_path, "import sys; print('no such host'); sys.exit(3)"), [], 20)


def test_what_a_check_finds_ends_the_process(tmp_path):
    process, calls = python(tmp_path, "import time; time.sleep(600)"), []

    def check() -> None:
        calls.append(process.pid)
        if len(calls) == 3:
            raise StoreDied("store x died")

    with pytest.raises(StoreDied, match="store x died"):
        run_watched(process, [check], 500, period_s=0.05)
    assert process.exit_code() is None  # stopped and forgotten


def test_too_long_is_an_error(tmp_path):
    with pytest.raises(UserError, match="loader did not end within 0 s"):
        run_watched(python(tmp_path, "import time; time.sleep(600)"), [], 0.2, period_s=0.05)


def test_every_repeats_until_the_block_ends():
    called = threading.Event()
    with every(0.01, called.set):
        assert called.wait(10)
