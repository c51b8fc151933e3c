"""Nothing that goes to loopback goes through a proxy: our clients, and what the engine's programs start with."""

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import requests

from tests.engines.vllm.slices import measured
from tests.helpers import eventually
from workflow.hyperkv.base import direct_http
from workflow.hyperkv.build.build_environment import probe
from workflow.hyperkv.engines.vllm.cells import SINGLE
from workflow.hyperkv.machine.processes import OwnedProcess

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy on loopback that keeps what it was asked for and refuses it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Refusal)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Refusal(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.server.asked.append(self.request.recv(200))
        self.request.sendall(b"HTTP/1.1 502 Refused\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def proxy(monkeypatch) -> Iterator[Proxy]:
    for name in (*VARIABLES, "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Proxy() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def surroundings(proxy: Proxy, kind: str) -> dict[str, str]:
    address = proxy.address
    return {
        "upper": dict.fromkeys(VARIABLES[3:], f"http://{address}") | {"no_proxy": "", "NO_PROXY": ""},
        "socks": dict.fromkeys(VARIABLES, f"socks5h://{address}") | {"NO_PROXY": "corp.example"},
        "all": dict.fromkeys(VARIABLES, f"http://{address}")
        | {"no_proxy": "a.example", "NO_PROXY": "b.example"},
    }[kind]


def test_the_proxy_is_one_that_would_be_noticed(proxy, monkeypatch):
    """What a client does that heeds the variables: the other tests can fail."""
    monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
    assert requests.get("http://127.0.0.1:9/health", timeout=5).status_code == 502
    assert proxy.asked[0].startswith(b"GET http://127.0.0.1:9/health")


@pytest.mark.parametrize("kind", ["upper", "socks"])
def test_an_engine_is_ready_and_measured_past_every_proxy(kind, proxy, spec, tmp_path, monkeypatch):
    for name, value in surroundings(proxy, kind).items():
        monkeypatch.setenv(name, value)
    records = measured(spec, tmp_path, SINGLE, 2)
    assert [(record["valid"], record["reasons"]) for record in records] == [(True, [])] * 2
    assert proxy.asked == []


def test_a_users_netrc_does_not_reach_loopback(proxy, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password word\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    direct_http.request("GET", f"http://{proxy.address}/health", timeout=5)
    assert b"Authorization" not in proxy.asked[0]


TELL = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if 'proxy' in k.lower()}))"


@pytest.mark.parametrize("own", [{}, {"no_proxy": "mine.example"}])
def test_what_is_started_keeps_the_proxy_and_passes_it_for_loopback(own, proxy, tmp_path, monkeypatch):
    for name, value in surroundings(proxy, "all").items():
        monkeypatch.setenv(name, value)
    process = OwnedProcess([sys.executable, "-c", TELL], log=tmp_path / "log", label="child", env=own)
    with process:
        eventually(lambda: process.exit_code() is not None)
    told = json.loads(process.last_line())
    assert told["http_proxy"] == f"http://{proxy.address}"
    first = own.get("no_proxy", "a.example")
    assert told["no_proxy"] == told["NO_PROXY"] == f"{first},b.example,127.0.0.1,localhost,::1"


def test_an_environments_probe_passes_loopback_too(proxy, monkeypatch):
    given = []

    def run(argv, env, **_):
        given.append(env)
        return subprocess.CompletedProcess(argv, 0, '{"versions": {}}', "")

    monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
    monkeypatch.setattr(subprocess, "run", run)
    probe(sys.executable, "engine")
    assert "127.0.0.1" in given[0]["no_proxy"]
    assert given[0]["http_proxy"] == os.environ["http_proxy"]
