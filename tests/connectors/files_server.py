"""A RESP server that keeps its values in files and says where: LOCATE as Kvrocks and rocksdb answer it, or as a test has it."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from workflow.plugin.lmcache_striped.deadline import Endpoint

Answer = bytes | None  # of LOCATE for one key


def bulk(value: Answer) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


class FilesServer:
    """Values of `least_bytes` and more lie one after the other in files of `folder`, of about file_bytes; others in memory.

    places: of each value its file, offset and length, in order of saving. located: changes the answer for a key. array: changes the whole
    reply to LOCATE. locates: whether it knows LOCATE. asked: commands so far, each with its keys.
    """

    def __init__(self, folder: Path, least_bytes: int = 100, file_bytes: int = 1 << 22):
        self.folder = folder
        self.places: dict[bytes, tuple[str, int, int]] = {}
        self.located: Callable[[bytes, Answer], Answer] = lambda key, answer: answer
        self.array: Callable[[bytes], bytes] = lambda reply: reply
        self.locates = True
        self.asked: list[list[bytes]] = []
        self._least_bytes, self._file_bytes = least_bytes, file_bytes
        self._small: dict[bytes, bytes] = {}
        self._lock = threading.Lock()
        (folder / "db").mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[Endpoint]:
        """Serve on a free port of loopback."""
        outer = self

        class Peer(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):
                    while words := outer._command(self.rfile):
                        self.wfile.write(outer._reply(words))
                        self.wfile.flush()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        with Server(("127.0.0.1", 0), Peer) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield Endpoint(*server.server_address[:2])
            finally:
                server.shutdown()
                thread.join()

    def value(self, key: bytes) -> Answer:
        """What is kept under a key."""
        if key in self.places:
            name, offset, length = self.places[key]
            with open(self.folder / name, "rb") as file:
                file.seek(offset)
                return file.read(length)
        return self._small.get(key)

    def _command(self, stream) -> list[bytes]:
        line = stream.readline()
        if not line:
            return []
        words = []
        for _ in range(int(line[1:])):
            words.append(stream.read(int(stream.readline()[1:]) + 2)[:-2])
        return words

    def _reply(self, words: list[bytes]) -> bytes:
        name, keys = words[0].upper(), words[1:]
        if name == b"LOCATE" and self.locates:
            self.asked.append(words)
            answers = [bulk(self.located(key, self._place(key))) for key in keys]
            return self.array(b"*%d\r\n%b" % (len(answers), b"".join(answers)))
        with self._lock:
            self.asked.append([name, *keys] if name != b"SET" else [name, keys[0]])
            match name:
                case b"SET":
                    self._keep(*keys)
                    return b"+OK\r\n"
                case b"GET":
                    return bulk(self.value(keys[0]))
                case b"EXISTS":
                    return b":%d\r\n" % (keys[0] in self.places or keys[0] in self._small)
        return b"-ERR unknown command `%b`\r\n" % name

    def _keep(self, key: bytes, value: bytes) -> None:
        self.places.pop(key, None)
        self._small.pop(key, None)
        if len(value) < self._least_bytes:
            self._small[key] = value
            return
        names = sorted(path.name for path in (self.folder / "db").glob("*.blob"))
        path = self.folder / "db" / (names[-1] if names else "000001.blob")
        if path.exists() and path.stat().st_size >= self._file_bytes:
            path = path.with_name(f"{int(path.stem) + 1:06}.blob")
        with path.open("ab") as file:
            file.write(b"\xa5" * 32 + key)  # RocksDB's record begins with as much
            offset = file.tell()
            file.write(value)
        self.places[key] = (f"db/{path.name}", offset, len(value))

    def _place(self, key: bytes) -> Answer:
        if key in self.places:
            name, offset, length = self.places[key]
            return f"{offset} {length} {name}".encode()
        return b"" if key in self._small else None
