"""vLLM's connector to an LMCache server, whose lookups are answered between two steps of vLLM's scheduler.

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "StripedMPConnector",
      "kv_connector_module_path": "lmcache_striped.mp_connector", "kv_role": "kv_both",
      "kv_connector_extra_config": {"lmcache.mp.port": 5555}}'

LMCacheMPConnector (LMCache 0.5.6) sends a lookup in one step, takes its acknowledgement in the next and asks for its result then, so that a
prompt is scheduled two steps later than without a connector, also where the lookup itself takes less than one. Here a thread asks meanwhile.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.lmcache_mp_connector import LMCacheMPConnector

_POLL_S = 0.0005


class StripedMPConnector(LMCacheMPConnector):
    """LMCacheMPConnector, but that a thread takes the answers of lookups. What vLLM calls and the thread take turns by a lock."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None):
        super().__init__(vllm_config, role, kv_cache_config)
        self._wait_s = vllm_config.kv_transfer_config.get_from_extra_config("step_wait_ms", 0) / 1e3
        self._loads_until = 0.0
        self._waiting: set[str] = set()
        self._turn = threading.Condition()
        threading.Thread(target=self._ask, name="striped-answers", daemon=True).start()

    def _ask(self) -> None:
        """Ask for the answers of what waits, as long as vLLM runs."""
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._waiting)
                self._waiting = {
                    request
                    for request in self._waiting
                    if self.scheduler_adapter.check_lookup_result(request) is None
                }
            time.sleep(_POLL_S)

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        with self._turn:
            found = super().get_num_new_matched_tokens(request, num_computed_tokens)
            if found[0] is None:
                self._waiting.add(request.request_id)
                self._turn.notify()
            return found

    def update_state_after_alloc(self, *arguments: Any, **named: Any) -> None:
        with self._turn:
            super().update_state_after_alloc(*arguments, **named)

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        with self._turn:
            self._waiting.discard(request.request_id)
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
