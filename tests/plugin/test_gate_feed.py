"""What the gate is told from outside: a curve in a file, and an engine's metrics over HTTP."""

import contextlib
import itertools
import json
import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.helpers import eventually
from workflow.hyperkv.machine.processes import free_port
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.errors import UserError
from workflow.plugin.lmcache_striped.gate_feed import EVERY_S, GateFeed
from workflow.plugin.lmcache_striped.gate_settings import GateSettings, gate_from

ENDPOINTS = (Endpoint("127.0.0.1", 1),)


@pytest.fixture
def engine() -> Iterator[ThreadingHTTPServer]:
    """A vLLM that says that so many requests wait."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.server.page.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.server.asked.set()

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.page, server.asked = page(7), threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def page(waiting: int) -> str:
    return (
        "# TYPE vllm:num_requests_waiting gauge\n"
        f'vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}.0\n'
        'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0\n'
    )


def fed(said=None, **gate) -> GateFeed:
    settings = CacheSettings(ENDPOINTS, gate=GateSettings("throughput", **({"chunk_tokens": 100} | gate)))
    return GateFeed.of(settings, lambda _: None, (said if said is not None else []).append)


def address(engine: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{engine.server_address[1]}/metrics"


def recompute_s(feed: GateFeed) -> float | None:
    """Of a prompt of 1,050 tokens; a load has ended, so that the gate can tell it."""
    load = feed.gate.load_waits(["seen"], 1000)
    feed.gate.load_begins(load)
    feed.gate.load_ends(load)
    return feed.gate.decide([str(number) for number in range(10)], 0).recompute_s


def test_the_curve_is_read_and_read_again_when_it_changes(tmp_path):
    curve = tmp_path / "curve.json"
    feed = fed(said := [], curve=curve)
    try:
        assert recompute_s(feed) is None
        curve.write_text(json.dumps([[1050, 0.5]]))
        assert eventually(lambda: recompute_s(feed) is not None)
        assert feed.gate.decide(["a"], 0, tokens=1050).compute_s == pytest.approx(0.5)
        curve.write_text("[[1050,")
        assert eventually(lambda: any("is not read" in line for line in said))
        new = tmp_path / "new"
        new.write_text(json.dumps([[1050, 2.0]]))
        os.replace(new, curve)
        assert eventually(lambda: feed.gate.decide(["b"], 0, tokens=1050).compute_s == pytest.approx(2.0))
    finally:
        feed.close()
        feed.close()


def test_requests_that_wait_are_read_while_lookups_come(tmp_path, engine):
    curve = tmp_path / "curve.json"
    curve.write_text(json.dumps([[1050, 0.001]]))
    feed = fed(said := [], curve=curve, metrics=address(engine))
    try:
        recompute_s(feed)

        def waiting() -> float:
            feed.looked_up()
            return feed.gate.decide([], 0).waiting

        assert eventually(lambda: 5 <= waiting() <= 7)
        assert feed.gate.told.startswith("gate throughput: store ")
        engine.page = "nothing of it"
        assert eventually(
            lambda: any("has no vllm:num_requests_waiting" in line for line in said) or waiting() < 0
        )
        assert len(said) == 1
    finally:
        feed.close()


def test_an_engine_is_not_asked_before_a_lookup_came(engine):
    feed = fed(metrics=address(engine))
    try:
        assert not engine.asked.wait(4 * EVERY_S)
        feed.looked_up()
        assert engine.asked.wait(10)
    finally:
        feed.close()


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
METRIC = b"vllm:num_requests_waiting "


@contextmanager
def answering(begin: bytes, *more: bytes) -> Iterator[str]:
    """The address of a server that answers so, and goes on with `more` by turns, if any, until the other side or the test ends."""
    ended = threading.Event()

    class Answer(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1 << 16)
            with contextlib.suppress(OSError):
                self.request.sendall(begin)
                for part in itertools.cycle(more):
                    if ended.wait(0.1 if len(part) == 1 else 0):
                        return
                    self.request.sendall(part)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def no_http() -> Iterator[str]:
    """The address of a server that speaks something else."""
    with answering(b"-ERR unknown command\r\n") as metrics:
        yield metrics


@pytest.mark.parametrize(
    "metrics", ["nobody", "no_http", "http://127.0.0.1:80x/metrics", "127.0.0.1:8000", "ü"]
)
def test_metrics_that_do_not_answer_are_said_once_and_the_curve_is_read_all_the_same(
    tmp_path, metrics, no_http
):
    known = {"nobody": f"http://127.0.0.1:{free_port()}/metrics", "no_http": no_http}
    curve = tmp_path / "curve.json"
    feed = fed(said := [], metrics=known.get(metrics, metrics), curve=curve)
    try:
        assert eventually(lambda: feed.looked_up() or any("gate_metrics" in line for line in said))
        assert len(set(said)) == len(said)
        assert eventually(lambda: f"gate_curve: {curve} is not there" in said)
        curve.write_text(json.dumps([[1050, 0.5]]))
        assert eventually(lambda: recompute_s(feed) is not None)
    finally:
        feed.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([HEAD + METRIC + b"1e400\n"], "infinity"),
        ([HEAD + METRIC + b"1-1\n"], "could not convert"),
        ([HEAD + METRIC + b"NaN\n"], "has no vllm:num_requests_waiting"),
        ([b"HTTP/1.1 500 no\r\n\r\n"], "HTTP Error 500"),
        ([b"\x00\xff\r\n\r\n"], r"is not read: \x00"),
        ([HEAD, b"x" * 65536], "more than 8 MiB"),
        ([HEAD, b"x"], "the answer does not end"),
    ],
    ids=["infinite", "no number", "NaN", "500", "no HTTP", "endless", "slow"],
)
def test_metrics_that_are_none_are_said_in_a_line_and_the_curve_is_read_all_the_same(tmp_path, answer, words):
    curve = tmp_path / "curve.json"
    with answering(*answer) as metrics:
        feed = fed(said := [], metrics=metrics, curve=curve)
        try:
            assert eventually(lambda: feed.looked_up() or [line for line in said if "gate_metrics" in line])
            [line] = [line for line in said if "gate_metrics" in line]
            assert words in line
            assert line.isprintable()
            curve.write_text(json.dumps([[1050, 0.5]]))
            assert eventually(lambda: recompute_s(feed) is not None)
        finally:
            feed.close()


def test_metrics_that_hang_do_not_keep_it_from_closing():
    with answering(b"HTTP/1.1 200 OK\r\nA: ", b"x") as metrics:
        feed = fed(metrics=metrics)
        feed.looked_up()
        closing = threading.Thread(target=feed.close, daemon=True)
        closing.start()
        closing.join(30)
        assert not closing.is_alive()


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "[[1050]]", "\udcff", "[[1050, 0]]", "[[1050, NaN]]", "[[1e200, 1], [1e250, 2]]"),
        pytest.param("[[1" + 400 * "0" + ", 1]]", id="long"),
        pytest.param(100_000 * "[", id="deep"),
    ],
)
def test_a_curve_that_is_none_is_said_and_everything_is_found(tmp_path, text):
    curve = tmp_path / "curve.json"
    curve.write_bytes(text.encode(errors="surrogateescape"))
    feed = fed(said := [], curve=curve)
    try:
        decision = feed.gate.decide(["a", "b"], 2)
        assert (decision.found, decision.first_token_s) == (2, None)
        assert said[0].startswith(f"gate_curve: {curve} is not read: ")
        assert "how long computing takes is not known yet" in said[1]
    finally:
        feed.close()


def test_off_has_none_and_without_a_chunks_tokens_there_is_none():
    assert GateFeed.of(CacheSettings(ENDPOINTS), print, print) is None
    with pytest.raises(UserError, match="gate_chunk_tokens is missing"):
        fed(chunk_tokens=None)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"p.gate": "fast"}, "p.gate: 'fast' is wrong; allowed are off, ttft, throughput"),
        ({"p.gate_chunk_tokens": "many"}, "p.gate_chunk_tokens: 'many' is wrong"),
        ({"p.gate_chunk_tokens": 0}, "p.gate_chunk_tokens: 0 is wrong"),
        ({"p.gate_slo_s": 0}, "p.gate_slo_s: 0 is wrong; it must be seconds above 0"),
        ({"p.gate_slo_s": float("inf")}, "p.gate_slo_s: inf is wrong"),
        ({"p.gate_chunk_tokens": "²"}, "p.gate_chunk_tokens: '²' is wrong"),
        ({"p.gate_slo_s": "soon"}, "p.gate_slo_s: 'soon' is wrong"),
        ({"p.load_queue_bytes": 5}, "p.load_queue_bytes is not a key any more; gate, ttft or throughput"),
    ],
)
def test_wrong_keys_are_named(keys, words):
    with pytest.raises(UserError, match=words):
        gate_from(keys, "p")
