"""A server that reads a kvrocks.conf and answers as FAKE_KVROCKS (JSON) tells it to; enough RESP for redis-py.

Keys of FAKE_KVROCKS: unknown (keys that CONFIG GET leaves out), applied (values that CONFIG GET gives instead),
die (text to print before ending with status 1), say (text to print at start). Words of its command line after the
file's name win over the file, as Kvrocks's do; a value that is set can be got. With requirepass it answers who gave it.
"""

import json
import os
import shlex
import socketserver
import sys
from pathlib import Path

SCRIPT = json.loads(os.environ.get("FAKE_KVROCKS", "{}"))


def configuration(path):
    lines = [shlex.split(line) for line in Path(path).read_text().splitlines()]
    return {key: " ".join(values) for key, *values in lines}


WORDS = sys.argv[sys.argv.index("-c") + 1 :]
CONFIG = configuration(WORDS[0])
CONFIG |= {key.removeprefix("--"): value for key, value in zip(WORDS[1::2], WORDS[2::2], strict=True)}
VALUES = {}


def bulk(text):
    data = text.encode("latin-1")
    return b"$%d\r\n%b\r\n" % (len(data), data)


def answer(words):
    command = words[0].upper()
    if command == "PING":
        return b"+PONG\r\n"
    if command == "CONFIG":
        keys = {key: value for key, value in CONFIG.items() if key not in SCRIPT.get("unknown", [])}
        pairs = (keys | SCRIPT.get("applied", {})).items()
        return b"*%d\r\n" % (2 * len(pairs)) + b"".join(bulk(word) for pair in pairs for word in pair)
    if command == "INFO":
        return bulk("# Server\r\nkvrocks_version:2.10.0\r\nkvrocks_git_sha1:abc1234\r\n")
    if command == "SET":
        VALUES[words[1]] = words[2]
    if command == "GET":
        return bulk(VALUES[words[1]])
    return b"+OK\r\n"


class Handler(socketserver.StreamRequestHandler):
    allowed = False

    def handle(self):
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2].decode("latin-1"))
            self.wfile.write(self.answer_if_allowed(words))

    def answer_if_allowed(self, words):
        password = CONFIG.get("requirepass")
        if words[0].upper() == "AUTH":
            self.allowed = words[-1].encode("latin-1").decode() == password
            return b"+OK\r\n" if self.allowed else b"-ERR invalid password\r\n"
        return answer(words) if self.allowed or not password else b"-NOAUTH Authentication required.\r\n"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if "die" in SCRIPT:
    print(SCRIPT["die"], flush=True)
    sys.exit(1)
if "say" in SCRIPT:
    print(SCRIPT["say"], flush=True)
Server(("127.0.0.1", int(CONFIG["port"])), Handler).serve_forever()
