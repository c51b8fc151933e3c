"""The points of a profile: every repeat x value size x number of connections, each measured once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..cells.job import Job
from ..cells.point import common_fields
from ..machine.node import data_dir_of, node_name
from ..machine.own_folder import alone_on
from ..records.kinds.record import Part

Measure = Callable[[int, int, int], Sequence[Part]]  # of a repeat, bytes of a value and connections
Measuring = Callable[[Sequence[str], Measure], None]


@contextmanager
def points_of(job: Job, told: str) -> Iterator[Measuring]:
    """Measure a job's points in the block, where nobody else measures on its data_dir; then write its file and say so.

    What the block gets takes the parts of a point, and what measures one: a record for each part. Points whose records are kept
    from before are not measured again. told: names the job in what is said.
    """
    spec, started = job.spec, time.perf_counter()
    journal, data_dir = job.journal(node_name()), data_dir_of(spec["data_dir"])
    keys: list[str] = []

    def measure_all(parts: Sequence[str], measure: Measure) -> None:
        repeats = range(1, spec["repeats"] + 1)
        for point in itertools.product(repeats, spec["value_bytes"], spec["connections"]):
            wanted = ["/".join(map(str, (*point, part))) for part in parts]
            keys.extend(wanted)
            if not all(map(journal.has, wanted)):
                for key, record in zip(wanted, measure(*point), strict=True):
                    journal.append(key, record.dump())

    with alone_on(data_dir):
        yield measure_all
    journal.finish(keys, common_fields(spec, data_dir))
    print(f"hyperkv {told}: {len(keys)} records, {time.perf_counter() - started:.0f} s", flush=True)
