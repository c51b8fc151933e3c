"""The share of saves: a device that both use, in virtual time, and threads that wait for their turn."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.save_share import (
    LEAST_BYTES_PER_S,
    LEAST_SHARE,
    RECENT_S,
    SaveShare,
    Share,
)

MIB = 1 << 20
STEP_S = 0.001


class Device:
    """Loads one after the other and saves of 1 MiB that always wait, in virtual time.

    gbps: of loads alone. cost: bytes of loads that a byte saved takes the place of. share: None lets `saved_gbps` of saves go on.
    """

    def __init__(self, gbps: float, cost: float, share: Share | None, saved_gbps: float = 0.0):
        self.bytes_per_step, self.cost, self.share = gbps * 1e9 * STEP_S, cost, share
        self.saved_gbps, self.now, self.saved, self.debt = saved_gbps, 0.0, 0, 0.0
        self._slot: float | None = None

    def load(self, size: int) -> float:
        """Seconds that a load takes."""
        begun, left = self.now, float(size)
        load = None if self.share is None else self.share.begin(self.now, size)
        while left > 0:
            left -= self._step()
        if self.share is not None and load is not None:
            self.share.end(self.now, load, size)
        return self.now - begun

    def pause(self, seconds: float) -> int:
        """Bytes saved in a pause of the loads."""
        before, end = self.saved, self.now + seconds
        while self.now < end:
            self._step()
        return self.saved - before

    def _step(self) -> float:
        """Bytes that loads get in a step, after what saves take: at most three quarters."""
        self.now += STEP_S
        self._saves()
        taken = min(self.debt, 0.75 * self.bytes_per_step)
        self.debt -= taken
        return self.bytes_per_step - taken

    def _saves(self) -> None:
        if self.share is None:
            self._saved(self.saved_gbps * 1e9 * STEP_S)
            return
        while self.debt < self.bytes_per_step and self.share.held(self.now) <= self.now:
            if self._slot is None:
                self._slot = self.share.slot(self.now, MIB)
            if self._slot > self.now and self.share.comes(self.now):
                return
            self._slot = None
            self.share.saves(self.now)
            self._saved(MIB)
            if not self.cost and self.saved > self.now * 4e9:
                return

    def _saved(self, size: float) -> None:
        self.saved += size
        self.debt += self.cost * size


@given(
    gbps=st.floats(0.5, 8),
    cost=st.floats(0.3, 3),
    sizes=st.lists(st.sampled_from([32 * MIB, 40 * MIB, 200 * MIB]), min_size=1, max_size=4),
)
def test_loads_keep_their_speed_and_saves_are_never_starved(gbps, cost, sizes):
    device = Device(gbps, cost, Share())
    for number in range(100):
        device.load(sizes[number % len(sizes)])
    saved, begun, alone = device.saved, device.now, Device(gbps, cost, None)
    for number in range(100):
        size = sizes[number % len(sizes)]
        device.load(size)
        alone.load(size)
    elapsed_s = device.now - begun
    assert alone.now / elapsed_s >= 0.8
    assert (device.saved - saved) / elapsed_s >= 0.7 * max(LEAST_BYTES_PER_S, LEAST_SHARE * gbps * 1e9)


def test_saves_that_cost_loads_nothing_get_more_than_the_loads_have():
    device = Device(1.0, 0.0, Share())
    for _ in range(400):
        device.load(32 * MIB)
    saved, begun = device.saved, device.now
    for _ in range(50):
        device.load(32 * MIB)
    assert (device.saved - saved) / (device.now - begun) > 1e9


def test_without_a_share_the_same_device_is_slower():
    device = Device(1.0, 1.0, None, saved_gbps=0.5)
    assert device.load(100 * MIB) == pytest.approx(0.21, abs=0.01)


def test_when_no_loads_come_nothing_bounds_saves():
    device = Device(1.0, 1.0, Share())
    for _ in range(50):
        device.load(32 * MIB)
    device.pause(RECENT_S + STEP_S)
    assert device.pause(0.5) >= 0.45 * 0.75e9


def test_the_rate_follows_a_device_that_gets_faster_and_slower():
    share = Share()
    device, rates = Device(1.0, 1.0, share), []
    for gbps in (1.0, 6.0, 0.5):
        device.bytes_per_step = gbps * 1e9 * STEP_S
        for _ in range(300):
            device.load(64 * MIB)
        rates.append(share.rate)
    assert rates[1] > 2 * rates[0]
    assert rates[2] < rates[0]


def test_saves_wait_for_one_load_of_seven_even_when_none_loads_what_it_was_to():
    share, held = Share(), []
    for number in range(21):
        load = share.begin(float(number), MIB)
        held.append(share.held(number) > number)
        share.end(number + 0.5, load, MIB - 1)
    assert held == [True, *[False] * 6] * 3
    assert share.rate is None


def test_a_load_that_found_nothing_teaches_nothing():
    share = Share()
    share.end(1.0, share.begin(0.0, MIB), 0)
    assert share.rate is None


def test_a_save_waits_for_a_probe_and_goes_on_when_it_ends_or_when_it_is_closed():
    clock = [0.0]
    for end in ("load", "close"):
        share, waited = SaveShare(lambda: clock[0]), []
        saves = threading.Thread(target=lambda one=share, into=waited: into.append(one.wait(MIB)))
        with share.load(MIB) as loaded:
            saves.start()
            saves.join(0.05)
            assert saves.is_alive()
            clock[0] += 1.0
            loaded(MIB)
            if end == "close":
                share.close()
                saves.join(10)
        saves.join(10)
        assert waited == [1.0]
