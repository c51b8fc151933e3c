"""Settings that a store's server shall not get from a reader: refused before it is started, by what each store declares."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores.conftest import store_config
from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.stores.registry import STORES, make_store, store_class
from workflow.hyperkv.stores.rocksdb.server import parse_arguments, read_settings
from workflow.plugin.lmcache_striped.secret import Secret

WHERE = "config: scenarios.x.settings"
REFUSED = [
    ("valkey", "daemonize", "yes", "it starts, watches and ends the server"),
    ("valkey", "port", 0, "set port of the scenario"),
    ("valkey", "PORT", 7000, "set port of the scenario"),
    ("valkey", "tls-port", 7000, "speak no TLS"),
    ("valkey", "bind", "10.0.0.1", "it listens on 127.0.0.1"),
    ("valkey", "bind", "0.0.0.0", "it listens on 127.0.0.1"),
    ("valkey", "bind", "*", "it listens on 127.0.0.1"),
    ("valkey", "rdma-bind", "0.0.0.0", "it listens on 127.0.0.1"),
    ("valkey", "loglevel", "--bind 0.0.0.0", "begins with -- for a key"),
    ("valkey", "unixsocket", "/tmp/s", "set socket: unix"),
    ("valkey", "dir", "/tmp", "set data_dir"),
    ("valkey", "dbfilename", "a.rdb", "set data_dir"),
    ("valkey", "maxmemory", "1gb", "set capacity_bytes"),
    ("valkey", "save", "60 1", "keeps nothing on disk"),
    ("valkey", "AppendOnly", "yes", "keeps nothing on disk"),
    ("valkey", "shutdown-on-sigterm", "save", "keeps nothing on disk"),
    ("valkey", "maxmemory-policy", "noeviction", "predicted for LRU"),
    ("valkey", "maxmemory-samples", 1, "predicted for LRU"),
    ("valkey", "import-mode", "yes", "predicted for LRU"),
    ("valkey", "requirepass", "secret-word", "password_file"),
    ("valkey", "user", "default off", "password_file"),
    ("valkey", "aclfile", "/etc/acl", "password_file"),
    ("valkey", "masterauth", "secret-word", "password_file"),
    ("valkey", "slaveof", "10.0.0.1 6379", "neither replica nor part of a cluster"),
    ("valkey", "replicaof", "10.0.0.1 6379", "neither replica nor part of a cluster"),
    ("valkey", "cluster-enabled", "yes", "neither replica nor part of a cluster"),
    ("valkey", "include", "/etc/valkey.conf", "leave it out"),
    ("valkey", "logfile", "/tmp/log", "reads its log"),
    ("valkey", "supervised", "systemd", "starts, watches and ends"),
    ("valkey", "loadmodule", "/tmp/m.so", "leave it out"),
    ("valkey", "rename-command", "GET FETCH", "by their own names"),
    ("valkey", "timeout", 1, "its connections stay open"),
    ("kvrocks", "Daemonize", "yes", "starts, watches and ends"),
    ("kvrocks", "cluster-enabled", "yes", "neither replica nor part of a cluster"),
    ("kvrocks", "namespace.test", "secret-word", "password_file"),
    ("kvrocks", "requirepass", "secret-word", "password_file"),
    ("kvrocks", "tls-cert-file", "/a", "speak no TLS"),
    ("kvrocks", "bind", "10.0.0.1", "lacks 127.0.0.1"),
    ("kvrocks", "rename-command", "KEYS x", "by their own names"),
    ("rocksdb", "port", 7000, "set port of the scenario"),
    ("rocksdb", "dir", "/tmp", "set data_dir"),
    ("rocksdb", "bind", "0.0.0.0", "it listens on 127.0.0.1"),
    ("rocksdb", "BIND", "::", "it listens on 127.0.0.1"),
    ("rocksdb", "rocksdb.use_direct_reads", "no", "set direct_io"),
    ("rocksdb", "rocksdb.use_direct_io_for_flush_and_compaction", "no", "set direct_io"),
    ("rocksdb", "requirepass", "secret-word", "remove it"),
    ("rocksdb", "rocksdb.write_bufer_size", 64, "did you mean rocksdb.write_buffer_size"),
    ("rocksdb", "direct_io", "auto", "allowed are yes, no"),
    ("files", "direct-io", "yes", "it has direct_io"),
    ("files", "direct_io", "maybe", "allowed are auto, yes, no"),
    ("dram", "maxmemory", "1gb", "has no keys of its own"),
]


@pytest.mark.parametrize(("store", "key", "value", "said"), REFUSED)
def test_a_key_of_the_workflow_is_refused_with_what_sets_it(store, key, value, said):
    with pytest.raises(UserError) as caught:
        store_class(store).check_settings({key: value}, WHERE)
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert key in message
    assert said in message
    assert "secret-word" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("store", "settings"),
    [
        ("valkey", {"io-threads": 4, "appendfsync": "no", "maxclients": 100}),
        ("valkey", {"save": "", "appendonly": "no", "maxmemory-policy": "allkeys-lru"}),
        ("valkey", {"daemonize": "no", "tls-port": 0, "timeout": 0, "cluster-enabled": "no"}),
        ("kvrocks", {"workers": "cores", "daemonize": "no", "bind": "127.0.0.1 10.0.0.1", "max-db-size": 0}),
        ("rocksdb", {"direct_io": "no", "rocksdb.block_size": 4096, "bind": "127.0.0.1"}),
        ("files", {"direct_io": "no"}),
        ("dram", {}),
    ],
)
def test_a_stores_own_keys_and_neutral_values_stay(store, settings):
    store_class(store).check_settings(settings, WHERE)


@pytest.mark.parametrize("store", ["valkey", "kvrocks"])
@given(
    before=st.text(st.characters(categories=["L", "N"]), max_size=3),
    break_=st.sampled_from(["\n", "\r", " ", "\0", "=", "'"]),
)
def test_no_key_holds_another_one(store, before, break_):
    with pytest.raises(UserError, match="is not a key"):
        store_class(store).check_settings({f"{before}{break_}daemonize": "yes"}, WHERE)


@pytest.mark.parametrize("store", ["valkey", "kvrocks"])
def test_a_key_twice_in_another_case_and_a_value_of_two_lines_are_refused(store):
    with pytest.raises(UserError, match="Maxclients: maxclients is the same key"):
        store_class(store).check_settings({"maxclients": 1, "Maxclients": 2}, WHERE)
    with pytest.raises(UserError, match="has a line break"):
        store_class(store).check_settings({"db-name": "a\ndaemonize yes"}, WHERE)


def written_keys(store: str, folder: Path) -> set[str]:
    """Keys that a store's own code gives its server, with a socket and a password where it takes them."""
    secret = {"password": Secret(None, "A_WORD")} if store_class(store).takes_password else {}
    made = make_store(store, store_config(folder, store, unix=True, value_bytes=1 << 30, **secret))
    with made.placed(None):
        words, wanted = made.command(7000), set(made.wanted(7000))
    if store == "rocksdb":
        arguments = parse_arguments(words[words.index("--dir") :])
        plain = read_settings(parse_arguments(["--dir", "", "--port", "6666"]))
        changed = {key for key, value in read_settings(arguments).items() if value != plain[key]}
        return changed | {"bind"}
    return wanted | {"requirepass"}


