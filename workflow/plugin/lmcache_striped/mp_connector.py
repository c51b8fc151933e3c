"""vLLM's connector to an LMCache server, which waits a moment for lookups and loads.

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "StripedMPConnector",
      "kv_connector_module_path": "lmcache_striped.mp_connector", "kv_role": "kv_both",
      "kv_connector_extra_config": {"lmcache.mp.port": 5555, "step_wait_ms": 10}}'

LMCacheMPConnector (LMCache 0.5.6) sends a lookup in one step of vLLM's scheduler, takes its acknowledgement in another and asks for its result
then, and looks once per step whether a load has ended. So a prompt of which nothing is found is computed two steps later than without a
connector, and one that is loaded three or four, also where lookup and load take a few milliseconds. vLLM chooses what a step computes while
the one before it is computed, which is when this waits.
"""

from __future__ import annotations

import time
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.lmcache_mp_connector import LMCacheMPConnector

from .step_wait import StepWait

WAIT_MS = 10
_POLL_S = 0.0005


class StripedMPConnector(LMCacheMPConnector):
    """LMCacheMPConnector, but that a step waits up to `step_wait_ms` for lookups, and as long for the loads that it began."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None):
        super().__init__(vllm_config, role, kv_cache_config)
        self._wait_s = vllm_config.kv_transfer_config.get_from_extra_config("step_wait_ms", WAIT_MS) / 1e3
        self._lookups = StepWait(self._wait_s)
        self._loads_until = 0.0

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        found = super().get_num_new_matched_tokens(request, num_computed_tokens)
        while found[0] is None and self._lookups.goes_on(request.request_id):
            time.sleep(_POLL_S)
            found = super().get_num_new_matched_tokens(request, num_computed_tokens)
        if found[0] is not None:
            self._lookups.forget(request.request_id)
        return found

    def build_connector_meta(self, scheduler_output: Any) -> Any:
        self._lookups.step_ended()
        return super().build_connector_meta(scheduler_output)

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        self._lookups.forget(request.request_id)
        return super().request_finished(request, block_ids)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        before = len(self.worker_adapter.retrieve_futures)
        super().start_load_kv(forward_context, **kwargs)
        if len(self.worker_adapter.retrieve_futures) > before:
            self._loads_until = time.monotonic() + self._wait_s

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        loads = [load for load, _ in self.worker_adapter.retrieve_futures.values()]
        while time.monotonic() < self._loads_until and not all(load.query() for load in loads):
            time.sleep(_POLL_S)
        return super().get_finished(finished_req_ids)
