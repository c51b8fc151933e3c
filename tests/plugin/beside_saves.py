"""How long lookups take beside saves that a device holds up, and beside a thread that computes.

    python -m tests.plugin.beside_saves PROGRAM [WORKERS] [FOLDER]

Four patched Kvrocks with preset tuned and write buffers of 8 MiB in FOLDER, a tmpfs, for each of which fsync takes as long as a device
of 0.05 GB/s would. Saves wait all the while; lookups of 40 chunks, present and absent ones in turn, are asked for 20 times a second, one after
the other where they are late. Then, without saves, prompts of 8 absent chunks are looked up by both clients in turn, alone and while a
thread of the same process computes in Python every other 6 ms, as LMCache's server does.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.stores.conftest import new_keys, values_of
from workflow.hyperkv.base.config_files import read_mapping
from workflow.hyperkv.build.build_striped import compile_library
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings

MIB = 1 << 20
CHUNK_BYTES, THERE, PROMPT = 4 * MIB, 48, 40
SECONDS, EVERY_S, SLOW_BYTES_PER_S = 12, 0.05, 5e7
TURNS, BREAK_S = 300, 0.006
TUNED = Path("config/kvrocks/tuned.yaml")


def main(program: str, workers: str = "2", folder: str = "/dev/shm") -> None:
    tuned = read_mapping(TUNED, "beside_saves", "it is a preset")
    small = {"rocksdb.write_buffer_size": 8, "rocksdb.max_write_buffer_number": 3, "workers": workers}
    with tempfile.TemporaryDirectory(dir=folder) as own:
        slow = Path(own, "slow_fsync.so")
        source = Path(__file__).with_name("slow_fsync.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", slow, source, "-ldl"], check=True)
        held = {"LD_PRELOAD": str(slow), "SLOW_BYTES_PER_S": f"{SLOW_BYTES_PER_S:f}"}
        config = StoreConfig(
            Path(own, "data"),
            CHUNK_BYTES,
            Path(own, "log"),
            settings=tuned["settings"] | small,
            environment=tuned["environment"] | held,
            program=Path(program),
            processes=4,
            patched=True,
        )
        library = Path(own, "striped.so")
        compile_library(Path("workflow/plugin/lmcache_striped/native.c"), "native", library)
        with make_store("kvrocks", config) as store:
            settings = CacheSettings(tuple(store.endpoints), 2, save_connections=1, timeout_s=30)
            print(told(measured(StripedCache(settings)) | in_turn(settings, library)))


def measured(cache: StripedCache) -> dict[str, list[float]]:
    """Seconds of lookups of prompts that are there, and that are not."""
    there, stop = new_keys(THERE), threading.Event()
    values = values_of(there[:4], CHUNK_BYTES)
    names = itertools.count()

    def offer(key: bytes) -> None:
        while not cache.offer([key], [values[next(names) % 4]], lambda _: None) and not stop.wait(0.01):
            pass

    def save() -> None:
        while not stop.is_set():
            offer(b"new%d" % next(names))

    for key in there:
        offer(key)
    cache.wait_saved(60)
    thread = threading.Thread(target=save)
    thread.start()
    took: dict[str, list[float]] = {"present": [], "absent": []}
    try:
        end = time.monotonic() + SECONDS
        for number in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()):
            kind = "absent" if number % 2 else "present"
            keys = (
                [b"no%d-%d" % (number, i) for i in range(PROMPT)]
                if number % 2
                else random.sample(there, PROMPT)
            )
            begun = time.monotonic()
            assert cache.count_present(keys) == (0 if number % 2 else PROMPT)
            took[kind].append(time.monotonic() - begun)
            time.sleep(max(0.0, EVERY_S - took[kind][-1]))
    finally:
        stop.set()
        thread.join()
        cache.close()
    return took


def in_turn(settings: CacheSettings, library: Path) -> dict[str, list[float]]:
    """Seconds of lookups by client python and native, alone and beside a thread that computes."""
    stop, computes = threading.Event(), threading.Event()

    def compute() -> None:
        while not stop.wait(BREAK_S):
            end = time.monotonic() + BREAK_S
            while computes.is_set() and time.monotonic() < end:
                sum(range(200))

    took: dict[str, list[float]] = {}
    thread = threading.Thread(target=compute)
    thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(stop.set)
        caches = {
            client: stack.enter_context(contextlib.closing(StripedCache(replace(settings, library=path))))
            for client, path in (("python", None), ("native", library))
        }
        for number in range(2 * TURNS):
            (computes.clear if number < TURNS else computes.set)()
            for client, cache in caches.items():
                begun = time.monotonic()
                assert not cache.count_present([b"none%d-%d" % (number, i) for i in range(8)])
                seconds = time.monotonic() - begun
                took.setdefault(f"{client}, {'computing' if computes.is_set() else 'alone'}", []).append(
                    seconds
                )
                time.sleep(random.uniform(0, 2 * BREAK_S))
    return took


def told(took: dict[str, list[float]]) -> str:
    rows = ["lookups             count  p50 ms  p90 ms  most ms"]
    for kind, seconds in took.items():
        middle, high, most = np.percentile(seconds, [50, 90, 100]) * 1e3
        rows.append(f"{kind:17} {len(seconds):7} {middle:7.1f} {high:7.1f} {most:8.1f}")
    return "\n".join(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
