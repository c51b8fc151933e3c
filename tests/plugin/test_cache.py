"""Stripes for a serving engine: a failing store is a cache that misses, left alone for a while, and found again."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.helpers import eventually, is_stopped
from tests.stores.conftest import hits_of, new_keys, store_config, values_of
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings, settings_from
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.gate_settings import GateSettings
from workflow.plugin.lmcache_striped.native import INSTALLED
from workflow.plugin.lmcache_striped.save_queue import SaveCounts
from workflow.plugin.lmcache_striped.secret import Secret
from workflow.plugin.lmcache_striped.stripes import stripe_key

SIZE = 100_000


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    with make_store("rocksdb", store_config(tmp_path, "rocksdb", port=free_port())) as one:
        yield one


@contextlib.contextmanager
def cached(store: Store, reports: list[str] | None = None, **changes) -> Iterator[StripedCache]:
    settings = {"connections": 2, "stripe_bytes": 20_000, "timeout_s": 0.5, "retry_s": 0.2} | changes
    report = (lambda line: None) if reports is None else reports.append
    cache = StripedCache(CacheSettings((store.endpoint,), **settings), report)
    try:
        yield cache
    finally:
        cache.close()


def save(cache: StripedCache, keys: list[bytes]) -> None:
    for key, value in zip(keys, values_of(keys, SIZE), strict=True):
        assert cache.offer([key], [value], lambda _: None)
    assert cache.wait_saved(10)


def hits(cache: StripedCache, keys: list[bytes]) -> list[bool]:
    return hits_of(cache.load, keys, SIZE)


def test_saves_lookups_and_loads(store):
    keys, absent = new_keys(5), new_keys(1)
    with cached(store) as cache:
        save(cache, keys)
        assert cache.count_present(keys + absent) == 5
        assert hits(cache, keys + absent) == [True] * 5 + [False]
        counts = cache.counts
    assert (counts.loaded, counts.missed, counts.failures, counts.skipped) == (5, 1, 0, 0)
    assert counts.saves == SaveCounts(saved=5)


def test_a_dead_store_is_a_miss_and_is_found_again(store):
    keys, reports = new_keys(3), []
    with cached(store, reports, retry_s=600, timeout_s=20) as cache:
        save(cache, keys)
        store.kill()
        assert hits(cache, keys) == [False] * 3
        assert cache.count_present(keys) == 0
        assert cache.offer(keys[:1], values_of(keys[:1], SIZE), lambda _: None)
        assert cache.wait_saved(5)
        assert cache.counts.failures == 1
        assert cache.counts.skipped == 2
        assert cache.counts.saves == SaveCounts(saved=3, failed=1)
    assert len(reports) == 1
    assert reports[0].startswith("the store failed and is left alone for 600 s: ")
    store.restart()
    with cached(store) as cache:
        save(cache, keys)
        assert hits(cache, keys) == [True] * 3


def test_a_damaged_chunk_is_a_miss_and_is_reported(store):
    keys, reports = new_keys(2), []
    with cached(store, reports) as cache, store.client() as client:
        save(cache, keys)
        stripe = stripe_key(keys[1], 2)
        value = bytearray(client.get(stripe))
        value[-1] ^= 1
        client.set(stripe, bytes(value))
        assert hits(cache, keys) == [True, False]
        assert hits(cache, keys[:1]) == [True]
    assert reports == ["1 of 2 chunks are damaged"]


def test_a_hanging_store_costs_one_time_out_and_then_nothing(store):
    keys = new_keys(2)
    with cached(store, timeout_s=1, retry_s=600) as patient, cached(store, timeout_s=1, retry_s=0) as cache:
        save(patient, keys)
        os.kill(store.pid(), signal.SIGSTOP)
        try:
            assert eventually(lambda: is_stopped(store.pid()))
            assert hits(patient, keys) == [False, False]
            assert hits(patient, keys) == [False, False]
            assert (patient.counts.failures, patient.counts.skipped) == (1, 1)
            assert hits(cache, keys) == [False, False]
        finally:
            os.kill(store.pid(), signal.SIGCONT)
        assert eventually(lambda: hits(cache, keys) == [True, True])
        assert hits(patient, keys) == [False, False]


def test_nobody_is_there_at_the_start():
    cache = StripedCache(CacheSettings((Endpoint("127.0.0.1", 1),)))
    try:
        assert cache.count_present(new_keys(1)) == 0
        assert cache.counts.failures == 1
    finally:
        cache.close()


@pytest.mark.parametrize(("changes", "saving"), [({}, 3), ({"save_connections": 1}, 1)])
def test_saves_have_connections_of_their_own(tmp_path, changes, saving):
    with make_store("valkey", store_config(tmp_path, "valkey")) as store:
        endpoint = store.endpoint
        with (
            redis.Redis(endpoint.host, endpoint.port, password=None) as client,
            cached(store, connections=3, **changes) as cache,
        ):
            save(cache, new_keys(4))
            assert len(client.client_list()) == 1 + saving


def test_settings_from_a_plugins_keys():
    keys = {
        "p.endpoints": "127.0.0.1:1, unix:/run/kv",
        "p.connections": "8",
        "p.save_connections": 2,
        "p.gate": "ttft",
        "p.gate_curve": "/kv/curve.json",
        "p.gate_metrics": "http://127.0.0.1:8000/metrics",
        "p.gate_chunk_tokens": "256",
        "p.gate_slo_s": 0.5,
        "p.retry_s": 2,
        "p.save": "second_use",
        "q.stripe_bytes": 1,
        "p.module_path": "lmcache_striped.remote",
        "p.another.endpoints": "127.0.0.1:2",
    }
    settings = settings_from(keys | {"p.password_file": "/run/secrets/kv"}, "p")
    secret = Secret(Path("/run/secrets/kv"))
    assert settings == CacheSettings(
        (Endpoint("127.0.0.1", 1, secret), Endpoint("", 0, secret, "/run/kv")),
        connections=8,
        save_connections=2,
        gate=GateSettings("ttft", Path("/kv/curve.json"), "http://127.0.0.1:8000/metrics", 256, 0.5),
        retry_s=2.0,
        save="second_use",
    )


@pytest.mark.parametrize(
    ("keys", "library"),
    [
        ({}, None),  # the source has no compiled client
        ({"p.client": "python", "p.library": "/x.so"}, None),
        ({"p.client": "native"}, INSTALLED),
        ({"p.library": "/x.so"}, Path("/x.so")),
    ],
)
def test_the_client_is_the_one_that_is_named_or_installed(keys, library):
    settings = settings_from({"p.endpoints": "127.0.0.1:1", **keys}, "p")
    assert settings.library == library
    assert ("compiled code" in settings.loads_by) == (library is not None)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"p.endpoints": "127.0.0.1:1", "p.client": "c"}, r"p\.client: 'c' is wrong; write python or native"),
        (
            {"p.endpoints": "127.0.0.1:1", "p.conections": 2},
            r"p\.conections: there is no such key; there are bound_bytes, client, conn",
        ),
        ({}, r"p\.endpoints is missing; write host:port"),
        ({"p.endpoints": "localhost"}, r"p\.endpoints: 'localhost' is wrong"),
        ({"p.endpoints": "a:1", "p.connections": "many"}, r"p\.connections: 'many' is wrong"),
        ({"p.endpoints": "a:1", "p.timeout_s": 0}, r"p\.timeout_s: 0 is wrong"),
        ({"p.endpoints": "a:1", "p.save": 2}, r"p\.save: 2 is wrong; allowed are first_use, second_use"),
        ({"p.endpoints": "a:1", "p.password": "word"}, r"p\.password: LMCache logs .* name it in"),
    ],
)
def test_wrong_settings_name_the_key(keys, words):
    with pytest.raises(UserError, match=words):
        settings_from(keys, "p")
