"""The journal: nothing measured is lost, nothing of another identity is taken, a result appears whole."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.base.digests import canonical_digest
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.journal import Journal
from workflow.hyperkv.records.record_file import Identity, is_whole, read_records

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
    code = "import sys, pathlib; from workflow.hyperkv.records.journal import Journal; held = Journal(pathlib.Path(sys.argv[1]), 'x')"
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


# A damaged partial file

RECORDS = {
    "1": {"load": 1, "text": 'a "b" {"sum": "000000000000", '},
    "2": {"load": 2},
    "4": {"load": [4.5, None]},
}


def kept(out: Path, records=RECORDS) -> bytes:
    """What is in the partial file of a run that was stopped after the records."""
    journal = Journal(out, IDENTITY)
    for key, record in records.items():
        journal.append(key, record)
    return partial_of(out).read_bytes()


def resumed(out: Path) -> dict:
    """The records that a new run takes up."""
    journal = Journal(out, IDENTITY)
    return {key: journal.record(key) for key in RECORDS if journal.has(key)}


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe\x00garbage\n",
        b"[1, 2]\n",
        b"null\n",
        b'{"digest": "x", "key": "9"}\n',
        b'{"digest": "x", "key": 9, "record": []}\n',
        b'{"sum": "000000000000", "digest": "x", "key": "9", "record": {"load": 9}}\n',
        b'{"sum": "' + b"[" * 300_000 + b"\n",
        b'{"sum": "000000000000", ' + b"[" * 300_000 + b"\n",
        b"\0" * 4096,
        b"a" * 3_000_000,
    ],
    ids=lambda damage: f"{damage[:12]!r}",
)
@pytest.mark.parametrize("after", range(4))
def test_what_is_whole_is_kept_and_what_is_damaged_is_moved_aside(out, damage, after, capsys):
    lines = kept(out).splitlines(keepends=True)
    partial_of(out).write_bytes(b"".join([*lines[:after], damage, *lines[after:]]))
    assert resumed(out) == RECORDS
    aside = out.with_name(out.name + ".partial.damaged")
    assert aside.read_bytes() == damage.strip(b"\n")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"hyperkv: {partial_of(out)} was damaged; 3 records of it are whole and kept, ")
    assert str(aside) in line
    assert resumed(out) == RECORDS
    assert not capsys.readouterr().out
    partial_of(out).write_bytes(damage + partial_of(out).read_bytes())
    assert resumed(out) == RECORDS
    assert aside.with_name(aside.name + ".2").exists()
    assert finished(Journal(out, IDENTITY), out, [*RECORDS]) == [*RECORDS.values()]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_moved_aside(out, make, capsys):
    out.parent.mkdir(parents=True)
    make(partial_of(out))
    journal = Journal(out, IDENTITY)
    journal.append(1, {"load": 1})
    assert "was no file; it is now" in capsys.readouterr().out
    assert os.path.lexists(out.with_name(out.name + ".partial.damaged"))
    assert finished(journal, out, [1]) == [{"load": 1}]


@given(data=st.data())
def test_any_damage_costs_the_damaged_lines_alone(tmp_path_factory, data):
    """No record comes that was not written, none is lost whose bytes are all there, and the run goes on."""
    out = tmp_path_factory.mktemp("damage") / "1.jsonl"
    whole = kept(out)
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if kind == "flip":
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    elif kind == "cut":
        damaged = whole[:at]
    else:
        damaged = whole[:at] + data.draw(st.binary(min_size=1, max_size=40)) + whole[at:]
    partial_of(out).write_bytes(damaged)
    lines = [line.rstrip(b"\n") for line in whole.splitlines(keepends=True)]
    there = {key: RECORDS[key] for key, line in zip(RECORDS, lines, strict=True) if line in damaged}
    assert resumed(out) == there
    journal = Journal(out, IDENTITY)
    for key, record in RECORDS.items():
        if not journal.has(key):
            journal.append(key, record)
    assert finished(journal, out, [*RECORDS]) == [*RECORDS.values()]


def test_the_partial_file_goes_last(out, monkeypatch):
    """A loss of power at any step leaves the records in one file or the other."""
    journal = Journal(out, IDENTITY)
    journal.append(1, {"load": 1})
    there = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def step(*arguments, _real=real):
            there.append(partial_of(out).exists())
            return _real(*arguments)

        monkeypatch.setattr(os, name, step)
    journal.finish([1], {})
    assert there == [True, True, True]
    assert not partial_of(out).exists()
