"""The journal: nothing measured is lost, nothing of another identity is taken, a result appears whole."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from workflow.hyperkv.errors import UserError
from workflow.hyperkv.journal import Identity, Journal, canonical_digest, is_whole
from workflow.hyperkv.record_file import read_records

IDENTITY = Identity("5bec00000000", "c0de00000000")
OTHER = Identity("5bec00000000", "c0de00000001")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "new" / "1.jsonl"


def partial_of(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def finished(journal: Journal, out: Path, keys: list) -> list[dict]:
    journal.finish(keys, {})
    return read_records(out)


def test_resume_with_the_same_identity(out):
    Journal(out, IDENTITY).append(1, {"load": 1})
    resumed = Journal(out, Identity(IDENTITY.spec, IDENTITY.code))
    assert (resumed.has(1), resumed.has("1"), resumed.has(2)) == (True, True, False)
    resumed.append(2, {"load": 2})
    assert finished(Journal(out, IDENTITY), out, [1, 2]) == [{"load": 1}, {"load": 2}]


def test_another_identity_is_left_unused_and_replaced(out):
    Journal(out, IDENTITY).append(1, {"load": "old"})
    other = Journal(out, OTHER)
    assert not other.has(1)
    other.append(1, {"load": "new"})
    assert "old" not in partial_of(out).read_text()
    assert not Journal(out, IDENTITY).has(1)


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_torn_last_line(out, cut):
    """The record under way is measured again, and what follows it is not lost with it."""
    journal = Journal(out, IDENTITY)
    journal.append(1, {"load": 1})
    journal.append(2, {"load": 2})
    text = partial_of(out).read_text()
    partial_of(out).write_text(text[:-cut])
    resumed = Journal(out, IDENTITY)
    assert resumed.has(1)
    assert resumed.has(2) == (cut == 1)  # only the line's end was missing
    resumed.append(3, {"load": 3})
    again = Journal(out, IDENTITY)
    assert again.has(1)
    assert again.has(3)


def test_a_file_of_one_torn_line(out):
    Journal(out, IDENTITY).append(1, {"load": 1})
    partial_of(out).write_text(partial_of(out).read_text()[:9])
    journal = Journal(out, IDENTITY)
    assert not journal.has(1)
    journal.append(1, {"load": "again"})
    assert finished(Journal(out, IDENTITY), out, [1]) == [{"load": "again"}]


def test_finish_is_ordered_and_adds_what_is_common(out):
    journal = Journal(out, IDENTITY)
    for load in (4, 1, 2):
        journal.append(load, {"load": load})
    journal.finish([1, 2, 4], {"job_s": 9})
    lines = [f'{{"load": {load}, "job_s": 9}}' for load in (1, 2, 4)]
    assert out.read_text().splitlines()[:-1] == lines
    closing = json.loads(out.read_text().splitlines()[-1])["closing"]
    assert {key: closing[key] for key in ("keys", "lines", "spec", "code")} == {
        "keys": ["1", "2", "4"], "lines": 3, "spec": IDENTITY.spec, "code": IDENTITY.code
    }  # fmt: skip
    assert is_whole(out)
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name]


def test_finish_is_atomic(out, monkeypatch):
    """`out` is the old result until it is the whole new one, and the partial file outlives a failure."""
    journal = Journal(out, IDENTITY)
    journal.append(1, {"load": 1})
    out.write_text("the old result\n")
    with pytest.raises(KeyError):
        journal.finish([1, 2], {})
    with pytest.raises(ValueError, match="JSON"):
        journal.finish([1], {"job_s": math.nan})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.finish([1], {})
    assert out.read_text() == "the old result\n"
    assert finished(Journal(out, IDENTITY), out, [1]) == [{"load": 1}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figures_that_json_has_not_are_refused(out, value):
    journal = Journal(out, IDENTITY)
    with pytest.raises(ValueError, match="JSON"):
        journal.append(1, {"ttft_s": [0.1, value]})
    assert not journal.has(1)
    assert not Journal(out, IDENTITY).has(1)


def test_a_disk_that_refuses_is_one_line(out):
    journal = Journal(out, IDENTITY)
    partial_of(out).mkdir()
    with pytest.raises(UserError, match=r"cannot write .*1\.jsonl\.partial"):
        journal.append(1, {"load": 1})
    assert not journal.has(1)


def test_canonical_digest():
    assert canonical_digest({"a": 1, "b": [1, 2]}) == canonical_digest({"b": [1, 2], "a": 1})
    assert canonical_digest([1, 2]) != canonical_digest([2, 1])
    assert len(canonical_digest(None)) == 12


def test_two_processes_never_measure_the_same_file(out):
    code = "import sys, pathlib; from workflow.hyperkv.journal import Journal; held = Journal(pathlib.Path(sys.argv[1]), 'x')"
    other = [sys.executable, "-c", code + "; print('mine', flush=True); sys.stdin.read()", str(out)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mine\n"
        with pytest.raises(UserError, match=r"1\.jsonl is being measured already.*squeue, scancel"):
            Journal(out, IDENTITY)
        process.kill()
    journal = Journal(out, IDENTITY)
    journal.append(1, {"load": 1})
    journal.finish([1], {})
    assert [path.name for path in out.parent.iterdir()] == ["1.jsonl"]
