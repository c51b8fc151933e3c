"""Stripes read from a server's own files: right bytes whatever the server says, nothing read elsewhere, GET for the rest."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.connectors.files_server import FilesServer
from tests.plugin.native import sanitized_run
from tests.stores.conftest import buffers_for, new_keys, payload, values_of
from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.machine.counters import supports_direct_io
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings, settings_from
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.direct import FileSettings
from workflow.plugin.lmcache_striped.file_counts import FileCounts
from workflow.plugin.lmcache_striped.pieces import READS
from workflow.plugin.lmcache_striped.stripes import stripe_key

STRIPE = 8192
SIZE = 5 * STRIPE + 77
STRIPES = 6  # with bytes, of a chunk


@pytest.fixture
def server(tmp_path) -> FilesServer:
    return FilesServer(tmp_path / "store", file_bytes=4 * STRIPE)


@pytest.fixture(scope="module", params=["python", "native"])
def client(request) -> Path | None:
    """What reads: Python, or the library at this path."""
    return None if request.param == "python" else request.getfixturevalue("library")


@contextlib.contextmanager
def direct(
    library: Path | None, endpoint: Endpoint, folder: Path, connections: int = 2, **options
) -> Iterator[tuple[StripedConnector, list[str]]]:
    lines: list[str] = []
    files = FileSettings((folder,), **{"threads": 3, "depth": 2} | options)
    with StripedConnector(
        [endpoint], connections, 10, STRIPE, library=library, files=files, report=lines.append
    ) as connector:
        yield connector, lines


def loads(connector: StripedConnector, keys: list[bytes], size: int = SIZE) -> list[bool]:
    """Which chunks are loaded; those have the right bytes."""
    buffers = buffers_for(keys, size)
    hits = connector.get(keys, buffers)
    for key, hit, buffer in zip(keys, hits, buffers, strict=True):
        assert not hit or payload(size).matches(key, buffer)
    return hits


def loaded(
    library: Path | None, server: FilesServer, folder: Path | None = None, **options
) -> tuple[list[bool], FileCounts, list[str]]:
    """Three chunks are saved, then loaded: which were, how, and what was said."""
    with (
        server.running() as endpoint,
        direct(library, endpoint, folder or server.folder, **options) as (one, lines),
    ):
        keys = new_keys(3)
        one.put(keys, values_of(keys, SIZE))
        return loads(one, keys), one.file_counts, lines


BY_FILES = FileCounts(3 * STRIPES, 0, 0, 3 * SIZE)
BY_GET = FileCounts(0, 3 * STRIPES, 0)
RETRIED = FileCounts(0, 3 * STRIPES, 3 * STRIPES)
WHOLE = [True] * 3


@pytest.mark.parametrize("read", READS)
def test_what_lies_in_files_is_read_there(client, server, read):
    assert loaded(client, server, read=read) == (WHOLE, BY_FILES, [])
    asked = [words[0] for words in server.asked]
    assert asked.count(b"GET") == 3  # stripes 0
    assert asked.count(b"LOCATE") <= 2


@given(
    size=st.integers(0, 300_000),
    stripe=st.integers(500, 120_000),
    connections=st.sampled_from([1, 3]),
    read=st.sampled_from(READS),
    threads=st.integers(1, 4),
    depth=st.integers(1, 8),
    seed=st.integers(0, 1 << 30),
)
def test_what_was_saved_is_loaded_whatever_its_size(
    client, tmp_path_factory, size, stripe, connections, read, threads, depth, seed
):
    server = FilesServer(tmp_path_factory.mktemp("sizes"), file_bytes=100_000)
    rng = np.random.default_rng(seed)
    values = [rng.integers(0, 256, size, dtype=np.uint8) for _ in range(3)]
    keys, lines = new_keys(3), []
    files = FileSettings((server.folder,), read, threads, depth)
    options = {"library": client, "files": files, "report": lines.append}
    with server.running() as endpoint:
        with StripedConnector([endpoint], connections, 10, stripe, **options) as connector:
            connector.put(keys, values)
            buffers = [np.zeros_like(value) for value in values]
            assert connector.get([*keys, *new_keys(1)], [*buffers, np.zeros(size, np.uint8)]) == [
                *WHOLE,
                False,
            ]
    assert all((buffer == value).all() for buffer, value in zip(buffers, values, strict=True))
    assert lines == []


def test_a_stripe_larger_than_every_buffer(client, server):
    key, size = new_keys(1), 13_000_001
    with server.running() as endpoint:
        files = FileSettings((server.folder,), "direct", 2, 2)
        with StripedConnector([endpoint], 1, 10, 12_000_000, library=client, files=files) as one:
            one.put(key, values_of(key, size))
            assert loads(one, key, size) == [True]
            assert one.file_counts == FileCounts(2, 0, 0, size)


def test_stripes_larger_than_every_buffer_among_others(client, server):
    """A large one is read while small ones are under way, each into its own buffer."""
    keys, size = new_keys(8), 5 * (1 << 20) + 70_000
    with server.running() as endpoint:
        files = FileSettings((server.folder,), "direct", 1, 2)
        with StripedConnector([endpoint], 1, 10, 5 << 20, library=client, files=files) as one:
            one.put(keys, values_of(keys, size))
            for _ in range(5):
                assert all(loads(one, keys, size))
            assert one.file_counts == FileCounts(5 * 16, 0, 0, 5 * 8 * size)


def test_several_servers_each_with_its_folder(client, tmp_path):
    servers = [FilesServer(tmp_path / name) for name in "ab"]
    with contextlib.ExitStack() as stack:
        endpoints = [stack.enter_context(server.running()) for server in servers]
        files = FileSettings(tuple(server.folder for server in servers))
        with StripedConnector(endpoints, 2, 10, STRIPE, library=client, files=files) as one:
            keys = new_keys(3)
            one.put(keys, values_of(keys, SIZE))
            assert loads(one, keys) == WHOLE
            assert one.file_counts == BY_FILES
    assert all(server.places for server in servers)


def test_more_stripes_than_are_asked_for_together(client, server):
    """Several LOCATEs on each connection, several rounds of them, and more files than are open at once."""
    keys, size = new_keys(1), 3000 * 1024
    server = FilesServer(server.folder, file_bytes=8192)
    with server.running() as endpoint:
        files = FileSettings((server.folder,))
        with StripedConnector([endpoint], 1, 10, 1024, library=client, files=files) as one:
            one.put(keys, values_of(keys, size))
            assert loads(one, keys, size) == [True]
            counts = one.file_counts
    assert counts.from_files + counts.by_get == 3000
    assert counts.from_files >= 256 * 7
    assert counts.retried == 0


@pytest.mark.parametrize("in_memory", [1, 5, 20])
def test_what_the_server_has_in_memory_comes_by_get_once(client, server, in_memory):
    """Few beside what is read from files, many afterwards."""
    keys = new_keys(8)
    left = {stripe_key(key, index) for key in keys for index in range(1, STRIPES + 1)}
    held = set(sorted(left)[:: len(left) // in_memory][:in_memory])
    server.located = lambda key, answer: b"" if key in held else answer
    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, lines):
        one.put(keys, values_of(keys, SIZE))
        assert loads(one, keys) == [True] * 8
        counts = one.file_counts
    from_files = 8 * STRIPES - in_memory
    assert (counts.from_files, counts.by_get, counts.retried) == (from_files, in_memory, 0)
    assert [words[0] for words in server.asked].count(b"GET") == 8 + in_memory
    assert lines == []


def test_no_file_stays_open(client, server):
    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, _):
        keys = new_keys(2)
        one.put(keys, values_of(keys, SIZE))
        assert loads(one, keys) == [True, True]
        held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [path for path in held if path.startswith(str(server.folder))]


def test_closing_waits_for_the_load_that_is_under_way(client, server):
    asked, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def located(key: bytes, answer: bytes | None) -> bytes | None:
        asked.set()
        assert go_on.wait(20)
        return answer

    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, _):
        keys = new_keys(3)
        one.put(keys, values_of(keys, SIZE))
        server.located = located
        with ThreadPoolExecutor(2) as threads:
            found = threads.submit(loads, one, keys)
            assert asked.wait(20)
            closing = threads.submit(lambda: (one.close(), closed.set()))
            assert not closed.wait(0.2)
            go_on.set()
            assert found.result() == WHOLE
            closing.result()
        with pytest.raises((StoreError, RuntimeError)):
            loads(one, keys)


# What a server may answer


def outside(server: FilesServer) -> Path:
    """A copy of the store beside it: right bytes in the wrong place."""
    copy = server.folder.with_name("outside")
    if not copy.exists():
        shutil.copytree(server.folder, copy)
        (server.folder / "link").symlink_to(copy)
        (server.folder / "db" / "link.blob").symlink_to(copy / "db/000001.blob")
        os.mkfifo(server.folder / "db/fifo")
    return copy


def renamed(server: FilesServer, new) -> None:
    lock = threading.Lock()

    def located(key: bytes, answer: bytes | None) -> bytes | None:
        if not answer:
            return answer
        offset, length, name = answer.split(b" ", 2)
        with lock:
            copy = outside(server)
        return new(copy, offset, length, name)

    server.located = located


ELSEWHERE = {
    "above": lambda copy, offset, length, name: b"%b %b ../outside/%b" % (offset, length, name),
    "above by a folder": lambda copy, offset, length, name: (
        b"%b %b db/../../outside/%b" % (offset, length, name)
    ),
    "absolute": lambda copy, offset, length, name: b"%b %b %b/%b" % (offset, length, bytes(copy), name),
    "a folder that is a link": lambda copy, offset, length, name: b"%b %b link/%b" % (offset, length, name),
    "a file that is a link": lambda copy, offset, length, name: b"%b %b db/link.blob" % (offset, length),
    "/proc": lambda copy, offset, length, name: b"%b %b /proc/self/mem" % (offset, length),
    "a device": lambda copy, offset, length, name: b"%b %b /dev/zero" % (offset, length),
    "a fifo": lambda copy, offset, length, name: b"%b %b db/fifo" % (offset, length),
    "a folder": lambda copy, offset, length, name: b"%b %b db" % (offset, length),
    "nothing of a name": lambda copy, offset, length, name: b"%b %b db//%b" % (offset, length, name),
    "a dot": lambda copy, offset, length, name: b"%b %b ./%b" % (offset, length, name),
    "a zero in the name": lambda copy, offset, length, name: b"%b %b %b\0x" % (offset, length, name),
    "not there": lambda copy, offset, length, name: b"%b %b db/999999.blob" % (offset, length),
    "beyond the end": lambda copy, offset, length, name: b"99999999 %b %b" % (length, name),
    "a part beyond the end": lambda copy, offset, length, name: (
        b"%d %b %b" % ((copy / name.decode()).stat().st_size - 10, length, name)
    ),
    "the largest offset": lambda copy, offset, length, name: b"%d %b %b" % (10**18 - 1, length, name),
    "another place": lambda copy, offset, length, name: b"%d %b %b" % (int(offset) - 1, length, name),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("how", ELSEWHERE)
def test_nothing_is_read_elsewhere_and_the_load_goes_on(client, server, how, read):
    renamed(server, ELSEWHERE[how])
    hits, counts, _ = loaded(client, server, read=read)
    assert (hits, counts) == (WHOLE, RETRIED)


NO_PLACE = {
    "empty": b"",
    "words": b"somewhere",
    "no path": b"1 2",
    "no path, a space": b"1 2 ",
    "a minus": b"-1 8248 db/000001.blob",
    "two spaces": b"1  8248 db/000001.blob",
    "beyond 64 bits": b"99999999999999999999 8248 db/000001.blob",
    "another length": b"40 7 db/000001.blob",
    "a long path": b"40 8248 " + b"d/" * 2000,
    "a longer one": b"40 8248 " + b"d/" * 200_000,
    "bytes": bytes(range(256)),
    "line ends": b"1 2\r\n$3\r\nabc\r\n",
}


@pytest.mark.parametrize("how", NO_PLACE)
def test_an_answer_that_is_no_place_is_asked_for_by_get(client, server, how):
    server.located = lambda key, answer: answer and NO_PLACE[how]
    hits, counts, _ = loaded(client, server)
    assert (hits, counts.from_files, counts.by_get) == (WHOLE, 0, 3 * STRIPES)


@pytest.mark.parametrize(
    "reply",
    [b":1\r\n", b"$-1\r\n", b"*0\r\n", b"*-1\r\n", b"*99999\r\n", b"nonsense\r\n", b"\r\n", b"*%d\r\n:1\r\n"],
)
def test_a_reply_that_is_no_array_of_places(client, server, reply):
    server.array = lambda right: reply.replace(b"*%d", right.split(b"\r\n")[0])
    hits, counts, lines = loaded(client, server)
    assert (hits, counts) == (WHOLE, BY_GET)
    assert all("is asked for by GET" in line for line in lines)
    assert lines


def test_a_missing_stripe_makes_its_chunk_a_miss(client, server):
    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, lines):
        keys = new_keys(3)
        one.put(keys, values_of(keys, SIZE))
        del server.places[stripe_key(keys[1], 2)]
        assert loads(one, keys) == [True, False, True]
        assert (one.damaged_chunks, lines) == (0, [])


# Files that are not what they were


def damage(server: FilesServer, change) -> None:
    for path in (server.folder / "db").iterdir():
        change(path)


@pytest.mark.parametrize(
    "change",
    [
        Path.unlink,
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(path.read_bytes()[::-1]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
    ],
    ids=["gone", "empty", "half", "turned round", "zeros"],
)
def test_what_files_do_not_hold_any_more_comes_by_get(client, server, change):
    """The server itself has it still, as one has that holds its files open, or answers from its memory."""
    kept: dict[bytes, bytes | None] = {}
    server.located = lambda key, answer: answer
    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, lines):
        keys = new_keys(3)
        one.put(keys, values_of(keys, SIZE))
        kept |= {key: server.value(key) for key in server.places}
        server.value = lambda key: kept.get(key) or server._small.get(key)  # type: ignore[method-assign]
        damage(server, change)
        assert loads(one, keys) == WHOLE
        counts = one.file_counts
    assert counts.from_files + counts.by_get == 3 * STRIPES
    assert counts.retried == counts.by_get > 0
    assert len(lines) == (not counts.from_files)


def test_damage_that_the_server_has_too_is_a_miss(client, server):
    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, _):
        keys = new_keys(3)
        one.put(keys, values_of(keys, SIZE))
        name, offset, length = server.places[stripe_key(keys[1], 3)]
        with open(server.folder / name, "r+b") as file:
            file.seek(offset + length - 1)
            last = file.read(1)
            file.seek(offset + length - 1)
            file.write(bytes([last[0] ^ 1]))
        assert loads(one, keys) == [True, False, True]
        assert one.damaged_chunks == 1
        assert one.file_counts == FileCounts(3 * STRIPES - 1, 1, 1, 3 * SIZE - STRIPE)


def test_stripes_of_two_saves_are_asked_for_again_and_are_a_miss(client, server):
    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, _):
        (key,) = keys = new_keys(1)
        one.put(keys, [np.invert(value) for value in values_of(keys, SIZE)])
        old = server.places[stripe_key(key, 2)]
        one.put(keys, values_of(keys, SIZE))
        server.places[stripe_key(key, 2)] = old
        assert loads(one, keys) == [False]
        assert one.damaged_chunks == 1


# Where files cannot be read


def test_a_server_without_locate_is_told_once(client, server):
    server.locates = False
    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, lines):
        keys = new_keys(3)
        one.put(keys, values_of(keys, SIZE))
        assert [loads(one, keys), loads(one, keys)] == [WHOLE, WHOLE]
        assert one.file_counts == FileCounts(0, 6 * STRIPES, 0)
    (line,) = lines
    assert line.endswith(
        "it answered LOCATE with ERR unknown command `LOCATE`; what is not read from files is asked for by GET"
    )
    assert len([words for words in server.asked if words[0] == b"LOCATE"]) == 2  # one on each connection


def test_a_folder_that_is_not_there(client, server, tmp_path):
    hits, counts, lines = loaded(client, server, tmp_path / "nowhere")
    assert (hits, counts) == (WHOLE, BY_GET)
    assert len(lines) == 1
    assert "cannot open" in lines[0]
    assert "nowhere: No such file or directory" in lines[0]


def test_the_folder_of_another_store_is_left_alone(client, server, tmp_path):
    other = FilesServer(tmp_path / "other", file_bytes=4 * STRIPE)
    loaded(client, other)
    with server.running() as endpoint, direct(client, endpoint, other.folder) as (one, lines):
        keys = new_keys(3)
        one.put(keys, values_of(keys, SIZE))
        assert [loads(one, keys), loads(one, keys)] == [WHOLE, WHOLE]
        assert one.file_counts == FileCounts(0, 6 * STRIPES, 3 * STRIPES)
    assert len(lines) == 1
    assert f"what it says is not what lies in {other.folder}" in lines[0]


def test_files_that_may_not_be_read(client, server):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    with server.running() as endpoint, direct(client, endpoint, server.folder) as (one, lines):
        keys = new_keys(3)
        one.put(keys, values_of(keys, SIZE))
        damage(server, lambda path: path.chmod(0))
        server.value = lambda key: None  # type: ignore[method-assign]
        assert loads(one, keys) == [False] * 3
    assert os.strerror(errno.EACCES) in lines[0]


FORBIDDEN = """
import ctypes, struct, sys
sys.path.insert(0, ".")
from pathlib import Path
import numpy as np
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.direct import FileSettings

