"""LMCache's own RESP client below an LMCache server, for a store with a password, imported by LMCache 0.5 only.

    lmcache server --l2-adapter '{"type": "native_plugin",
      "module_path": "workflow.hyperkv.connectors.lmcache_password_l2", "class_name": "resp_client",
      "adapter_params": {"host": "127.0.0.1", "port": 6666, "num_workers": 8, "password_file": "/run/secrets/kv"}}'

As LMCache's adapter `resp`, which takes the password on its command line. Interface:
lmcache/v1/distributed/l2_adapters/resp_l2_adapter.py.
"""

from __future__ import annotations

from typing import Any

from ..base.secret import Secret


def resp_client(host: str, port: int, num_workers: int, **reference: str) -> Any:
    """The client that adapter `resp` makes, too. reference: see Secret.of. Raises UserError when the password is not there."""
    from lmcache.lmcache_redis import LMCacheRedisClient

    secret = Secret.of(reference)
    return LMCacheRedisClient(host, port, num_workers, "", "" if secret is None else secret.value())
