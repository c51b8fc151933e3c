"""A store that is there already: what a scenario may say of it, and what is refused before anything is asked."""

import pytest

from tests.configs import changed, one_line
from workflow.hyperkv.config import plan
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.kvrocks_source import KvrocksSource, runnable

PLACE = {"addresses": ["10.0.0.5:6379"]}
FAR = {"tier": "dram", "store": "valkey", "connector": "striped", "place": PLACE}
SSD = {"tier": "ssd", "store": "kvrocks"}


def with_far(**keys) -> dict:
    """BASE with a scenario `far` that is profiled."""
    config = changed("scenarios.far", FAR | keys)
    config["profile"]["scenarios"] = ["far"]
    return config


def test_what_is_not_said_is_as_without_a_place():
    scenario = checked(with_far())["scenarios"]["far"]
    assert scenario["place"] == PLACE | {
        **dict.fromkeys(("user", "tls", "metrics_url", "metrics_device")),
        "consent": False,
        "cluster": False,
    }
    assert checked(with_far(place=None))["scenarios"]["far"]["place"] is None


def test_there_are_as_many_servers_as_addresses():
    both = {"addresses": ["kv-1:6379", "[fe80::1]:6379"]}
    assert checked(with_far(place=both))["scenarios"]["far"]["processes"] == 2


def test_a_spec_without_a_place_has_no_such_key():
    config = changed("experiment.scenarios", ["none", "far"])
    config["scenarios"] |= {"far": FAR}
    assert '"place": {"addresses"' in plan.sweep_spec(checked(config), "far")
    config["scenarios"]["far"] = {key: value for key, value in FAR.items() if key != "place"}
    assert "place" not in plan.sweep_spec(checked(config), "far")


def test_a_kvrocks_that_is_there_needs_none_here():
    config = checked(with_far(**SSD, connector="resp"))
    assert runnable(config, ["far"], KvrocksSource("release", False)) == ["far"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({}, "place.addresses is missing"),
        ({"addresses": []}, "place.addresses: [] is wrong; it must be a list"),
        ({"addresses": ["h"]}, "place.addresses.0: 'h' is wrong; it must be host:port or [IPv6]:port"),
        ({"addresses": ["h:0"]}, "place.addresses.0: 'h:0' is wrong"),
        ({"addresses": ["h:70000"]}, "place.addresses.0: 'h:70000' is wrong"),
        ({"addresses": ["redis://h:1"]}, "place.addresses.0: 'redis://h:1' is wrong"),
        ({"addresses": ["fe80::1:6379"]}, "place.addresses.0: 'fe80::1:6379' is wrong"),
        ({"addresses": ["h:1", "h:1"]}, "none twice"),
        (PLACE | {"user": "me"}, "place.user: whose password is missing; set password_file or password_env"),
        (
            PLACE | {"tls": {"ca_file": "/no/such"}},
            "place.tls.ca_file: /no/such: No such file or directory; it must be",
        ),
        (
            PLACE | {"tls": {"cert_file": "/no/such"}},
            "place.tls.cert_file: /no/such: No such file or directory",
        ),
        (PLACE | {"tls": True}, "place.tls: true is wrong; it must be a mapping, or null"),
        (
            PLACE | {"metrics_url": "http://h:9100/metrics"},
            "place.metrics_device is missing; metrics_url says nothing",
        ),
        (
            PLACE | {"metrics_device": "md0"},
            "place.metrics_url is missing; metrics_device says nothing without it",
        ),
        (
            PLACE | {"metrics_url": "https://h/", "metrics_device": "md0"},
            "it must be a URL that begins with http://",
        ),
        (
            {"addresses": ["a:1", "b:1"], "metrics_url": "http://a:9100/", "metrics_device": "md0"},
            "place.metrics_url: the page is one host's and place.addresses are of 2",
        ),
        (PLACE | {"port": 1}, "place.port is not a key"),
    ],
)
def test_a_wrong_place_names_the_key(place, words):
    assert words in one_line(with_far(place=place))


@pytest.mark.parametrize(
    "place",
    [
        {"addresses": ["me:word@h:6379"]},
        {"addresses": ["redis://:word@h:6379"]},
        PLACE | {"password": "word"},
        PLACE | {"metrics_url": "http://me:word@h:9100/metrics", "metrics_device": "md0"},
    ],
)
def test_a_password_is_refused_and_not_repeated(place):
    line = one_line(with_far(place=place))
    assert "place.user says whose password it is, password_file or password_env where it is" in line
    assert "word@" not in line
    assert "'word'" not in line


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"port": 6379},
            "scenarios.far.port: the store at place.addresses is not started here; leave it out",
        ),
        (
            {"settings": {"io-threads": 2}},
            "scenarios.far.settings: the store at place.addresses is not started here",
        ),
        ({"capacity_bytes": "1 GiB"}, "scenarios.far.capacity_bytes: the store at place.addresses"),
        (
            {**SSD, "preset": "tuned"},
            "scenarios.far.settings: the store at place.addresses is not started here",
        ),
        ({**SSD, "patched": True}, "scenarios.far.patched: the store at place.addresses is not started here"),
        ({"processes": 3}, "scenarios.far.processes: there is a server at each of place.addresses, 1 in all"),
        ({"socket": "unix"}, "scenarios.far.socket: place.addresses are reached over tcp; leave it out"),
        ({**SSD, "connector": "direct"}, "direct reads the store's files on this machine; choose striped"),
        ({**SSD, "bound_bytes": "1 GiB"}, "whether the Kvrocks at place.addresses is compiled with patch"),
        (
            {"client": "native", "place": PLACE | {"tls": {}}},
            "scenarios.far.client: native speaks no TLS; choose python",
        ),
        (
            {"connector": "resp", "place": {"addresses": ["a:1", "b:1"]}},
            "place.addresses: connector resp reaches one server; name one, or connector striped",
        ),
        (
            {"store": "dram", "connector": "inprocess", "dram_pool_bytes": "1 GiB"},
            "place: store dram is never there before a job starts it; choose valkey, or leave it out",
        ),
        (
            {"tier": "ssd", "store": "rocksdb"},
            "place: store rocksdb is never there before a job starts it; choose kvrocks, or leave it out",
        ),
        (
            {"store": {"kind": "valkey", "place": PLACE}, "place": None},
            "scenarios.far.store: a store is named by a word; write store: valkey, and place beside it",
        ),
    ],
)
def test_what_a_store_that_is_there_does_not_take(keys, words):
    assert words in one_line(with_far(**keys))


@pytest.mark.parametrize("key", ["layers", "tune", "pairs"])
def test_stages_that_need_a_store_of_their_own_leave_it_out(key):
    config = with_far()
    config[key] = {"scenarios": ["far"]}
    assert f"config: {key}.scenarios: far has a store at a place, and {key}" in one_line(config)


def test_tier_none_has_no_place():
    config = changed("scenarios.none.place", PLACE)
    assert "scenarios.none.place: tier none loads and saves nothing; leave it out" in one_line(config)
