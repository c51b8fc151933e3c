"""Connector direct beside bare reads and fio, which read the same files past the page cache: GB/s, CPU seconds per GB, ratios.

    python -m workflow.hyperkv.array.bench_reads [--store rocksdb] [--data-dir results/data] [--reads 8 32] [--rounds 5]

One server is filled, ended and started again, and every reader reads what it has in its files once in a round, with as many reads under
way as the others: direct in two loads that go on at once, as in an engine; bare reads, of the stripes alone, by a thread each; fio (where
it is on PATH) whole files in blocks of a stripe. All read into huge pages, direct copies and proves from there. Rounds begin with another reader each; figures are medians, ratios those of what two
readers gave in one round. CPU is that of the reader, of direct with its server's.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import redis
from tabulate import tabulate

from ...plugin.lmcache_striped.cache import CacheSettings, StripedCache
from ...plugin.lmcache_striped.cache_settings import LOADS_OF_FILES
from ...plugin.lmcache_striped.stripes import STRIPE_BYTES
from ...plugin.lmcache_striped.threads import started
from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Count, Counts
from ..cells.point import point_keys
from ..connectors.registry import LIBRARY, make_connector
from ..machine.counters import process_counters, supports_direct_io
from ..machine.own_folder import own_folder
from ..machine.probe import call
from ..profile.bench_saves import config_of
from ..profile.own_files import Piece, pieces_of, reader
from ..stores.registry import make_store, store_class
from ..stores.server import ServerStore
from ..workloads.payload import Payload, aligned_buffer, slots
from .fio import parse_point, read_command

_CONNECTIONS = 4
_TIMEOUT_S = 300.0
_DIRECT = "connector direct"
_CHOOSE = "choose rocksdb, or kvrocks with patch locate-values"


@dataclass(frozen=True)
class Read:
    """One reader's round."""

    gbps: float
    cpu_s_per_gb: float


@dataclass(frozen=True)
class There:
    """A store with chunks in its files: their keys, where they belong, and where their stripes lie."""

    store: ServerStore
    keys: Sequence[bytes]
    buffers: Sequence[np.ndarray]
    stripe_bytes: int
    pieces: Sequence[Piece]

    @property
    def total_bytes(self) -> int:
        """Bytes of all chunks."""
        return sum(buffer.size for buffer in self.buffers)

    @property
    def files(self) -> list[Path]:
        """The files, in the order of their names."""
        return sorted({piece.path for piece in self.pieces})


def main(
    *,
    store: str = "rocksdb",
    data_dir: Path = Path("results/data"),
    program: Path | None = None,
    chunk_bytes: Count = 32 << 20,
    stripe_bytes: Count = STRIPE_BYTES,
    together: Count = 4,
    count: Count = 32,
    reads: Counts = (8, 32),
    rounds: Count = 5,
) -> None:
    """Measure and print.

    Args:
        store: rocksdb, or kvrocks with patch locate-values.
        data_dir: where its files are; on the device that is measured.
        program: the server's program.
        together: chunks of a load.
        count: chunks that are there.
        reads: under way at once.
    """
    if not store_class(store).is_server:
        raise UserError(f"bench_reads: --store: {store} has no server; {_CHOOSE}")
    with own_folder(data_dir, f"reads of {store}", "--data-dir") as folder:
        if not supports_direct_io(folder):
            raise UserError(
                f"bench_reads: --data-dir: the file system of {data_dir} has no O_DIRECT; choose a local disk"
            )
        with make_store(store, config_of(store, folder, chunk_bytes, program)) as server:
            assert isinstance(server, ServerStore)
            there = filled(server, chunk_bytes, count, stripe_bytes)
            for number in reads:
                print(compare(there, together, number, rounds), flush=True)


def filled(store: ServerStore, chunk_bytes: int, count: int, stripe_bytes: int) -> There:
    """Save chunks, and start the store again, so that all lie in files. Raises UserError when they do not."""
    keys, payload = point_keys("there", 1, count), Payload(chunk_bytes)
    buffers = slots(aligned_buffer(count * chunk_bytes), chunk_bytes)
    with make_connector("striped", store, _CONNECTIONS, _TIMEOUT_S, stripe_bytes=stripe_bytes) as connector:
        for key in keys:
            connector.put([key], [payload.value(key)])
    store.make_cold()
    try:
        pieces, missing = pieces_of(store, keys, buffers, stripe_bytes)
    except redis.ResponseError as error:
        raise UserError(
            f"bench_reads: store {store.name} does not say where values lie ({error}); {_CHOOSE}"
        ) from error
    if missing:
        raise UserError(
            f"bench_reads: {missing} of {missing + len(pieces)} stripes are not in the files of store {store.name}"
        )
    return There(store, keys, buffers, stripe_bytes, pieces)


