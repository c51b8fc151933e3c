"""Downloads appear only when they are what was asked for."""

import hashlib
import socket
import threading
import urllib.error
from collections.abc import Iterator
from email.message import Message
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.helpers import refused
from workflow.hyperkv.base.errors import PassingError, UserError
from workflow.hyperkv.machine import download as module
from workflow.hyperkv.machine.download import fetch, may_pass

RIGHT = hashlib.sha256(b"trace").hexdigest()


def test_the_right_bytes_arrive(tmp_path: Path):
    source, out = tmp_path / "source", tmp_path / "folder" / "out"
    source.write_bytes(b"trace")
    fetch(source.as_uri(), hashlib.sha256(b"trace").hexdigest(), out)
    assert out.read_bytes() == b"trace"
    assert list(out.parent.iterdir()) == [out]
    (tmp_path / "plain").write_bytes(b"")
    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_no_home_and_no_cache_of_a_user_is_needed(tmp_path: Path, monkeypatch, capfd):
    source, home = tmp_path / "source", tmp_path / "home"
    source.write_bytes(b"trace")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    fetch(source.as_uri(), None, tmp_path / "out")
    assert not home.exists()
    assert "".join(capfd.readouterr()) == ""


def test_what_a_killed_download_left_is_removed_and_what_is_there_is_asked_for_again(tmp_path: Path):
    source, out, left = (tmp_path / name for name in ("source", "out", "out.partial"))
    source.write_bytes(b"trace")
    out.write_bytes(b"earlier")
    left.mkdir()
    (left / "tmpx").write_bytes(b"tr")
    fetch(source.as_uri(), None, out)
    assert out.read_bytes() == b"trace"
    assert not left.exists()


def test_a_body_is_kept_as_it_was_sent(server, tmp_path: Path):
    server.headers = {"Content-Encoding": "gzip"}
    fetch(server.url, RIGHT, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"trace"


def test_other_bytes_do_not(tmp_path: Path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"something else")
    with pytest.raises(UserError, match="does not match the known hash"):
        fetch(source.as_uri(), hashlib.sha256(b"trace").hexdigest(), out)
    assert list(tmp_path.iterdir()) == [source]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """No waiting between attempts, and no proxy between a test and a closed port."""
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Server:
    """Answers each request with the next of its replies, the last one for ever; counts them. "cut" breaks off."""

    def __init__(self) -> None:
        self.replies: list[int | str] = [200]
        self.headers: dict[str, str] = {}
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reply = outer.replies[min(outer.asked, len(outer.replies) - 1)]
                outer.asked += 1
                self.send_response(200 if reply == "cut" else int(reply))
                self.send_header("Content-Length", "9" if reply == "cut" else "5")
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"trace")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/trace"


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


@pytest.mark.parametrize("reply", [500, 502, 503, 504, 429, 408])
def test_what_may_pass_is_tried_again(reply, server, tmp_path):
    server.replies = [reply, reply, 200]
    fetch(server.url, RIGHT, tmp_path / "out")
    assert server.asked == 3
    assert (tmp_path / "out").read_bytes() == b"trace"
    server.asked, server.replies = 0, [reply]
    with pytest.raises(UserError, match=r"tried 3 times") as caught:
        fetch(server.url, RIGHT, tmp_path / "again")
    assert server.asked == 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reply", [400, 401, 403, 404, 410, 501])
def test_what_stays_is_tried_once(reply, server, tmp_path):
    server.replies = [reply, 200]
    with pytest.raises(UserError, match="cannot download"):
        fetch(server.url, RIGHT, tmp_path / "out")
    assert server.asked == 1


def test_a_wrong_digest_is_tried_once(server, tmp_path):
    with pytest.raises(UserError, match="does not match the known hash"):
        fetch(server.url, "0" * 64, tmp_path / "out")
    assert server.asked == 1


def test_another_algorithm(server, tmp_path):
    fetch(server.url, hashlib.md5(b"trace").hexdigest(), tmp_path / "out", "md5")
    with pytest.raises(UserError, match=r"expected md5:0 but got [0-9a-f]{32}"):
        fetch(server.url, "0", tmp_path / "out", "md5")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), False),
        (urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution")), False),
        (urllib.error.URLError(ConnectionRefusedError()), True),
        (urllib.error.URLError(TimeoutError()), True),
        (urllib.error.URLError("unknown url type: x"), False),
        (urllib.error.HTTPError("u", 404, "Not Found", Message(), None), False),
        (ConnectionResetError(), True),
        (IncompleteRead(b""), True),
        (PermissionError(), False),
        (ValueError(), False),
    ],
)
def test_may_pass(error, expected):
    assert may_pass(error) is expected
    assert issubclass(PassingError, UserError)


def test_a_file_that_is_cut_off_is_asked_for_again(server, tmp_path):
    server.replies = ["cut", 200]
    fetch(server.url, RIGHT, tmp_path / "out")
    assert server.asked == 2
    server.asked, server.replies = 0, ["cut"]
    with pytest.raises(UserError, match=r"broke off after 5 of 9 bytes.*tried 3 times"):
        fetch(server.url, RIGHT, tmp_path / "again")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("url", ["file:///nowhere/at/all", "http://127.0.0.1:9/trace", "not a url"])
def test_an_unreachable_source_names_the_mend(tmp_path: Path, url: str):
    with refused("place the file at"):
        fetch(url, "0" * 64, tmp_path / "out")
    assert not list(tmp_path.iterdir())
