"""Connector `striped_mp`: stripes below an LMCache server, imported by LMCache 0.5 only.

    lmcache server --l2-adapter '{"type": "native_plugin",
      "module_path": "workflow.hyperkv.connectors.lmcache_striped_l2", "class_name": "StripedL2Client",
      "adapter_params": {"endpoints": "127.0.0.1:6666,127.0.0.1:6667"}}'

Further parameters are those of CacheSettings. The repository's root must be on PYTHONPATH, and the environment needs
numpy and xxhash.
"""

from __future__ import annotations

from typing import Any

from lmcache.logging import init_logger

from .striped.cache import StripedCache, settings_from
from .striped.l2 import StripedL2

logger = init_logger(__name__)
_PREFIX = "adapter_params"


class StripedL2Client(StripedL2):
    """What `class_name` names. parameters: the keys of settings_from without a prefix. Raises UserError."""

    def __init__(self, **parameters: Any):
        settings = settings_from({f"{_PREFIX}.{key}": value for key, value in parameters.items()}, _PREFIX)
        cache = StripedCache(settings, lambda line: logger.error("striped: %s", line))
        super().__init__(cache, lambda line: logger.warning("striped: %s", line))

    def close(self) -> None:
        super().close()
        logger.info("striped: %s", self.cache.counts)
