"""The rocksdb store's server: its configuration, its protocol, and the real process over a socket."""

import contextlib
import os
import resource
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import rocksdict
from hypothesis import given
from hypothesis import strategies as st

from tests.stores.servers import (
    MIB,
    TIMEOUT_S,
    Running,
    receive,
    receive_all,
    refused,
    running,
)
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.stores import resp_protocol
from workflow.hyperkv.stores.rocksdb import keys as rocksdb_keys
from workflow.hyperkv.stores.rocksdb import options as rocksdb_options

NOAUTH = b"-NOAUTH Authentication required.\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Running]:
    with running(
        tmp_path_factory.mktemp("rocksdb"), "--set", "rocksdb.write_options.disable_wal", "yes"
    ) as one:
        yield one


@pytest.fixture
def client(server) -> Iterator[redis.Redis]:
    with server.client() as connected:
        connected.flushall()
        yield connected


# Configuration


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [
        (("rocksdb.write_buffer_size", "512"), "rocksdb.write_buffer_size", 512),
        (("rocksdb.enable_blob_files", "no"), "rocksdb.enable_blob_files", False),
        (("ROCKSDB.WRITE_OPTIONS.DISABLE_WAL", "YES"), "rocksdb.write_options.disable_wal", True),
        (("proto-max-bulk-len", "64m"), "proto-max-bulk-len", 64 * MIB),
        (("dir", "/data/a b"), "dir", "/data/a b"),
        (("rocksdb.max_open_files", "-1"), "rocksdb.max_open_files", -1),
    ],
)
def test_a_key_with_its_value(pair, key, value):
    assert rocksdb_keys.parse_pairs([pair]) == {key: value}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rocksdb.write_buffer_size", "4097", "from 0 to 4096"),
        ("rocksdb.write_buffer_size", "64m", "whole number"),
        ("rocksdb.enable_blob_files", "true", "yes or no"),
        ("rocksdb.compression", "gzip", "one of no, snappy"),
        ("proto-max-bulk-len", "1x", "number of bytes"),
        ("rocksdb.write_bufer_size", "64", "did you mean rocksdb.write_buffer_size?"),
        ("rocksdb.delayed_write_rate", "5", "rocksdict store cannot express"),
        ("compaction-checker-cron", "* 0-7 * * *", "key of Kvrocks"),
    ],
)
def test_a_value_that_is_refused(key, value, words):
    with pytest.raises(UserError) as caught:
        rocksdb_keys.parse_pairs([(key, value)])
    assert words in str(caught.value)


def test_neutral_kvrocks_keys_are_accepted():
    assert rocksdb_keys.parse_pairs([("rocksdb.max_background_flushes", "-1"), ("daemonize", "no")]) == {}


@pytest.mark.parametrize("other", ["rocksdb.enable_pipelined_write", "rocksdb.write_options.sync"])
def test_contradictory_settings(other):
    with pytest.raises(UserError, match="disable_wal"):
        rocksdb_keys.complete({"rocksdb.write_options.disable_wal": True, other: True})


def test_units_reach_rocksdb():
    settings = rocksdb_keys.complete(
        {"rocksdb.write_buffer_size": 512, "rocksdb.blob_garbage_collection_age_cutoff": 30, "max-io-mb": 7}
    )
    calls = rocksdb_options.option_calls(settings)
    assert calls["set_write_buffer_size"] == (512 * MIB,)
    assert calls["set_max_total_wal_size"] == (512 * MIB,)
    assert calls["set_blob_gc_age_cutoff"] == (0.3,)
    assert calls["set_blob_file_size"] == (256 * MIB,)
    assert calls["set_auto_tuned_ratelimiter"] == (7 * MIB, 100_000, 10)
    assert calls["set_enable_blob_files"] == (True,)
    assert rocksdb_options.block_cache_bytes(settings) == 4096 * MIB
    assert (
        rocksdb_options.compressions_per_level(settings | {"rocksdb.compression": "lz4"})
        == ["no"] * 2 + ["lz4"] * 5
    )


