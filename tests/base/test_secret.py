"""Passwords by reference: where they may be, and what is refused without being told."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores.servers import parsed
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.base.secret import quoted, write_private
from workflow.plugin.lmcache_striped.secret import Secret

WORD = "one-secret-word"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_has_one_line(tmp_path, ending):
    write_private(tmp_path / "p", WORD + ending)
    assert Secret(tmp_path / "p").value() == WORD


def test_a_variable(monkeypatch):
    monkeypatch.setenv("KV_PASSWORD", WORD)
    assert Secret.of({"password_env": "KV_PASSWORD"}).value() == WORD
    assert Secret.of({"password_file": None, "password_env": None}) is None


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (None, 0, "No such file or directory; write the password there, one line, mode 600"),
        (WORD, 0o640, "can be read by others (mode 640); chmod 600"),
        (WORD, 0o604, "can be read by others (mode 604); chmod 600"),
        ("\n", 0o600, "has no password"),
        (f"{WORD}\n{WORD}\n", 0o600, "must be one line"),
        (f"{WORD}\0", 0o600, "must be one line"),
        (WORD * 100, 0o600, "at most 512"),
    ],
)
def test_what_is_no_password(tmp_path, text, mode, said):
    path = tmp_path / "p"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(UserError) as caught:
        Secret(path).value()
    message = str(caught.value)
    assert said in message
    assert message.startswith(f"password_file: {path}")
    assert WORD not in message
    assert "\n" not in message


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "p").write_bytes(b"\xff\xfe")
    (tmp_path / "p").chmod(0o600)
    with pytest.raises(UserError, match="is not text"):
        Secret(tmp_path / "p").value()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path, make):
    make(tmp_path / "p")
    with pytest.raises(
        UserError, match=r"password_file: .*(is no file; write|Is a directory; write) the password"
    ):
        Secret(tmp_path / "p").value()


def test_the_remedies_work(tmp_path):
    path = tmp_path / "p"
    path.write_text(WORD)
    path.chmod(0o644)
    with pytest.raises(UserError, match=f"chmod 600 {path}"):
        Secret(path).value()
    os.chmod(path, 0o600)
    assert Secret(path).value() == WORD


def test_a_missing_variable_and_two_references(monkeypatch):
    monkeypatch.delenv("KV_PASSWORD", raising=False)
    said = "password_env: $KV_PASSWORD has no password; export KV_PASSWORD in the shell that starts the run"
    for word in (None, ""):
        if word is not None:
            monkeypatch.setenv("KV_PASSWORD", word)
        with pytest.raises(UserError) as caught:
            Secret(variable="KV_PASSWORD").value()
        assert str(caught.value) == said
    with pytest.raises(UserError, match="leave one of them out"):
        Secret.of({"password_file": "/a", "password_env": "B"})


def test_a_reference_for_another_program_has_an_absolute_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Secret.of({"password_file": "p"}).keys() == {"password_file": str(tmp_path / "p")}
    assert Secret.of({"password_env": "P"}).keys() == {"password_env": "P"}


def test_a_private_file_takes_the_place_of_one_that_others_can_read(tmp_path):
    path = tmp_path / "p"
    path.write_text("old")
    path.chmod(0o666)
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


@given(st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1))
def test_quoting_keeps_every_character(text):
    assert parsed(f"requirepass {quoted(text)}") == ("requirepass", text)
