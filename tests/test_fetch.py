"""Downloads appear only when they are what was asked for."""

import hashlib
from pathlib import Path

import pytest

from workflow.hyperkv.errors import UserError
from workflow.hyperkv.fetch import fetch


def test_the_right_bytes_arrive(tmp_path: Path):
    source, out = tmp_path / "source", tmp_path / "folder" / "out"
    source.write_bytes(b"trace")
    fetch(source.as_uri(), hashlib.sha256(b"trace").hexdigest(), out)
    assert out.read_bytes() == b"trace"
    assert list(out.parent.iterdir()) == [out]


def test_other_bytes_do_not(tmp_path: Path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"something else")
    with pytest.raises(UserError, match="has SHA-256"):
        fetch(source.as_uri(), hashlib.sha256(b"trace").hexdigest(), out)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("url", ["file:///nowhere/at/all", "http://127.0.0.1:9/trace", "not a url"])
def test_an_unreachable_source_names_the_mend(tmp_path: Path, url: str):
    with pytest.raises(UserError, match="place the file at") as caught:
        fetch(url, "0" * 64, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