def test_every_key_can_be_built():
    settings = rocksdb_keys.complete({"rocksdb.row_cache_size": 1, "rocksdb.compression_level": 3})
    for kind in ("lru", "hcc"):
        cache = rocksdb_options.new_block_cache(settings | {"rocksdb.block_cache_type": kind})
        rocksdb_options.build_options(settings, cache)
    rocksdb_options.build_write_options(settings)
    rocksdb_options.build_read_options(settings)


# Protocol


class Fragments:
    """A socket stand-in: each wait yields a fragment; MSG_WAITALL fills, a peek leaves bytes in place."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.arrived = b""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        whole = bool(flags & socket.MSG_WAITALL)
        while self.pieces and (not self.arrived or (whole and len(self.arrived) < size)):
            self.arrived += self.pieces.pop(0)
        data = self.arrived[:size]
        if not flags & socket.MSG_PEEK:
            self.arrived = self.arrived[size:]
        return data


def encode(arguments: list[bytes]) -> bytes:
    return resp_protocol.array([resp_protocol.bulk(word) for word in arguments])


large = st.integers(65530, 70000).map(lambda size: b"\r\n$*\x00" * (size // 5))
requests = st.lists(st.lists(st.binary(max_size=40) | large, min_size=1, max_size=4), min_size=1, max_size=5)


@given(requests, st.lists(st.integers(1, 90000), max_size=20))
def test_requests_survive_any_fragmentation(sent, sizes):
    stream = b"".join(map(encode, sent))
    pieces, start = [], 0
    for size in [*sizes, len(stream)]:
        pieces.append(stream[start : start + size])
        start += size
    reader = resp_protocol.RequestReader(Fragments([piece for piece in pieces if piece]), 1 * MIB)
    assert [reader.read() for _ in sent] == sent
    with pytest.raises(resp_protocol.ConnectionClosed):
        reader.read()
    assert reader.bytes_received == len(stream)


@given(st.binary(max_size=300))
def test_garbage_ends_in_a_defined_way(stream):
    reader = resp_protocol.RequestReader(Fragments([stream] if stream else []), 1 * MIB)
    with contextlib.suppress(resp_protocol.ProtocolError, resp_protocol.ConnectionClosed):
        for _ in range(len(stream) + 1):
            assert reader.read()
        pytest.fail("more requests than bytes")


PROTOCOL_ERRORS = [
    (b"*x\r\n", "invalid multibulk length"),
    (b"*1048577\r\n", "invalid multibulk length"),
    (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
    (b"*1\r\nx\r\n", "expected '$', got 'x'"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$1x\r\n", "invalid bulk length"),
    (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870913\r\n", "invalid bulk length"),
    (b'ECHO "half\r\n', "unbalanced quotes in request"),
    (b"a" * 70000, "too big inline request"),
    (b"*" + b"1" * 70000, "too big mbulk count string"),
]


@pytest.mark.parametrize(("stream", "text"), PROTOCOL_ERRORS)
def test_protocol_error_closes_the_connection(server, stream, text):
    with server.connect() as sock:
        sock.sendall(b"PING\r\n" + stream)
        assert receive_all(sock) == f"+PONG\r\n-ERR Protocol error: {text}\r\n".encode()


def test_inline_pipelined_and_empty_requests(server):
    with server.connect() as sock:
        sock.sendall(b'\r\n*0\r\n*-1\r\nPING\r\nping "a b"\r\n')
        sock.sendall(encode([b"ECHO", b"\x00\r\n"]) + b"QUIT\r\n")
        assert receive_all(sock) == b"+PONG\r\n$3\r\na b\r\n$3\r\n\x00\r\n\r\n+OK\r\n"


def test_auth_and_reset(server):
    with server.connect() as sock:
        sock.sendall(b"RESET\r\nAUTH x\r\nQUIT\r\n")
        assert receive_all(sock).startswith(b"+RESET\r\n-ERR AUTH <password> called without any password")


def test_a_server_with_a_password_answers_nobody_else(tmp_path):
    write_private(tmp_path / "word", "pa ss é\n")
    with (
        running(tmp_path / "db", "--password-file", str(tmp_path / "word")) as server,
        server.connect() as sock,
    ):
        sock.sendall(b"GET a\r\nHELLO 3\r\nAUTH pa\r\nNOT THERE\r\n")
        assert receive(sock, 2 * len(NOAUTH)).split(b"\r\n")[:2] == [NOAUTH[:-2]] * 2
        assert receive(sock, 10) == b"-WRONGPASS"
        sock.sendall(encode([b"AUTH", b"another", "pa ss é".encode()]))
        sock.sendall(encode([b"HELLO", b"2", b"AUTH", b"default", "pa ss é".encode()]))
        sock.sendall(
            b"SET a b\r\nRESET\r\nGET a\r\n" + encode([b"AUTH", "pa ss é".encode()]) + b"GET a\r\nQUIT\r\n"
        )
        answers = receive_all(sock)
        assert answers.count(b"WRONGPASS") == 1
        assert answers.endswith(b"+OK\r\n+RESET\r\n" + NOAUTH + b"+OK\r\n$1\r\nb\r\n+OK\r\n")


def test_replies_do_not_wait_for_the_rest_of_the_next_request(server):
    with server.connect() as sock:
        sock.sendall(b"PING\r\n*1\r\n$4\r\nPI")
        assert receive(sock, 7) == b"+PONG\r\n"
        sock.sendall(b"NG\r\n")
        assert receive(sock, 7) == b"+PONG\r\n"


# Commands


@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_redis_py_talks_every_protocol(server, client, protocol):
    options = {} if protocol is None else {"protocol": protocol}
    with server.client(client_name="me", **options) as one:
        assert one.set("k", b"\x00\r\n\xff") is True
        assert one.get("k") == b"\x00\r\n\xff"
        assert one.get("absent") is None
        assert one.config_get("rocksdb.min_blob*") == {"rocksdb.min_blob_size": "4096"}
        assert one.client_getname() in ("me", b"me")
        assert one.client_id() > 0


def test_keys_and_values(client):
    big = os.urandom(5 * MIB)
    assert client.set("", b"empty key")
    assert (client.get(""), client.delete("")) == (b"empty key", 1)
    assert client.mset({b"a": b"1", b"b\r\n\x00": b"", b"c": big})
    assert client.mget(b"a", b"none", b"b\r\n\x00", b"c") == [b"1", None, b"", big]
    assert client.dbsize() == 3
    assert sorted(client.scan_iter(count=1)) == [b"a", b"b\r\n\x00", b"c"]
    client.set("a", b"22")
    assert (client.dbsize(), client.strlen("a"), client.strlen("none")) == (3, 2, 0)
    assert client.exists("a", "a", "none", "c") == 3
    assert client.delete("a", "a", "none") == 1
    assert client.unlink("c") == 1
    assert client.dbsize() == 1
    assert client.flushdb()
    assert (client.dbsize(), client.get(b"b\r\n\x00"), [*client.scan_iter()]) == (0, None, [])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("GET", "wrong number of arguments for 'get' command"),
        ("MSET a 1 b", "wrong number of arguments for 'mset' command"),
        ("NOPE x", "unknown command 'NOPE', with args beginning with: 'x' "),
        ("SET a 1 EX 10", "syntax error"),
        ("SET a 1 NX", "syntax error"),
        ("SELECT 1", "DB index is out of range"),
        ("SELECT x", "value is not an integer or out of range"),
        ("CONFIG SET rocksdb.write_buffer_size 1", "Unsupported CONFIG parameter"),
        ("CONFIG NOPE", "unknown subcommand"),
        ("CLIENT NOPE", "unknown subcommand"),
        ("FLUSHALL nope", "syntax error"),
        ("HELLO 4", "unsupported protocol version"),
    ],
)
def test_refusals(client, words, text):
    with pytest.raises(redis.ResponseError) as caught:
        client.execute_command(*words.split())
    assert text.strip() in str(caught.value)
    assert client.ping()


def test_small_commands(client):
    assert client.echo("x") == b"x"
    assert client.execute_command("SELECT", 0) in (True, b"OK")
    assert client.execute_command("COMMAND COUNT") > 20
    assert client.execute_command("COMMAND DOCS") in ([], {})
    assert client.execute_command("CLIENT", "SETINFO", "LIB-NAME", "t") in (True, b"OK")
    assert len(client.client_list()) >= 1
    assert client.config_get("save") == {"save": ""}
    assert client.config_get("appendonly") == {"appendonly": "no"}


def test_info(server, client):
    before = client.info()
    client.set("k", b"x" * 1000)
    client.get("k")
    client.get("absent")
    after = client.info()
    assert after["redis_version"] == "hyperkv-rocksdb"
    assert (after["process_id"], after["tcp_port"]) == (server.process.pid, server.port)
    assert after["used_memory_rss"] > MIB
    assert after["db0"]["keys"] == 1
    for name, change in {
        "keyspace_hits": 1,
        "keyspace_misses": 1,
        "value_bytes_read": 1000,
        "value_bytes_written": 1000,
        "total_commands_processed": 4,
    }.items():
        assert after[name] - before[name] == change, name
    assert after["total_net_input_bytes"] - before["total_net_input_bytes"] > 1000
    for name in ("cur_size_all_mem_tables", "is_write_stopped", "num_running_flushes", "stall_micros"):
        assert name in client.info("rocksdb")


def test_concurrent_sets_of_one_key_count_once(server, client):
    socks = [server.connect() for _ in range(4)]
    stream = b"".join(encode([b"SET", b"k%d" % (number % 50), b"v"]) for number in range(500))
    for sock in socks:
        sock.sendall(stream)
    for sock in socks:
        assert receive(sock, 5 * 500) == b"+OK\r\n" * 500
        sock.close()
    assert client.dbsize() == 50


def test_half_sent_value_is_not_stored(server, client):
    client.set("k", b"old")
    with server.connect() as sock:
        sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4194304\r\n" + bytes(MIB))
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b""
    assert client.get("k") == b"old"


def test_value_sizes_up_to_the_limit(tmp_path):
    with running(tmp_path, "--set", "proto-max-bulk-len", "64m") as one, one.client() as client:
        value = os.urandom(MIB) * 64
        assert client.set("k", value)
        assert client.get("k") == value
        with one.connect() as sock:
            sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (len(value) + 1))
            assert receive_all(sock) == b"-ERR Protocol error: invalid bulk length\r\n"
        assert client.ping()


# The process


def test_clean_stop_keeps_everything_without_a_wal(tmp_path):
    without_wal = ("--set", "rocksdb.write_options.disable_wal", "yes")
    with running(tmp_path, *without_wal) as one:
        with one.client() as client:
            client.mset({b"key%d" % number: b"%d" % number * 3000 for number in range(50)})
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(TIMEOUT_S) == 0
    with running(tmp_path, *without_wal) as one, one.client() as client:
        assert client.dbsize() == 50
        assert client.get(b"key49") == b"49" * 3000
        with one.connect() as sock:
            sock.sendall(b"SHUTDOWN\r\n")
            assert receive_all(sock) == b""
        assert one.process.wait(TIMEOUT_S) == 0


def test_kill_keeps_what_the_wal_has(tmp_path):
    with running(tmp_path) as one, one.client() as client:
        client.set("k", b"v" * 10_000)
        client.set("k", b"w" * 10_000)
        one.process.kill()
        one.process.wait(TIMEOUT_S)
    with running(tmp_path) as one, one.client() as client:
        assert (client.dbsize(), client.get("k")) == (1, b"w" * 10_000)


def test_unix_socket_and_settings(tmp_path):
    path = tmp_path / "s"
    extra = ("--set", "rocksdb.min_blob_size", "200", "--unix-socket", str(path))
    with running(tmp_path / "db", *extra) as one, redis.Redis(unix_socket_path=str(path)) as client:
        assert client.config_get("rocksdb.*size")["rocksdb.write_buffer_size"] == "64"
        assert client.config_get("rocksdb.min_blob_size") == {"rocksdb.min_blob_size": "200"}
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(TIMEOUT_S) == 0
    assert not path.exists()


def test_refuses_to_start(server, tmp_path):
    assert f"127.0.0.1:{server.port}" in refused(tmp_path, server.port)
    (tmp_path / "file").write_text("")
    assert "cannot write to" in refused(tmp_path / "file", free_port())
    assert "did you mean" in refused(tmp_path, free_port(), "--set", "rocksdb.blok_size", "1")
    assert "did you mean" not in refused(tmp_path, free_port(), "--set", "rocksdb.block_size", "x")


def test_refuses_a_database_in_use(tmp_path):
    with running(tmp_path):
        assert "another process has it open" in refused(tmp_path, free_port())


def test_refuses_a_database_of_an_earlier_version(tmp_path):
    """Its values have keys without a stamp."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    families = {"index": rocksdict.Options(raw_mode=True)}
    rocksdict.Rdict(str(tmp_path / "db"), options, column_families=families).close()
    assert "give --dir an empty directory" in refused(tmp_path / "db", free_port())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A database with a value in a file of its own."""
    folder = tmp_path_factory.mktemp("written") / "db"
    with running(folder) as one, one.client() as client:
        assert client.set("k", b"v" * MIB)
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(TIMEOUT_S) == 0
    assert list(folder.rglob("*.sst"))
    return folder


@pytest.mark.parametrize("name", ["db", "LOCK direct"])
@pytest.mark.parametrize(
    ("pattern", "becomes"),
    [
        ("CURRENT", "empty"),
        ("MANIFEST-*", "missing"),
        ("MANIFEST-*", "empty"),
        ("*.sst", "missing"),
        ("LOCK", "a folder"),
    ],
)
def test_a_damaged_database_is_one_line(written, tmp_path, name, pattern, becomes):
    shutil.copytree(written, tmp_path / name)
    for file in [file for file in (tmp_path / name).rglob(pattern) if file.is_file()]:
        file.unlink()
        if becomes == "empty":
            file.touch()
        elif becomes == "a folder":
            file.mkdir()
    said = refused(tmp_path / name, free_port())
    assert said.count("\n") <= 1
    assert said.strip().endswith(": give --dir an empty directory or one this server wrote")


def test_direct_io(tmp_path):
    try:
        os.close(os.open(tmp_path / "probe", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError:
        assert "O_DIRECT" in refused(tmp_path / "db", free_port(), "--direct-io", "yes")
        return
    value = os.urandom(MIB)
    for _ in range(2):
        with running(tmp_path / "db", "--direct-io", "yes") as one, one.client() as client:
            assert client.config_get("rocksdb.use_direct_reads") == {"rocksdb.use_direct_reads": "yes"}
            assert client.get("k") in (None, value)
            client.set("k", value)
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(TIMEOUT_S) == 0


def test_full_disk_is_an_error_reply(tmp_path):
    """A file-size limit makes RocksDB's write fail as a full disk would."""
    with running(tmp_path, "--set", "rocksdb.write_buffer_size", "1") as one, one.client() as client:
        resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (MIB // 2, resource.RLIM_INFINITY))
        pipeline = client.pipeline(transaction=False)
        for number in range(5):
            pipeline.set(f"k{number}", bytes(MIB))
        replies = pipeline.execute(raise_on_error=False)
        assert any(isinstance(reply, redis.ResponseError) and "IO error" in str(reply) for reply in replies)
        assert client.dbsize() == sum(reply is True for reply in replies)
        assert client.ping()
        resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def test_a_stop_does_not_wait_for_idle_clients(tmp_path):
    with running(tmp_path) as one, one.connect() as idle:
        idle.sendall(b"PING\r\n")
        receive(idle, 7)
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(TIMEOUT_S) == 0