# What a reader may raise: the workflow only gives it where it is not there. A `bind` of Kvrocks's is checked by itself.
READERS = {("kvrocks", "proto-max-bulk-len"), ("kvrocks", "bind")}


@pytest.mark.parametrize("store", ["valkey", "rocksdb", "kvrocks"])
def test_every_key_that_a_store_writes_itself_is_owned(store, tmp_path):
    written = written_keys(store, tmp_path)
    assert {"port", "dir"} <= written
    owned = store_class(store).owned_keys
    free = {key for key in written if not any(item.has(key) for item in owned)}
    assert {(store, key) for key in free} <= READERS


@pytest.mark.parametrize("store", STORES)
def test_every_store_says_what_it_owns_in_lower_case(store):
    assert all(key == key.lower() for owned in store_class(store).owned_keys for key in owned.keys)


def test_a_server_that_refuses_the_client_says_so_at_once(folder, monkeypatch):
    """A server with a password that nobody named, which no setting can make it."""
    store = make_store("valkey", store_config(folder, "valkey"))
    command = type(store).command

    def locked(self, port):
        return [*command(self, port), "--requirepass", "other"]

    monkeypatch.setattr(type(store), "command", locked)
    with pytest.raises(StoreError, match=r"refuses the workflow's own client: .*uthenticat"), store:
        pass
