"""Servers that are there before a run: Valkey by hand, a TLS terminator before it, and a page of a node exporter."""

import contextlib
import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis

from workflow.hyperkv.machine.processes import OwnedProcess, free_port
from workflow.hyperkv.stores.placed.place import Place
from workflow.hyperkv.stores.valkey import valkey_binary

OTHERS = {b"others:%d" % number: b"theirs %d" % number for number in range(1000)}


@dataclass
class There:
    """A Valkey server with keys of others in it."""

    port: int
    process: OwnedProcess

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self, **options) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=60, **options)

    def keys_of_others(self, **options) -> dict[bytes, bytes]:
        """All keys but those of theirs that are as they were; nothing where none was touched and ours are gone."""
        with self.client(**options) as client:
            found = {key: client.get(key) for key in client.scan_iter(count=1000)}
        return {key: found.get(key, b"gone") for key in found | OTHERS if found.get(key) != OTHERS.get(key)}


@contextlib.contextmanager
def there(folder: Path, *words: str, password: str | None = None, filled: bool = True) -> Iterator[There]:
    """A server of its own process group on loopback. words: of its command line."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    argv = [valkey_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = OwnedProcess([*argv, *words], log=folder / f"{port}.log", label="a server")
    process.start()
    made = There(port, process)
    try:
        process.wait_ready(lambda: _answers(made), 60)
        if filled:
            with made.client(password=password) as client:
                client.mset(OTHERS)
        yield made
    finally:
        process.stop(15)


def _answers(made: There) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", made.port), timeout=1):
        return True
    return False


@dataclass
class Certificates:
    """Files of a signer, and of a server of the name localhost that it signed."""

    ca_file: Path
    cert_file: Path
    key_file: Path


def certificates(folder: Path) -> Certificates:
    """Made by openssl."""
    names = ("ca.crt", "ca.key", "server.crt", "server.key", "server.csr")
    ca, ca_key, cert, key, asked = (folder / name for name in names)
    ext = folder / "ext"
    ext.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(*new, "-x509", "-days", "2", "-subj", "/CN=a signer", "-keyout", ca_key, "-out", ca)
    _openssl(*new, "-subj", "/CN=localhost", "-keyout", key, "-out", asked)
    signed = ["x509", "-req", "-in", asked, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2"]
    _openssl(*signed, "-extfile", ext, "-out", cert)
    return Certificates(ca, cert, key)


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def behind_tls(port: int, own: Certificates, clients: bool = False) -> Iterator[int]:
    """The port of a terminator: TLS to it goes in the clear to `port`. clients: whether it asks for their certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert_file, own.key_file)
    if clients:
        context.load_verify_locations(own.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = [listener]

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                open_ones.append(plain)
                threading.Thread(target=terminate, args=(plain,), daemon=True).start()

    def terminate(plain: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as outside:
            inside = socket.create_connection(("127.0.0.1", port))
            open_ones.extend([outside, inside])
            threading.Thread(target=pump, args=(inside, outside), daemon=True).start()
            pump(outside, inside)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for each in open_ones:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@dataclass
class Exporter:
    """A page as the node exporter has it. read_bytes: what it tells of device nvme0n1; step: how much more with each asking."""

    read_bytes: int = 1 << 30
    step: int = 0
    asked: int = 0
    url: str = ""
    headers: list[str] = field(default_factory=list)

    def page(self) -> str:
        self.asked += 1
        self.read_bytes += self.step
        return (
            "# HELP node_disk_read_bytes_total The total number of bytes read successfully.\n"
            "# TYPE node_disk_read_bytes_total counter\n"
            'node_disk_read_bytes_total{device="dm-0"} 1.2345e+07\n'
            f'node_disk_read_bytes_total{{device="nvme0n1"}} {self.read_bytes:.9e}\n'
            "# HELP node_disk_written_bytes_total The total number of bytes written successfully.\n"
            "# TYPE node_disk_written_bytes_total counter\n"
            'node_disk_written_bytes_total{device="dm-0"} 0\n'
            'node_disk_written_bytes_total{device="nvme0n1"} 4.096e+03\n'
            "# HELP go_goroutines Number of goroutines that currently exist.\n"
            "# TYPE go_goroutines gauge\n"
            "go_goroutines 8\n"
        )


@contextlib.contextmanager
def exporter(step: int = 0) -> Iterator[Exporter]:
    """One on loopback."""
    told = Exporter(step=step)

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = told.page().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told.url = f"http://127.0.0.1:{server.server_port}/metrics"
        try:
            yield told
        finally:
            server.shutdown()


def place_of(*addresses: str, **keys) -> dict:
    """A scenario's `place` as a checked configuration has it."""
    nothing = dict.fromkeys(("user", "tls", "metrics_url", "metrics_device")) | {
        "consent": False,
        "cluster": False,
    }
    return nothing | {"addresses": list(addresses)} | keys


def placed(*addresses: str, password_file: Path | None = None, **keys) -> Place:
    """The same of a new run."""
    found = Place.of({"place": place_of(*addresses, **keys), "password_file": password_file})
    assert found is not None
    return found
