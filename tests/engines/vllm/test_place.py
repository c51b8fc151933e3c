"""What vLLM and LMCache are told of a store that is there already, and what they cannot do there."""

import json

import pytest

from tests.engines.vllm.slices import HELD, scenario
from tests.helpers import refused
from tests.stores.placed.servers import place_of
from workflow.hyperkv.connectors.registry import plugin_module
from workflow.hyperkv.engines.vllm import lmcache, refusals
from workflow.hyperkv.stores.placed.place import Place
from workflow.plugin.lmcache_striped.cache_settings import settings_from


def at_place(connector: str, *addresses: str, **place) -> dict:
    at = place_of(*(addresses or ("[fe80::1]:6379",)), **place)
    return scenario("valkey", connector, place=at, password_file="/run/secrets/kv", serde=None)


def told(own: dict) -> tuple[lmcache.Offload, str]:
    """What they are told, and the prefix of the run."""
    place = Place.of(own)
    assert place is not None
    return lmcache.offload(own, 4 << 30, HELD, place.endpoints, 5555, 8080), place.prefix


def adapter_of(found: lmcache.Offload) -> dict:
    assert found.server is not None
    return json.loads(found.server[found.server.index("--l2-adapter") + 1])


@pytest.mark.parametrize("connector", ["striped", "striped_mp", "striped_tier"])
def test_the_plugin_is_told_user_tls_and_prefix(connector, tmp_path):
    (tmp_path / "ca.pem").write_text("")
    keys = {"user": "me", "tls": {"ca_file": None}}
    found, prefix = told(at_place(connector, "[fe80::1]:6379", "kv-2:6380", **keys))
    if connector == "striped_mp":
        given, name = {f"p.{key}": value for key, value in adapter_of(found)["adapter_params"].items()}, "p"
    elif connector == "striped":
        given, name = found.config["extra_config"], "remote_storage_plugin.striped"
    else:
        tier = found.transfer["kv_connector_extra_config"]["secondary_tiers"][0]
        given, name = (
            {f"p.{key}": value for key, value in tier.items() if key not in ("type", "module_path")},
            "p",
        )
    settings = settings_from(given, name)
    assert [(each.host, each.port, each.user, each.prefix) for each in settings.endpoints] == [
        ("fe80::1", 6379, "me", prefix),
        ("kv-2", 6380, "me", prefix),
    ]
    assert settings.endpoints[0].tls is not None
    assert str(settings.endpoints[0].password.file) == "/run/secrets/kv"
    assert settings.library is None


def test_lmcaches_server_has_its_client_with_a_prefix():
    found, prefix = told(at_place("mp", user="me"))
    adapter = adapter_of(found)
    assert (adapter["module_path"], adapter["class_name"]) == ("lmcache_striped.password", "resp_client")
    assert adapter["adapter_params"] == {
        **{"host": "fe80::1", "port": 6379, "num_workers": 8, "user": "me"},
        **{"password_file": "/run/secrets/kv", "key_prefix": prefix},
    }
    own = at_place("mp") | {"password_file": None}
    assert plugin_module(own) == "password"
    assert adapter_of(told(own)[0])["adapter_params"]["key_prefix"]


@pytest.mark.parametrize("connector", ["redis", "resp"])
def test_lmcache_inside_vllm_has_no_prefix_and_so_needs_consent(connector):
    own = at_place(connector)
    words = f"connector: with {connector} LMCache gives keys no prefix of the run, .*; choose striped, or set place.consent: true"
    with refused(words):
        refusals.check(own, "cuda", 16, 1 << 20, 1 << 30)
    own["place"]["consent"] = True
    refusals.check(own, "cuda", 16, 1 << 20, 1 << 30)
    own["place"]["tls"] = {}
    with refused(f"place.tls: LMCache's own client of connector {connector} speaks no TLS; choose striped"):
        refusals.check(own, "cuda", 16, 1 << 20, 1 << 30)


def test_lmcaches_servers_client_speaks_no_tls():
    with refused("place.tls: LMCache's own client of connector mp speaks no TLS; choose striped_mp"):
        refusals.check(at_place("mp", tls={}), "cuda", 16, 1 << 20, 1 << 30)
    refusals.check(at_place("striped_mp", tls={}), "cuda", 16, 1 << 20, 1 << 30)
