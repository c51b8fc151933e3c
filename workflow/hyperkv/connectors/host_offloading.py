"""Connector `offloading` on a CPU, imported by vLLM only: vLLM's tiers, and our copy between its KV cache and its pool.

vLLM's own copy is a GPU's. Everything else is vLLM's own: lookups, pool, tiers and their files. kv_connector_extra_config names it:

    {"spec_name": "TieringOnHost", "spec_module_path": "workflow.hyperkv.connectors.host_offloading", …}

Interfaces of vLLM 0.32 (vllm/v1/kv_offload: base.py, cpu/gpu_worker.py, tiering/spec.py).
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import torch
from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class TieringOnHost(TieringOffloadingSpec):
    """What `spec_name` names."""

    _worker: Any

    def get_worker(self, kv_caches: Any) -> OffloadingWorker:
        if self._worker is None:
            region = SharedOffloadRegion(
                engine_id=self._engine_id,
                num_chunks=self.num_chunks,
                rank=self.config.parallel.rank,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
            )
            self._worker = HostWorker(kv_caches, self.blocks_per_chunk, region)
        return self._worker


class HostWorker(OffloadingWorker):
    """Copies blocks of the KV cache to chunks of the pool and back, at once."""

    def __init__(self, kv_caches: Any, blocks_per_chunk: int, region: SharedOffloadRegion):
        self._region, self._per_chunk, self._refs = region, blocks_per_chunk, kv_caches.group_data_refs
        self._finished: list[TransferResult] = []
        self._blocks, self._slots = [], []
        for cache in kv_caches.tensors:
            page = cache.page_size_bytes
            chunks = region.create_next_worker_view(page * blocks_per_chunk)
            self._blocks.append(cache.tensor.view(torch.int8).view(-1, page))
            self._slots.append(chunks.unflatten(1, (blocks_per_chunk, page)))

    def submit_store(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        return self._copy(job_id, src_spec, dst_spec, save=True)

    def submit_load(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        return self._copy(job_id, dst_spec, src_spec, save=False)

    def _copy(self, job_id: int, cache: Any, pool: Any, save: bool) -> bool:
        """cache: which blocks, group after group. pool: which chunks; a group may begin within one."""
        started, moved, blocks_before, chunks_before = perf_counter(), 0, 0, 0
        for count, first, refs in zip(cache.group_sizes, cache.block_indices, self._refs, strict=True):
            places = first % self._per_chunk + np.arange(count)
            blocks = torch.from_numpy(cache.block_ids[blocks_before : blocks_before + count].astype(np.int64))
            chunks = torch.from_numpy(
                pool.block_ids[chunks_before + places // self._per_chunk].astype(np.int64)
            )
            slots = torch.from_numpy(places % self._per_chunk)
            blocks_before += count
            chunks_before += int(places[-1]) // self._per_chunk + 1 if count else 0
            for ref in refs:
                near, far = self._blocks[ref.tensor_idx], self._slots[ref.tensor_idx]
                if save:
                    far[chunks, slots] = near[blocks]
                else:
                    near[blocks] = far[chunks, slots]
                moved += count * ref.page_size_bytes
        self._finished.append(TransferResult(job_id, True, moved, perf_counter() - started))
        return True

    def get_finished(self) -> list[TransferResult]:
        finished, self._finished = self._finished, []
        return finished

    def wait(self, job_ids: set[int]) -> None:
        """Nothing is under way."""

    def shutdown(self) -> None:
        self._blocks.clear()
        self._slots.clear()
        self._region.cleanup()
