"""LMCache's own clients `redis` and `resp` for a server with a password or keys of others, imported by LMCache 0.5 only.

LMCache takes a password in `remote_url`, `extra_config` or its server's command line, and logs all three. These are given
where the password is, and make the same client with it, inside vLLM:

    remote_storage_plugins: [with_password]
    extra_config:
      remote_storage_plugin.with_password.module_path: lmcache_striped.password
      remote_storage_plugin.with_password.class_name: PasswordAdapter
      remote_storage_plugin.with_password.client: redis
      remote_storage_plugin.with_password.host: 127.0.0.1
      remote_storage_plugin.with_password.port: 6666
      remote_storage_plugin.with_password.password_file: /run/secrets/kv

and below LMCache's server:

    lmcache server --l2-adapter '{"type": "native_plugin", "module_path": "lmcache_striped.password", "class_name": "resp_client",
      "adapter_params": {"host": "127.0.0.1", "port": 6666, "num_workers": 8, "password_file": "/run/secrets/kv"}}'

Interfaces: lmcache/v1/storage_backend/connector/redis_adapter.py, lmcache/v1/distributed/l2_adapters/resp_l2_adapter.py.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from lmcache.v1.storage_backend.connector import ConnectorAdapter
from lmcache.v1.storage_backend.connector.base_connector import RemoteConnector

from .secret import KEYS, Secret

NAME = "with_password"
_PREFIX = f"remote_storage_plugin.{NAME}"


class PasswordAdapter(ConnectorAdapter):
    """What `class_name` names inside vLLM. Raises UserError when the password is not there."""

    def __init__(self) -> None:
        super().__init__(f"plugin://{NAME}")

    def create_connector(self, context: Any) -> RemoteConnector:
        from lmcache.v1.storage_backend.connector.redis_connector import RedisConnector, RESPConnector

        given = context.config.extra_config or {}
        secret = Secret.of({key: given.get(f"{_PREFIX}.{key}") for key in KEYS})
        user, password = given.get(f"{_PREFIX}.user") or "", "" if secret is None else secret.value()
        host, port = given[f"{_PREFIX}.host"], int(given[f"{_PREFIX}.port"])
        place = {"loop": context.loop, "local_cpu_backend": context.local_cpu_backend}
        if given[f"{_PREFIX}.client"] == "redis":
            who = f"{quote(user, safe='')}:{quote(password, safe='')}"
            return RedisConnector(url=f"redis://{who}@{f'[{host}]' if ':' in host else host}:{port}", **place)
        threads = int(given.get("resp_num_threads", 8))
        return RESPConnector(
            host=host, port=port, num_threads=threads, username=user, password=password, **place
        )


def resp_client(
    host: str, port: int, num_workers: int, user: str = "", key_prefix: str = "", **reference: str
) -> Any:
    """The client that LMCache's adapter `resp` makes, too; with key_prefix every key begins so. reference: see Secret.of.

    Raises UserError when the password is not there.
    """
    from lmcache.lmcache_redis import LMCacheRedisClient

    secret = Secret.of(reference)
    made = LMCacheRedisClient(host, port, num_workers, user, "" if secret is None else secret.value())
    return Prefixed(made, key_prefix) if key_prefix else made


class Prefixed:
    """A native client of LMCache with other keys; all else is its own."""

    def __init__(self, client: Any, prefix: str):
        self._client, self._prefix = client, prefix

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not name.startswith("submit_"):
            return found
        return lambda keys, *rest: found([self._prefix + key for key in keys], *rest)