libc = ctypes.CDLL(None, use_errno=True)
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(text)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0  # io_uring_setup: EPERM
library, folder, port, key, size, stripe = sys.argv[1:]
buffer, lines = np.zeros(int(size), np.uint8), []
files = FileSettings((Path(folder),), "direct", 2, 2)
with StripedConnector([Endpoint("127.0.0.1", int(port))], 2, 10, int(stripe), library=Path(library), files=files,
                      report=lines.append) as one:
    assert one.get([bytes.fromhex(key)], [buffer]) == [True]
    print(one.file_counts.from_files, lines)
"""


def test_io_uring_that_is_forbidden(library, server):
    if not supports_direct_io(server.folder):
        pytest.skip("the file system has no O_DIRECT")
    with server.running() as endpoint, direct(library, endpoint, server.folder) as (one, _):
        (key,) = keys = new_keys(1)
        one.put(keys, values_of(keys, SIZE))
        words = [library, server.folder, endpoint.port, key.hex(), SIZE, STRIPE]
        done = subprocess.run(
            [sys.executable, "-c", FORBIDDEN, *map(str, words)], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    said = "['io_uring is refused (Operation not permitted); more threads read files instead']"
    assert done.stdout.strip() == f"{STRIPES} {said}"


def test_the_cache_counts_and_its_settings_say_where_files_are(client, server):
    with server.running() as endpoint:
        keys = {"p.endpoints": f"127.0.0.1:{endpoint.port}", "p.dirs": server.folder, "p.library": client}
        settings = settings_from(
            keys | {"p.read": "cached", "p.read_threads": 2, "p.stripe_bytes": STRIPE}, "p"
        )
        assert settings.files == FileSettings((server.folder,), "cached", 2)
        assert settings.loads_by.endswith(f", files in {server.folder} (cached)")
        cache = StripedCache(settings)
        chunks = new_keys(3)
        assert cache.offer(chunks, values_of(chunks, SIZE), lambda saved: None)
        assert cache.wait_saved(10)
        assert cache.load(chunks, buffers_for(chunks, SIZE)) == WHOLE
        assert cache.counts.files == BY_FILES
        cache.close()


def test_loads_of_several_threads_go_on_at_once(client, server):
    """The server answers no LOCATE before two are asked."""
    together = threading.Barrier(2)

    def located(key: bytes, answer: bytes | None) -> bytes | None:
        if key.endswith(b"#1"):
            together.wait(20)
        return answer

    with server.running() as endpoint:
        settings = CacheSettings((endpoint,), 1, stripe_bytes=STRIPE, library=client, dirs=(server.folder,))
        cache = StripedCache(settings)
        keys = new_keys(2)
        assert cache.offer(keys, values_of(keys, SIZE), lambda saved: None)
        assert cache.wait_saved(10)
        server.located = located
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda key: cache.load([key], buffers_for([key], SIZE)), keys))
        assert found == [[True], [True]]
        assert cache.counts.files == FileCounts(2 * STRIPES, 0, 0, 2 * SIZE)
        cache.close()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"p.dirs": "/a,/b"}, r"p\.dirs: 2 folders for 1 endpoints; write one for each"),
        ({"p.dirs": "/a", "p.read": "fast"}, r"p\.read: 'fast' is wrong; allowed are cached, direct, auto"),
        ({"p.dirs": "/a", "p.read_threads": 0}, r"p\.read_threads: 0 is wrong"),
        ({"p.dirs": "/a", "p.read_depth": 65}, r"p\.read_depth: 65 is wrong; at most 64"),
    ],
)
def test_wrong_settings_name_the_key(keys, words):
    with pytest.raises(UserError, match=words):
        settings_from({"p.endpoints": "127.0.0.1:1", **keys}, "p")


SANITIZED = """
import random, sys
sys.path.insert(0, ".")
from pathlib import Path
import numpy as np
from tests.connectors.files_server import FilesServer
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.direct import FileSettings
from workflow.plugin.lmcache_striped.pieces import READS

library, folder = map(Path, sys.argv[1:])
server, random = FilesServer(folder, file_bytes=40_000), random.Random(1)
def located(key, answer):
    if not answer or random.random() < 0.5:
        return answer
    changed = bytearray(answer)
    for _ in range(random.randint(1, 3)):
        changed[random.randrange(len(changed))] = random.choice(b"0123456789 /.-db\\\\0")
    return bytes(changed)
server.located = located
value = np.random.default_rng(1).integers(0, 256, 100_077, dtype=np.uint8)
with server.running() as endpoint:
    for turn in range(60):
        files = FileSettings((server.folder,), READS[turn % 3], turn % 3 + 1, turn % 2 + 1)
        with StripedConnector([endpoint], 2, 20, 8192, library=library, files=files) as one:
            one.put([b"key"], [value])
            buffer = np.zeros_like(value)
            assert one.get([b"key", b"not"], [buffer, buffer.copy()]) == [True, False]
            assert (buffer == value).all()
print("done")
"""


def test_no_wrong_memory_whatever_is_answered(tmp_path):
    done = sanitized_run(tmp_path, SANITIZED, str(tmp_path / "store"))
    assert done.stdout.strip() == "done", done.stderr
