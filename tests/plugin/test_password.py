"""LMCache's own clients for a server with a password: they get in, and LMCache logs none of it; skipped without LMCache."""

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("lmcache")
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.distributed.l2_adapters.native_plugin_l2_adapter import (
    NativePluginL2AdapterConfig,
    _create_native_plugin_l2_adapter,
)
from lmcache.v1.storage_backend.remote_backend import RemoteBackend

from tests.helpers import eventually
from tests.plugin.inside_lmcache import Pool, filled, keys_of, metadata_of_the_model, scenario
from tests.stores.conftest import store_config
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.engines.vllm.lmcache import inprocess_config, mp_arguments
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped import password
from workflow.plugin.lmcache_striped.secret import Secret

WORD = 'pa "ss\\ #1/@:%41 é'


@pytest.fixture
def store(tmp_path):
    write_private(tmp_path / "secret", WORD)
    config = store_config(tmp_path, "valkey", password=Secret(tmp_path / "secret"))
    with make_store("valkey", config) as one:
        yield one


@pytest.fixture
def logged(capfd, monkeypatch):
    """What LMCache writes, and a handler on all of its loggers."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("lmcache"):
            logging.getLogger(name).addHandler(handler)
    yield lambda: "".join([*lines, *capfd.readouterr()])
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).removeHandler(handler)


class WaitingPool(Pool):
    """What LMCache's own connectors ask of the pool."""

    def allocate(self, shapes, dtypes, fmt=None, eviction=True, busy_loop=False):
        return super().allocate(shapes, dtypes, fmt, eviction, False)


@pytest.mark.parametrize("connector", ["redis", "resp"])
def test_lmcaches_own_connector_saves_and_loads(connector, store, tmp_path, loop, logged):
    written = inprocess_config(scenario(connector), 1 << 28, Held(tmp_path), store.endpoints)
    assert WORD not in json.dumps(written, ensure_ascii=False)
    (tmp_path / "lmcache.yaml").write_text(json.dumps(written))
    config = LMCacheEngineConfig.from_file(str(tmp_path / "lmcache.yaml"))
    metadata = metadata_of_the_model()
    pool = WaitingPool(config, metadata)
    (name,) = config.remote_storage_plugins
    backend = RemoteBackend(config, metadata, loop, pool, dst_device="cpu", plugin_name=name)
    # Its close waits for its own loop, so it is left to the process's end.
    assert type(backend.connection.getWrappedConnector()).__name__.lower() == f"{connector}connector"
    keys, objects = keys_of(1, 2), filled(pool, 2)
    backend.batched_submit_put_task(keys, objects)
    assert eventually(lambda: all(backend.contains(key) for key in keys))
    loaded = backend.batched_get_blocking(keys)
    assert [bytes(item.byte_array) for item in loaded] == [bytes(item.byte_array) for item in objects]
    assert WORD not in logged()


def test_the_servers_client_gets_in(store, tmp_path, logged):
    arguments = mp_arguments(scenario("mp"), 1 << 28, Held(tmp_path), store.endpoints, 5555, 8080)
    assert WORD not in json.dumps(arguments, ensure_ascii=False)
    written = json.loads(arguments[arguments.index("--l2-adapter") + 1])
    assert written.pop("type") == "native_plugin"
    adapter = _create_native_plugin_l2_adapter(NativePluginL2AdapterConfig.from_dict(written))
    adapter.close()
    assert WORD not in logged()
    assert SimpleNamespace(**written["adapter_params"]).password_file == str(tmp_path / "secret")


def test_the_servers_client_of_a_user_begins_every_key_with_the_prefix(store, tmp_path, logged):
    with store.client() as client:
        client.acl_setuser("me", enabled=True, passwords=[f"+{WORD}"], keys=["mine:*"], categories=["+@all"])
    endpoint = replace(store.endpoint, user="me", prefix="mine:")
    arguments = mp_arguments(scenario("mp"), 1 << 28, Held(tmp_path), [endpoint], 5555, 8080)
    written = json.loads(arguments[arguments.index("--l2-adapter") + 1])
    client = password.resp_client(**written["adapter_params"])
    data = memoryview(bytearray(b"x" * 1000))
    room = memoryview(bytearray(1000))
    try:
        for submit, *rest in (
            (client.submit_batch_set, [data]),
            (client.submit_batch_exists,),
            (client.submit_batch_get, [room]),
        ):
            submit(["a@b"], *rest)
            [(_, done, why, *_)] = eventually(client.drain_completions)
            assert done, why
    finally:
        client.close()
    assert room == data
    with store.client() as other:
        assert other.keys() == [b"mine:a@b"]
    assert WORD not in logged()
