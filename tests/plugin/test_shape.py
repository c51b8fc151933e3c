"""A shaped device: the arithmetic on a clock of its own, and that servers behind it never give more than it states."""

import contextlib
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores.conftest import hits_of, new_keys, store_config, values_of
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings, settings_from
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.errors import UserError
from workflow.plugin.lmcache_striped.shape import Device, Moved, Shape, device_from, told_by

MB = 10**6


class Clock:
    """Seconds that pass when somebody waits for them."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s

    def until(self, due_s):
        self.now_s = max(self.now_s, due_s)


def shaped(**device):
    clock, lines = Clock(), []
    return Shape(Device(**device), lines.append, clock, clock.until), clock, lines


def seconds(sizes, under_way=None, way="read", **device):
    """What one call takes that moves stripes at once."""
    shape, clock, _ = shaped(**device)
    with shape.moving(way, under_way) as moved:
        moved += sizes
    return clock.now_s


@pytest.mark.parametrize(
    ("device", "under_way", "milliseconds"),
    [
        ({"read_gbps": 1}, None, 4.0),
        ({"read_gbps": 2}, None, 2.0),
        ({"write_gbps": 1}, None, 0.0),
        ({"latency_us": 100}, None, 0.1),
        ({"latency_us": 100}, 1, 0.4),
        ({"latency_us": 100, "queue_depth": 2}, None, 0.2),
        ({"latency_us": 100, "queue_depth": 8}, 2, 0.2),
        ({"read_gbps": 1, "latency_us": 100}, None, 4.1),
        ({"read_gbps": 1, "latency_us": 100}, 1, 4.4),
        ({"read_gbps": 1, "latency_us": 100, "queue_depth": 1}, None, 4.4),
        ({"read_gbps": 1, "latency_us": 3000, "queue_depth": 2}, None, 9.0),
    ],
)
def test_four_stripes_of_a_megabyte_by_hand(device, under_way, milliseconds):
    assert seconds([MB] * 4, under_way, **device) * 1e3 == pytest.approx(milliseconds)


sizes_of = st.lists(st.integers(1, 8 * MB), min_size=1, max_size=20)
depths = st.one_of(st.none(), st.integers(1, 8))


@given(sizes_of, st.floats(0.05, 20), st.floats(1, 5000), depths, depths)
def test_no_device_is_faster_than_its_description(sizes, gbps, latency_us, depth, under_way):
    took = seconds(sizes, under_way, read_gbps=gbps, latency_us=latency_us, queue_depth=depth)
    moving_s, places = sum(sizes) / gbps / 1e9, min(depth or len(sizes), under_way or len(sizes))
    waiting_s = math.ceil(len(sizes) / places) * latency_us / 1e6
    assert took >= max(moving_s + latency_us / 1e6, waiting_s) * (1 - 1e-9)
    assert took <= (moving_s + waiting_s) * (1 + 1e-9)


@given(sizes_of, st.floats(0.05, 20), st.floats(1, 4), depths)
def test_a_faster_device_and_a_deeper_queue_are_never_slower(sizes, gbps, times, depth):
    device = {"read_gbps": gbps, "latency_us": 80, "queue_depth": depth}
    took = seconds(sizes, **device)
    assert seconds(sizes, **device | {"read_gbps": gbps * times}) <= took + 1e-9
    assert seconds(sizes, **device | {"queue_depth": depth and depth + 1}) <= took + 1e-9


@given(st.lists(sizes_of, min_size=1, max_size=5), st.floats(0.05, 20))
def test_calls_one_after_the_other_take_as_long_as_one(calls, gbps):
    shape, clock, _ = shaped(read_gbps=gbps)
    for sizes in calls:
        with shape.moving("read", None) as moved:
            moved += sizes
    stripes = [size for sizes in calls for size in sizes]
    assert clock.now_s == pytest.approx(seconds(stripes, read_gbps=gbps))
    assert shape.counts["read"].gbps == pytest.approx(gbps)
    assert shape.counts["read"].share == pytest.approx(1)


def test_what_is_written_is_not_read_meanwhile():
    shape, clock, _ = shaped(read_gbps=1, write_gbps=0.5)
    with shape.moving("read", None) as reads:
        with shape.moving("write", None) as writes:
            writes += [MB]
        assert clock.now_s == pytest.approx(2e-3)
        reads += [MB]
    assert clock.now_s == pytest.approx(3e-3)


def test_threads_share_a_device_by_stripes():
    """A call of one stripe gets its turn among those of a long one, and not behind it."""
    shape, done = Shape(Device(read_gbps=0.2)), []
    begun = threading.Barrier(2)

    def load(name, stripes):
        begun.wait()
        with shape.moving("read", 2) as moved:
            moved += [MB] * stripes
        done.append(name)

    threads = [threading.Thread(target=load, args=each) for each in (("long", 40), ("short", 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == ["short", "long"]
    assert shape.counts["read"].bytes == 41 * MB


def test_a_store_that_is_slower_than_the_device_is_told_apart():
    shape, clock, _ = shaped(read_gbps=1)
    with shape.moving("read", None) as moved:
        clock.now_s += 4e-3
        moved += [2 * MB]
    found = shape.counts["read"]
    assert found.share == pytest.approx(0.5)
    assert found.gbps == found.store_gbps == pytest.approx(0.5)


def test_without_a_device_the_store_alone_is_counted():
    shape, clock, lines = shaped()
    with shape.moving("write", 4) as moved:
        clock.now_s += 2e-3
        moved += [MB, MB]
    assert shape.counts["write"].store_gbps == pytest.approx(1)
    assert (shape.counts["write"].share, shape.counts["read"].gbps, lines) == (None, None, [])


def test_what_failed_is_neither_counted_nor_held_back():
    shape, clock, lines = shaped(read_gbps=1)
    with contextlib.suppress(KeyError), shape.moving("read", None) as moved:
        moved += [MB]
        raise KeyError
    with shape.moving("read", None):
        pass
    assert (clock.now_s, shape.counts["read"], lines) == (0.0, Moved(), [])


def test_a_call_that_its_client_let_wait_is_held_back_and_proves_nothing():
    shape, clock, lines = shaped(write_gbps=1)
    waits: list[float] = []
    with shape.moving("write", None, waits) as moved:
        waits += [0.0, 0.5]
        moved += [MB]
    assert clock.now_s == pytest.approx(0.001)
    assert (shape.counts["write"], lines) == (Moved(), [])


def test_a_log_tells_what_was_counted():
    shape, _, lines = shaped(read_gbps=1, write_gbps=0.25)
    for way in ("read", "write", "read"):
        with shape.moving(way, None) as moved:
            moved += [MB, 3]
    found = told_by(["INFO striped: " + line for line in ["loads by Python", *lines]])
    for way, counted in shape.counts.items():
        assert found[way].bytes == counted.bytes
        assert found[way].gbps == pytest.approx(counted.gbps, rel=1e-3)
    assert told_by(["striped: dropped 3 chunks"]) is None


def test_settings_of_the_plugin():
    device = {"shape_read_gbps": "1.5", "shape_latency_us": 80, "shape_queue_depth": "32"}
    own = {f"p.{key}": value for key, value in device.items()}
    settings = settings_from({"p.endpoints": "h:1", **own}, "p")
    assert settings.device == Device(1.5, None, 80, 32)
    assert "read_gbps=1.5" in settings.loads_by
    assert not settings_from({"p.endpoints": "h:1"}, "p").device.is_stated


@pytest.mark.parametrize("value", ["fast", 0, -1, "inf", "nan", []])
def test_a_device_that_is_none_is_refused_by_its_key(value):
    with pytest.raises(UserError, match=r"p\.shape_write_gbps: .* is wrong; it must be a number above 0"):
        device_from({"p.shape_write_gbps": value}, "p.")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with make_store("valkey", store_config(tmp_path_factory.mktemp("shape"), "valkey")) as one:
        yield one


def test_a_server_behind_a_device_never_gives_more_than_it_states(store):
    keys, size = new_keys(8), 300_000
    with StripedConnector([store.endpoint], 2, 10.0, stripe_bytes=64 << 10, in_flight=2) as connector:
        connector.shape = Shape(Device(read_gbps=0.02, write_gbps=0.05))
        connector.put(keys, values_of(keys, size))
        assert hits_of(connector.get, [*keys, *new_keys(1)], size) == [True] * 8 + [False]
        read, written = (connector.shape.counts[way] for way in ("read", "write"))
    assert read.bytes == written.bytes == 8 * size
    assert read.took_s >= 8 * size / 0.02e9
    assert written.took_s >= 8 * size / 0.05e9
    assert read.stated_s == pytest.approx(8 * size / 0.02e9)


def test_loads_and_saves_of_a_cache_share_one_device(store):
    keys, size, lines = new_keys(4), 100_000, []
    cache = StripedCache(
        CacheSettings((store.endpoint,), device=Device(read_gbps=0.02, write_gbps=0.02)), note=lines.append
    )
    try:
        cache.offer(keys, values_of(keys, size), lambda _: None)
        assert cache.wait_saved(10)
        assert hits_of(cache.load, keys, size) == [True] * 4
    finally:
        cache.close()
    found = told_by([f"striped: {line}" for line in lines])
    assert {way: moved.bytes for way, moved in found.items()} == {"read": 4 * size, "write": 4 * size}
    assert all(moved.took_s >= 4 * size / 0.02e9 for moved in found.values())
