"""vLLM's connector to an LMCache server, with a scheduler that waits a moment for each lookup.

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "StripedMPConnector",
      "kv_connector_module_path": "lmcache_striped.mp_connector", "kv_role": "kv_both",
      "kv_connector_extra_config": {"lmcache.mp.port": 5555, "lookup_wait_ms": 10}}'

LMCacheMPConnector (LMCache 0.5.6) sends a lookup in one step of vLLM's scheduler, takes its acknowledgement in another and asks for its result
then, so that a prompt of which nothing is found is computed two steps later than without a connector, also where a lookup takes a few
milliseconds. vLLM schedules a step while the one before it computes, which is when this waits.
"""

from __future__ import annotations

import time
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.lmcache_mp_connector import LMCacheMPConnector

from .lookup_wait import LookupWait

WAIT_MS = 10
_POLL_S = 0.0005


class StripedMPConnector(LMCacheMPConnector):
    """LMCacheMPConnector, but for what it says of a lookup that is answered within `lookup_wait_ms`."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None):
        super().__init__(vllm_config, role, kv_cache_config)
        wait_ms = vllm_config.kv_transfer_config.get_from_extra_config("lookup_wait_ms", WAIT_MS)
        self._lookup_wait = LookupWait(wait_ms / 1e3)

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        found = super().get_num_new_matched_tokens(request, num_computed_tokens)
        while found[0] is None and self._lookup_wait.goes_on(request.request_id):
            time.sleep(_POLL_S)
            found = super().get_num_new_matched_tokens(request, num_computed_tokens)
        if found[0] is not None:
            self._lookup_wait.forget(request.request_id)
        return found

    def build_connector_meta(self, scheduler_output: Any) -> Any:
        self._lookup_wait.step_ended()
        return super().build_connector_meta(scheduler_output)

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        self._lookup_wait.forget(request.request_id)
        return super().request_finished(request, block_ids)
