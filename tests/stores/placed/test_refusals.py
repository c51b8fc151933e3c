"""Servers that cannot be used: one line before anything is saved, and nothing of others' is touched."""

import socket
import threading

import pytest

from tests.helpers import eventually, refused
from tests.stores.conftest import offered, store_config
from tests.stores.placed.servers import behind_tls, certificates, placed, there
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.stores.placed import refusals
from workflow.hyperkv.stores.placed.lease import KEY
from workflow.hyperkv.stores.registry import make_store


def start(folder, place):
    with make_store("valkey", store_config(folder, "valkey", place=place)):
        pass


def test_nobody_answers(tmp_path):
    with refused(
        r"place.addresses: 127.0.0.1:\d+ does not answer: Connection refused; start the store there, or mend"
    ):
        start(tmp_path, placed(f"127.0.0.1:{free_port()}"))


def test_no_such_host(tmp_path):
    with refused(
        "place.addresses: no.such.host.invalid:6379 does not answer: .*; start the store there, or mend"
    ):
        start(tmp_path, placed("no.such.host.invalid:6379"))


def test_somebody_who_never_says_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(refusals, "_CONNECT_S", 0.5)
    monkeypatch.setattr("workflow.hyperkv.stores.placed.store._PING_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with refused(f"place.addresses: {address} accepts connections and does not answer PING"):
            start(tmp_path, placed(address))
        with refused(rf"place.tls: {address} does not speak TLS with us .*timed out"):
            start(tmp_path, placed(address, tls={}))


def test_passwords_and_users(tmp_path):
    for name, word in (("right", "secret"), ("wrong", "other")):
        write_private(tmp_path / name, f"{word}\n")
    with there(tmp_path / "there", "--requirepass", "secret", password="secret") as server:
        with refused(
            f"password_file: {server.address} asks for a password; name a file that has it, or password_env"
        ):
            start(tmp_path, placed(server.address))
        with refused(
            f"password_file: {server.address} did not take the password; mend the file, or place.user"
        ):
            start(tmp_path, placed(server.address, password_file=tmp_path / "wrong"))
        with refused(f"{server.address} did not take the password of user nobody; mend the file"):
            start(tmp_path, placed(server.address, user="nobody", password_file=tmp_path / "right"))
        assert server.keys_of_others(password="secret") == {}


def test_a_password_where_none_is_asked_for(tmp_path):
    write_private(tmp_path / "kv", "secret\n")
    with there(tmp_path / "there") as server:
        with refused(f"{server.address} did not take the password"):
            start(tmp_path, placed(server.address, password_file=tmp_path / "kv"))


def test_a_user_who_may_not_write(tmp_path):
    write_private(tmp_path / "kv", "secret\n")
    with there(tmp_path / "there", "--user", "me", "on", ">secret", "~*", "+@read", "+@connection") as server:
        with refused(f"place.user: {server.address} does not let this user do it .*; grant"):
            start(tmp_path, placed(server.address, user="me", password_file=tmp_path / "kv"))
        assert server.keys_of_others() == {}


@pytest.mark.parametrize("missing", ["get", "set", "pexpire", "unlink", "scan", "dbsize", "ping", "client"])
def test_a_user_who_lacks_one_command_of_those_that_the_line_grants(tmp_path, missing):
    write_private(tmp_path / "kv", "secret\n")
    words = [*refusals.GRANTED.split(), f"-{missing}"]
    with there(tmp_path / "there", "--user", "me", "on", ">secret", *words) as server:
        place = placed(server.address, user="me", password_file=tmp_path / "kv")
        with refused(rf"place.user: {server.address} does not let this user do it .*{missing}.*; grant"):
            start(tmp_path, place)
        eventually(lambda: server.keys_of_others() == {})
        server.client().execute_command("ACL", "SETUSER", "me", f"+{missing}")
        start(tmp_path, place)
        assert server.keys_of_others() == {}


def test_a_user_who_may_not_empty_the_server(tmp_path, capsys):
    write_private(tmp_path / "kv", "secret\n")
    with there(tmp_path / "there", "--user", "me", "on", ">secret", *refusals.GRANTED.split()) as server:
        place = placed(server.address, user="me", password_file=tmp_path / "kv", consent=True)
        with refused(r"place.user: .*'flushall'.*; grant .* \+flushall, or name another user"):
            start(tmp_path, place)
        assert capsys.readouterr().err == ""
        assert server.keys_of_others() == {}
        server.client().execute_command("ACL", "SETUSER", "me", "+flushall")
        start(tmp_path, place)
        assert server.client().dbsize() == 0


def test_a_server_that_takes_no_more_connections(tmp_path):
    with there(tmp_path / "there") as server, server.client() as held:
        held.ping()
        held.config_set("maxclients", 1)
        with refused(
            rf"place.addresses: {server.address} takes no more connections .*; raise its maxclients"
        ):
            start(tmp_path, placed(server.address))
        held.config_set("maxclients", 3)
        with refused(rf"place.addresses: {server.address}: .*; is its maxclients more than it has clients"):
            start(tmp_path, placed(server.address))
        eventually(lambda: len(held.client_list()) == 1)
        held.config_set("maxclients", 100)
        start(tmp_path, placed(server.address))
        assert server.keys_of_others() == {}


def test_a_server_that_takes_no_writes(tmp_path):
    with there(tmp_path / "there") as server:
        server.client().config_set("min-replicas-to-write", 1)
        with refused(rf"place.addresses: {server.address} takes no writes now \(NOREPLICAS .*; mend it, or"):
            start(tmp_path, placed(server.address))
        server.client().config_set("min-replicas-to-write", 0)
        start(tmp_path, placed(server.address))
        assert server.keys_of_others() == {}


@pytest.mark.parametrize("put", [("SET", "x"), ("LPUSH", "x")])
def test_a_lease_that_no_run_wrote(tmp_path, put):
    with there(tmp_path / "there") as server:
        server.client().execute_command(put[0], KEY, *put[1:])
        with refused(
            f"{server.address} has a key hyperkv:lease that no run wrote, since it never ends; delete"
        ):
            start(tmp_path, placed(server.address))
        server.client().delete(KEY)
        start(tmp_path, placed(server.address))
        assert server.keys_of_others() == {}


@pytest.mark.parametrize("name", [offered("kvrocks")])
def test_a_kvrocks_is_not_held_to_be_in_memory(tmp_path, name):
    with make_store(name, store_config(tmp_path / "own", name)) as server:
        address = f"127.0.0.1:{server.endpoint.port}"
        with refused(f"{address} is a Kvrocks, whose values are on a disk; set store: kvrocks and tier: ssd"):
            start(tmp_path, placed(address))
        with make_store(name, store_config(tmp_path, name, place=placed(address))):
            pass


def test_a_replica(tmp_path):
    with there(tmp_path / "primary") as primary:
        with there(
            tmp_path / "replica", "--replicaof", "127.0.0.1", str(primary.port), filled=False
        ) as replica:
            eventually(lambda: replica.client().dbsize() == 1000)
            with refused(
                rf"{replica.address} is a replica, which takes no writes; name its primary, 127.0.0.1:{primary.port}"
            ):
                start(tmp_path, placed(replica.address))
        assert primary.keys_of_others() == {}


def test_a_server_that_is_loading(tmp_path):
    (tmp_path / "there").mkdir()
    with there(tmp_path / "there", "--enable-debug-command", "yes", "--rdbcompression", "no") as server:
        server.client().save()
        slow = ["--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024"]
        with there(tmp_path / "there", *slow, filled=False) as loading:
            with refused(rf"{loading.address} is loading its data; wait until it has"):
                start(tmp_path, placed(loading.address))


def test_part_of_a_cluster(tmp_path):
    with there(
        tmp_path / "there", "--cluster-enabled", "yes", "--cluster-port", str(free_port()), filled=False
    ) as server:
        with refused(f"{server.address} is a node of a cluster; set place.cluster: true"):
            start(tmp_path, placed(server.address))


def test_tls_to_a_port_in_the_clear_and_the_other_way_round(tmp_path, monkeypatch):
    monkeypatch.setattr(refusals, "_CONNECT_S", 2)
    with there(tmp_path / "there") as server:
        own = certificates(tmp_path)
        with refused(f"place.tls: {server.address} does not speak TLS with us .*; name its TLS port"):
            start(tmp_path, placed(server.address, tls={"ca_file": str(own.ca_file)}))
        with behind_tls(server.port, own) as port:
            with refused(
                rf"127.0.0.1:{port} does not speak RESP in the clear .*; set place.tls where it speaks TLS"
            ):
                start(tmp_path, placed(f"127.0.0.1:{port}"))
            with refused(
                rf"place.tls: localhost:{port} is not trusted: .*; name who signed its certificate in tls.ca_file"
            ):
                start(tmp_path, placed(f"localhost:{port}", tls={}))
        assert server.keys_of_others() == {}


def test_what_is_no_store_at_all(tmp_path):
    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with refused(f"place.addresses: {address} does not speak RESP in the clear"):
            start(tmp_path, placed(address))
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "noeviction"])
def test_memory_that_is_too_small(tmp_path, policy):
    with there(tmp_path / "there", "--maxmemory", "64mb", "--maxmemory-policy", policy) as server:
        store = make_store("valkey", store_config(tmp_path, "valkey", place=placed(server.address)))
        why = (
            "which it refuses" if policy == "noeviction" else rf"which drives out keys of others \({policy}\)"
        )
        with store:
            store.require_room(16 << 20)
            with refused(
                f"{server.address} holds [1-9].[0-9] MB of at most 67.1 MB, and 104.9 MB are to be saved, {why}; raise its maxmemory"
            ):
                store.require_room(100 << 20)
        assert server.keys_of_others() == {}


def test_a_server_that_is_full(tmp_path):
    large = {b"others:large:%d" % number: bytes(1 << 20) for number in range(8)}
    with there(tmp_path / "there", "--maxmemory", "24mb", "--maxmemory-policy", "allkeys-lru") as server:
        for key, value in large.items():
            server.client().set(key, value)
        with refused("drives out keys of others"):
            start(tmp_path, placed(server.address))
        assert server.keys_of_others() == large


def test_with_consent_or_without_keys_of_others_memory_may_be_small(tmp_path):
    words = ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    for consent in (True, False):
        with there(tmp_path / "there", *words, filled=consent) as server:
            place = placed(server.address, consent=consent)
            with make_store("valkey", store_config(tmp_path, "valkey", place=place)) as store:
                store.require_room(100 << 20)
