"""Stripes below vLLM's own offloading, without LMCache: a secondary tier, imported by vLLM from 0.32 on.

    --kv-transfer-config '{"kv_connector": "OffloadingConnector", "kv_role": "kv_both", "kv_connector_extra_config": {
      "spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": 8589934592, "secondary_tiers": [
        {"type": "StripedTier", "module_path": "lmcache_striped.tier", "endpoints": "127.0.0.1:6666,127.0.0.1:6667"}]}}'

Further keys are those of settings_from (cache_settings.py), without a prefix. Everything goes through vLLM's buffer in DRAM, whose
chunks are the values; their keys are the names that vLLM's file-system tier gives its files, so that other models, dtypes
and parallelisms never meet. Interface: vllm/v1/kv_offload/tiering/base.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from vllm.logger import init_logger
from vllm.v1.kv_offload.base import Locality, LookupResult, Medium, RequestOffloadingContext
from vllm.v1.kv_offload.file_mapper import FileMapper
from vllm.v1.kv_offload.tiering.async_lookup import AsyncLookupManager
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager, TransferJob

from .cache import StripedCache
from .cache_settings import settings_from
from .save_queue import Saving
from .threads import started

logger = init_logger("vllm.lmcache_striped")  # whose lines vLLM shows
_PREFIX = "secondary_tiers"
_MOST_FAILED = 1 << 16


class StripedTier(SecondaryTierManager):
    """What `type` names. Raises UserError for keys that are wrong.

    Lookups, loads, and the lookups before saves have a thread each. What is there is not saved again, unless it failed to
    load; what the queue of saves has no room for is not saved, which is no failure. A store that fails is a tier that misses.
    """

    medium: ClassVar[Medium] = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Any = None,
        locality: str | None = None,
        **parameters: Any,
    ):
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        self.locality = None if locality is None else Locality(locality)
        settings = settings_from({f"{_PREFIX}.{key}": value for key, value in parameters.items()}, _PREFIX)
        logger.info("striped: %s", settings.loads_by)
        logs = (logger.error, logger.warning, logger.info)
        self.cache = StripedCache(settings, *(partial(log, "striped: %s") for log in logs))
        self._chunks = np.asarray(primary_kv_view).view(np.uint8)
        self._names = FileMapper.from_offloading_spec(
            "kv", offloading_spec, offloading_spec.blocks_per_chunk, parallel_agnostic=True
        )
        self._presence = _Presence(tier_type, self._present)
        self._loads = started(settings.loads_at_once, "striped-loads")
        self._saves = started(1, "striped-saves")
        self._changed = threading.Condition()
        self._running: set[int] = set()
        self._finished: list[tuple[TransferJob, JobResult]] = []
        self._failed: set[bytes] = set()

    def lookup(self, key: Any, req_context: Any) -> LookupResult:
        found = self._presence.lookup(key, req_context)
        if found is None:
            return LookupResult.RETRY
        return LookupResult.HIT if found else LookupResult.MISS

    def submit_load(self, job_metadata: TransferJob) -> None:
        self._begin(job_metadata)
        self._loads.submit(self._guarded, self._load, job_metadata)

    def submit_store(self, job_metadata: TransferJob) -> None:
        self._begin(job_metadata)
        self._saves.submit(self._guarded, self._save, job_metadata)

    def get_finished_jobs(self) -> Iterable[JobResult]:
        with self._changed:
            finished, self._finished = self._finished, []
        for job, result in finished:
            if job.is_promotion and not result.success:
                loaded = {*(result.successful_keys or ())}
                self._presence.mark_miss([key for key in job.keys if key not in loaded])
        return [result for _, result in finished]

    def on_new_request(self, req_context: Any) -> RequestOffloadingContext:
        return RequestOffloadingContext()

    def on_request_finished(self, req_context: Any) -> None:
        self._presence.cleanup(req_context.req_id)

    def on_schedule_end(self, context: Any) -> None:
        self._presence.flush()

    def drain_jobs(self) -> None:
        """Return when no load and no save is under way or waits."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def shutdown(self) -> None:
        self._presence.shutdown()
        for threads in (self._loads, self._saves):
            threads.shutdown(cancel_futures=True)
        self._chunks = np.empty((0, 0), np.uint8)  # vLLM is about to release its buffer
        self.cache.close()
        logger.info("striped: %s", self.cache.counts)

    def key_of(self, key: Any) -> bytes:
        """The store's key of a chunk, without its stripes' numbers."""
        return self._names.get_file_name(key).encode()

    def _present(self, keys: list[Any]) -> list[bool]:
        return self.cache.present([self.key_of(key) for key in keys])

    def _load(self, job: TransferJob, since: float) -> None:
        keys = list(job.keys)
        names = [self.key_of(key) for key in keys]
        found = self.cache.load(names, [self._chunks[chunk] for chunk in job.chunk_ids])
        self._note_failed(name for name, hit in zip(names, found, strict=True) if not hit)
        self._end(job, since, [key for key, hit in zip(keys, found, strict=True) if hit])

    def _save(self, job: TransferJob, since: float) -> None:
        keys = list(job.keys)
        names = [self.key_of(key) for key in keys]
        there = self.cache.present(names)
        wanted = self.cache.worth_saving(
            [
                (name, self._chunks[chunk])
                for name, chunk, present in zip(names, job.chunk_ids, there, strict=True)
                if not present or name in self._failed
            ]
        )
        dropped = 0
        saving = Saving(
            len(wanted) + 1,
            lambda saved: self._end(job, since, keys if saved else [], len(wanted) - dropped),
        )
        for name, chunk in wanted:
            self._failed.discard(name)
            if not self.cache.offer([name], [chunk], saving.ended):
                dropped += 1
                saving.ended(True)
        if dropped:
            logger.warning("striped: dropped %d chunks, saves are behind", dropped)
        saving.ended(True)

    def _note_failed(self, names: Iterable[bytes]) -> None:
        self._failed.update(names)
        if len(self._failed) > _MOST_FAILED:
            self._failed.clear()

    def _begin(self, job: TransferJob) -> None:
        with self._changed:
            self._running.add(job.job_id)

    def _guarded(self, work: Callable[[TransferJob, float], None], job: TransferJob) -> None:
        """Do a job, which ends whatever happens: its chunks are held until then."""
        since = time.monotonic()
        try:
            work(job, since)
        except Exception as error:
            logger.error("striped: a load or save failed: %s: %s", type(error).__name__, error)
            self._end(job, since, [])

    def _end(self, job: TransferJob, since: float, done: list[Any], moved: int | None = None) -> None:
        """Once for a job; more often is once. done: its keys that did well. moved: chunks that went over the wire, None for those."""
        result = JobResult(
            job_id=job.job_id,
            success=len(done) == len(job.keys),
            successful_keys=tuple(done) if job.is_promotion and done else None,
            transfer_time=time.monotonic() - since,
            transfer_bytes=(len(done) if moved is None or not done else moved) * self.block_size_bytes,
        )
        with self._changed:
            if job.job_id in self._running:
                self._running.remove(job.job_id)
                self._finished.append((job, result))
                self._changed.notify_all()


class _Presence(AsyncLookupManager):
    """vLLM's lookups behind its scheduler, by `present`."""

    def __init__(self, tier_type: str, present: Callable[[list[Any]], list[bool]]):
        self._ask = present
        super().__init__(tier_type)

    def batch_lookup(self, keys: list[Any], req_context: Any) -> Iterable[bool]:
        return self._ask(keys)
