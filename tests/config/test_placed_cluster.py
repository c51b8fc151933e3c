"""A cluster that is there already: what a scenario may ask of it, and what is refused before anything is contacted."""

import json

import pytest

from tests.configs import changed, engine, one_line
from tests.engines.vllm.slices import HELD, scenario
from tests.helpers import refused
from tests.stores.placed.servers import place_of
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.engines.vllm import lmcache
from workflow.hyperkv.stores.placed.place import Place

NODES = {"addresses": ["kv-1:6379", "kv-2:6379"], "cluster": True}
FAR = {"tier": "dram", "store": "valkey", "connector": "striped", "place": NODES}


def with_far(**keys) -> dict:
    """BASE with a scenario `far` that is profiled."""
    config = changed("scenarios.far", FAR | keys)
    config["profile"]["scenarios"] = ["far"]
    return config


def test_a_cluster_is_one_store_whatever_its_addresses():
    assert checked(with_far())["scenarios"]["far"]["processes"] == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"processes": 2}, "far.processes: there is a cluster; leave it out"),
        (
            {"connector": "resp"},
            "far.connector: resp asks one server for every key, and a cluster has each where its slot is; name a server of its own without place.cluster, or "
            "connector striped",
        ),
        ({"connector": "redis"}, "redis asks one server for every key"),
        (
            {"bound_bytes": "1 GiB"},
            "far.bound_bytes: a bound cannot be kept in a cluster; leave it out, and set its nodes' maxmemory",
        ),
        (
            {"place": NODES | {"metrics_url": "http://kv-1:9100/metrics", "metrics_device": "md0"}},
            "far.place.metrics_url: the page is one host's, and a cluster has nodes on any; leave it out",
        ),
        ({"connector": "mp"}, "far.connector: LMCache's own client of a cluster runs below its server alone"),
        ({"place": NODES | {"cluster": "3"}}, "far.place.cluster: '3' is wrong"),
    ],
)
def test_what_a_cluster_does_not_do(keys, words):
    assert words in one_line(with_far(**keys))


def test_the_remedies():
    for keys in ({"connector": "striped"}, {"place": {"addresses": ["kv-1:6379"]}, "connector": "resp"}):
        checked(with_far(**keys))


def test_lmcaches_server_has_its_own_client_of_a_cluster():
    own = scenario("valkey", "mp", place=place_of("kv-1:6379", "[fe80::1]:6380", cluster=True), serde=None)
    place = Place.of(own)
    assert place is not None
    found = lmcache.offload(own, 4 << 30, HELD, place.endpoints, 5555, 8080)
    assert json.loads(found.server[found.server.index("--l2-adapter") + 1]) == {
        "type": "valkey",
        "startup_nodes": "kv-1:6379,[fe80::1]:6380",
        "cluster_mode": True,
        "key_prefix": place.prefix,
        "num_workers": 8,
    }


def test_a_password_of_lmcaches_own_client_of_a_cluster(tmp_path):
    write_private(tmp_path / "kv", "secret\n")
    config = engine(experiment__scenarios=["none", "none_current", "far"])
    config["scenarios"]["none_current"] = {"tier": "none", "pair": "current"}
    config["scenarios"]["far"] = FAR | {"connector": "mp", "password_file": str(tmp_path / "kv")}
    with refused(
        "password_file: LMCache's own client of a cluster takes a password on a command line .*; choose striped_mp"
    ):
        checked(config)
    config["scenarios"]["far"]["connector"] = "striped_mp"
    checked(config)
