"""A file of records is read whole and as what it was measured with, or refused by its name in one line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.record_factory import limit
from workflow.hyperkv.base.durable import replace_durably
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.frames import asked_of, read_csv, read_json, read_jsonl
from workflow.hyperkv.records.kinds.record import SCHEMA_VERSION
from workflow.hyperkv.records.record_file import (
    Identity,
    disown,
    identity_in,
    is_whole,
    read_records,
    write_records,
)

MADE = Identity("5bec5bec5bec", "c0dec0dec0de")
RECORDS = [limit(repeat=number, measured_at='é "\n', schema_version=SCHEMA_VERSION) for number in (1, 2, 4)]


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "1.jsonl"
    write_records(path, ["1", "2", "4"], RECORDS, MADE)
    return path


def refusal(path: Path, asked: Identity | None = None) -> str:
    """The one line with which a file is refused; it names the file and what to do."""
    with pytest.raises(UserError) as caught:
        read_records(path, asked)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert text.endswith("delete the file to measure it again")
    assert asked is not None or not is_whole(path)
    return text


def test_a_whole_file_is_read_without_its_closing_line(path):
    assert read_records(path) == read_records(path, MADE) == RECORDS
    assert is_whole(path)
    assert identity_in(path) == MADE
    assert sorted(path.parent.iterdir()) == [path]


def edited(change) -> bytes:
    """What change makes of the file's lines, each with its end."""

    def edit(data: bytes) -> bytes:
        return b"".join(change(data.splitlines(keepends=True)))

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: b"",
        lambda data: b"\n\n",
        edited(lambda lines: lines[:1]),
        edited(lambda lines: lines[:-1]),
        edited(lambda lines: lines[1:]),
        edited(lambda lines: lines[-1:]),
        edited(lambda lines: [*lines[:1], *lines]),
        edited(lambda lines: [lines[1], lines[0], *lines[2:]]),
        edited(lambda lines: [*lines, lines[0]]),
        edited(lambda lines: [*lines, lines[-1]]),
        edited(lambda lines: [*lines, *lines]),
        edited(lambda lines: [*lines[:-1], b"[1]\n", lines[-1]]),
        edited(lambda lines: [*lines[:-1], b"\n", lines[-1]]),
        edited(lambda lines: [*lines[:-1], b"\xff\xfe\n", lines[-1]]),
        edited(lambda lines: [*lines[:-1], b"[" * 200_000 + b"\n", lines[-1]]),
        edited(lambda lines: [*lines[:-1], b'{"closing": 5}\n']),
        edited(lambda lines: [*lines[:-1], b'{"closing": {}}\n']),
        edited(lambda lines: [*lines[:-1], lines[-1].replace(b'"4"', b'"5"')]),
        edited(lambda lines: [*lines[:-1], lines[-1].replace(b'"4"', b'["4"]')]),
        edited(lambda lines: [*lines[:-1], lines[-1].replace(b"5bec", b"5bed")]),
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data + b"\0" * 512,
        lambda data: data.replace(b'"repeat": 2', b'"repeat": 3'),
    ],
)
def test_what_is_not_as_it_was_written_is_refused_by_name(path, edit):
    path.write_bytes(edit(path.read_bytes()))
    refusal(path)


@given(data=st.data())
def test_no_damage_is_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "1.jsonl"
    write_records(path, ["1", "2", "4"], RECORDS, MADE)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                whole[:at],
                whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :],
                whole[:at] + data.draw(st.binary(min_size=1, max_size=30)) + whole[at:],
            ]
        )
    )
    path.write_bytes(damaged)
    refusal(path)


def test_what_is_of_another_configuration_or_code_is_told_apart(path):
    assert "of another configuration" in refusal(path, Identity("000000000000", MADE.code))
    assert "measured by other code" in refusal(path, Identity(MADE.spec, "000000000000"))


def test_another_repeat_is_told_by_its_name(path):
    """A copy of a repeat would count as one more."""
    records = [record | {"repeat": 1, "record": "cell"} for record in RECORDS]
    for name in ("1.jsonl", "copy.jsonl"):
        write_records(path.with_name(name), ["1", "2", "4"], records, MADE)
        assert read_records(path.with_name(name), MADE) == records
    copy = path.rename(path.with_name("2.jsonl"))
    assert "its records are of repeat 1" in refusal(copy)


def test_what_nobody_knows_the_code_of_is_refused(path):
    disown(path)
    assert read_records(path) == RECORDS
    assert identity_in(path).spec == MADE.spec
    with pytest.raises(UserError, match="measured by other code"):
        read_records(path, MADE)


def test_files_from_before_the_closing_line_are_read_but_not_for_what_is_asked(tmp_path):
    path = tmp_path / "old.jsonl"
    old = [record | {"schema_version": 2} for record in RECORDS]
    path.write_text("".join(json.dumps(record) + "\n" for record in old))
    assert read_records(path) == old
    assert not is_whole(path)
    assert "closing line is missing" in refusal(path, MADE)
    path.write_text("".join(json.dumps(record) + "\n" for record in [*old, old[0]]))
    assert "a line is there twice" in refusal(path)


def test_the_option_names_a_file_or_its_folder(path):
    for name in (path, path.parent):
        assert read_jsonl([path], asked_of(json.dumps({str(name): str(MADE)}))) == RECORDS
    with pytest.raises(UserError, match=r"1\.jsonl: --asked has neither the file nor its folder"):
        read_jsonl([path], asked_of("{}"))


def test_tables_and_documents_that_are_none_are_named(tmp_path):
    path = tmp_path / "table"
    for content in (b"", b"\xff\xfe,\n1,2\n", b'a,b\n"1,2\n', b"a\n1,2,3\n1\n1,2,3,4,5\n"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"table: not a table \(.*; delete the file to make it again"):
            read_csv(path)
    for content in (b"", b"\xff", b"{", b"[" * 200_000):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"table: not JSON \(.*; delete the file to make it again"):
            read_json(path)


def test_a_file_is_replaced_in_an_order_that_survives_a_loss_of_power(path, monkeypatch):
    """The new text is on disk before its name is, and its name before anything else is done."""
    import os

    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _name=name, _real=real: (steps.append(_name), _real(*a))[1])
    replace_durably(path, b"new")
    assert steps == ["fsync", "replace", "fsync"]
    assert path.read_bytes() == b"new"


def test_a_failed_replacement_leaves_the_old_file_alone(path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_records(path, ["1"], RECORDS[:1], MADE)
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == [path]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_text("theirs")
    for name in ("1.jsonl", ".1.jsonl.tmp"):
        (tmp_path / name).symlink_to(tmp_path / "other")
    write_records(tmp_path / "1.jsonl", ["1"], RECORDS[:1], MADE)
    assert (tmp_path / "other").read_text() == "theirs"
    assert is_whole(tmp_path / "1.jsonl")
