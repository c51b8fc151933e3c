"""The resp connector against a scripted server: whatever it sends, no wrong byte is handed on."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.connectors.peers import TIMEOUT_S, Script, bulk, get_request
from tests.stores.conftest import buffers_for, new_keys, payload, store_config, values_of
from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.connectors.resp import RespConnector
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.deadline import Endpoint

SIZE = 8
KEYS = [b"a", b"b", b"c"]


@contextlib.contextmanager
def talking(
    *turns: tuple[bytes, Sequence[bytes]], closes: bool = False
) -> Iterator[tuple[RespConnector, Script]]:
    """A connector with one connection to a peer that answers each request (given, for its length) with pieces."""
    script = Script([(len(request), pieces) for request, pieces in turns], closes)
    thread = threading.Thread(target=script.run)
    thread.start()
    connection = RespConnector(Endpoint("127.0.0.1", script.listener.getsockname()[1]), 1, TIMEOUT_S)
    try:
        yield connection, script
    finally:
        connection.close()
        thread.join(2 * TIMEOUT_S)
        script.listener.close()


def buffers(count: int, size: int = SIZE) -> list[np.ndarray]:
    return [np.zeros(size, dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    "reply", [b"$-1\r\n", bulk(b""), bulk(b"1234567"), bulk(b"123456789"), bulk(b"x" * 9000)]
)
def test_missing_or_wrong_length_is_false_and_the_stream_stays_in_step(reply):
    with talking((get_request(*KEYS), [bulk(b"AAAAAAAA"), reply, bulk(b"CCCCCCCC")])) as (connection, _):
        filled = buffers(3)
        assert connection.get(KEYS, filled) == [True, False, True]
    assert [bytes(buffer) for buffer in filled] == [b"AAAAAAAA", bytes(SIZE), b"CCCCCCCC"]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"$8\r\n123456789\r\n", "not as long as it says"),
        (b"$-7\r\n", "answered GET with"),
        (b"$\r\n\r\n", "answered GET with"),
        (b"*1\r\n$8\r\n12345678\r\n", "answered GET with"),
        (b"_\r\n\r\n", "answered GET with"),
    ],
)
def test_a_reply_that_is_no_value_ends_the_connection(reply, words):
    turns = [(get_request(b"a"), [reply, bulk(b"AAAAAAAA")]), (get_request(b"b"), [bulk(b"BBBBBBBB")])]
    with talking(*turns) as (connection, _):
        with pytest.raises(StoreError, match=words):
            connection.get([b"a"], buffers(1))
        (filled,) = buffers(1)
        assert connection.get([b"b"], [filled]) == [
            True
        ]  # on a new one: the rest would be read as the answer for b
        assert bytes(filled) == b"BBBBBBBB"


@pytest.mark.parametrize(
    "part", [b"", b"$", b"$8\r\n", b"$8\r\n1234", b"$8\r\n12345678", b"$9\r\n1234", b"-ERR"]
)
def test_a_close_within_a_reply(part):
    peer = talking((get_request(b"a"), [part]), closes=True)
    with peer as (connection, _), pytest.raises(StoreError, match="closed the connection"):
        connection.get([b"a"], buffers(1))


def test_error_replies_are_raised_and_the_stream_stays_in_step():
    replies = [bulk(b"AAAAAAAA"), b"-IO first\r\n-IO second\r\n"]
    turns = [(get_request(*KEYS), replies), (get_request(b"d"), [bulk(b"DDDDDDDD")])]
    with talking(*turns) as (connection, _):
        with pytest.raises(StoreError, match="answered: IO first"):
            connection.get(KEYS, buffers(3))
        (filled,) = buffers(1)
        assert connection.get([b"d"], [filled]) == [True]
        assert bytes(filled) == b"DDDDDDDD"


def test_the_requests_on_the_wire():
    values = [np.frombuffer(b"12\r\n5", dtype=np.uint8), np.zeros(0, dtype=np.uint8)]
    sets = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\n12\r\n5\r\n*3\r\n$3\r\nSET\r\n$2\r\nbb\r\n$0\r\n\r\n"
    exists = b"*2\r\n$6\r\nEXISTS\r\n$1\r\na\r\n*2\r\n$6\r\nEXISTS\r\n$2\r\nbb\r\n"
    turns = [
        (sets, [b"+OK\r\n+OK\r\n"]),
        (exists, [b":1\r\n:0\r\n"]),
        (get_request(b"a"), [bulk(b"12\r\n5")]),
    ]
    with talking(*turns) as (connection, script):
        connection.put([b"a", b"bb"], values)
        assert connection.count_present([b"a", b"bb"]) == 1
        (filled,) = buffers(1, 5)
        assert connection.get([b"a"], [filled]) == [True]
        assert script.received == sets + exists + get_request(b"a")
    assert bytes(filled) == b"12\r\n5"


@pytest.mark.parametrize("reply", [b"-OOM no memory\r\n", b"$-1\r\n", b":1\r\n", b"+QUEUED\r\n"])
def test_a_set_is_done_only_when_the_reply_says_ok(reply):
    request = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
    peer = talking((request * 3, [b"+OK\r\n", reply, b"+OK\r\n"]))
    with peer as (connection, _), pytest.raises(StoreError, match=r"OOM no memory|answered SET with"):
        connection.put(KEYS, [np.frombuffer(b"1", dtype=np.uint8)] * 3)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7])
def test_any_fragmentation(step):
    stream = bulk(b"AAAAAAAA") + b"$-1\r\n" + bulk(b"C\r\n$-1\r\n"[:SIZE]) + bulk(b"long" * 40)
    pieces = [stream[i : i + step] for i in range(0, len(stream), step)]
    with talking((get_request(*KEYS, b"d"), pieces)) as (connection, _):
        filled = [*buffers(3), np.zeros(160, dtype=np.uint8)]
        assert connection.get([*KEYS, b"d"], filled) == [True, False, True, True]
    assert [bytes(buffer) for buffer in filled] == [
        b"AAAAAAAA",
        bytes(SIZE),
        b"C\r\n$-1\r\n"[:SIZE],
        b"long" * 40,
    ]


def test_more_commands_than_may_be_in_flight(tmp_path):
    keys = new_keys(2500)
    filled = buffers_for(keys, 100)
    with (
        make_store("valkey", store_config(tmp_path, "valkey")) as store,
        RespConnector(store.endpoint, 1, TIMEOUT_S) as connector,
    ):
        connector.put(keys, values_of(keys, 100))
        assert connector.count_present([*keys, *new_keys(1)]) == 2500
        assert connector.get(keys, filled) == [True] * 2500
    assert all(payload(100).matches(key, one) for key, one in zip(keys, filled, strict=True))