def compare(there: There, together: int, reads: int, rounds: int) -> str:
    """The table of so many reads under way: every reader's medians, and direct's ratio to it."""
    fio = shutil.which("fio")
    with (
        by_direct(there, together, reads) as direct,
        reader(there.pieces, reads, past_the_cache=True) as bare,
    ):
        moved = partial(timed, there.total_bytes)
        readers: dict[str, Callable[[], Read]] = {
            _DIRECT: partial(moved, direct, there.store.pid()),
            "bare reads": partial(moved, bare),
        }
        if fio is not None:
            readers["fio"] = partial(by_fio, there, reads)
        found: dict[str, list[Read]] = {name: [] for name in readers}
        names = list(readers)
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(readers[name]())
    client = "native" if LIBRARY.exists() else "python"
    head = f"{reads} reads under way, {there.total_bytes / 2**30:g} GiB of {there.store.name} in stripes of {there.stripe_bytes >> 10} KiB"
    note = "" if fio else "\nfio: not installed (Debian: fio)"
    return f"{head}, client {client}, median of {rounds}\n{table(found)}{note}\n"


@contextmanager
def by_direct(there: There, together: int, reads: int) -> Iterator[Callable[[], None]]:
    """A call that loads all chunks. Raises UserError for one that does not come, or not from files."""
    store = there.store
    store.files_read_here = True
    loads = min(LOADS_OF_FILES, reads)
    each = reads // loads
    threads = max(number for number in range(1, len(os.sched_getaffinity(0)) + 1) if each % number == 0)
    library = LIBRARY if LIBRARY.exists() else None
    settings = CacheSettings(
        tuple(store.endpoints),
        connections=_CONNECTIONS if library else each,
        stripe_bytes=there.stripe_bytes,
        timeout_s=_TIMEOUT_S,
        library=library,
        dirs=tuple(each.folder for each in store.endpoints if each.folder is not None),
        read="direct",
        read_threads=threads,
        read_depth=each // threads,
        loads=loads,
    )
    cache = StripedCache(settings, warn=lambda line: print(line, file=sys.stderr))
    parts = [slice(start, start + together) for start in range(0, len(there.keys), together)]

    def load(part: slice) -> list[bool]:
        return cache.load(there.keys[part], there.buffers[part])

    with started(loads) as workers:

        def read() -> None:
            if not all(itertools.chain.from_iterable(workers.map(load, parts))):
                raise UserError(
                    f"bench_reads: connector direct did not get back what store {store.name} was given"
                )
            files = cache.counts.files
            if files is None or files.by_get:
                raise UserError(
                    f"bench_reads: connector direct asked for stripes that are in files by GET: {files}"
                )

        try:
            yield read
        finally:
            cache.close()


def timed(total_bytes: int, read: Callable[[], None], server: int | None = None) -> Read:
    """Read once. server: the process whose CPU counts, too."""
    pids = [os.getpid(), *([server] if server else [])]
    before = [process_counters(pid).cpu_s or 0.0 for pid in pids]
    begun = time.perf_counter()
    read()
    elapsed_s = time.perf_counter() - begun
    spent_s = sum((process_counters(pid).cpu_s or 0.0) - then for pid, then in zip(pids, before, strict=True))
    return Read(total_bytes / elapsed_s / 1e9, spent_s / total_bytes * 1e9)


def by_fio(there: There, reads: int) -> Read:
    """fio's round. Raises UserError when it fails."""
    done = call(read_command(there.files, there.stripe_bytes, reads), _TIMEOUT_S)
    point = parse_point(done.text or done.errors, "read")
    return Read(point["gbps"], point["cpu_s"] / point["moved_bytes"] * 1e9)


def table(found: Mapping[str, list[Read]]) -> str:
    """Medians of every reader, and what direct gave over what it gave in the same round."""
    rows = []
    for name, rounds in found.items():
        ratio = statistics.median(
            own.gbps / each.gbps for own, each in zip(found[_DIRECT], rounds, strict=True)
        )
        figures = {
            "GB/s": statistics.median(each.gbps for each in rounds),
            "CPU s/GB": statistics.median(each.cpu_s_per_gb for each in rounds),
            "direct / it": ratio,
        }
        rows.append({"reader": name} | {column: f"{value:.3g}" for column, value in figures.items()})
    return tabulate(rows, headers="keys", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(run_stage("bench_reads", main))
