"""A client that saves, looks up and loads under a bound until it is killed: what it does is decided by its seed."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence

import numpy as np

from workflow.plugin.lmcache_striped.bounded import OwnBoundConnector
from workflow.plugin.lmcache_striped.deadline import Endpoint

STRIPE = 4096
CHUNK = 3 * STRIPE + 100
BOUND = 12 * (CHUNK + 1000)


def key_of(number: int) -> bytes:
    return f"model@00000000@0@{number:064x}".encode()


def value_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, CHUNK, dtype=np.uint8)


def opened(endpoints: Sequence[Endpoint], bound_bytes: int = BOUND, **options) -> OwnBoundConnector:
    """A connector that has taken the bound over."""
    return OwnBoundConnector(endpoints, 2, 10.0, STRIPE, bound_bytes=bound_bytes, **options)


def save(endpoints: Sequence[Endpoint], seed: int) -> None:
    """Save without end, and print a line of JSON for what was saved: the step, and the numbers."""
    rng = random.Random(seed)
    connector = opened(endpoints)
    buffer = np.zeros(CHUNK, np.uint8)
    for step in range(1 << 30):
        numbers = [rng.randrange(40) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.3:
            connector.count_present([key_of(number) for number in numbers])
            connector.get([key_of(numbers[0])], [buffer])
        else:
            numbers = [*dict.fromkeys(numbers)]
            connector.put([key_of(n) for n in numbers], [value_of(n) for n in numbers])
            print(json.dumps([step, numbers]), flush=True)


if __name__ == "__main__":
    save([Endpoint("127.0.0.1", int(port)) for port in sys.argv[2:]], int(sys.argv[1]))
