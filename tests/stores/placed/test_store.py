"""A store that is there already: what is ours in it comes and goes, and nothing of others' is touched."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import eventually, refused
from tests.stores.conftest import OPTIONS, hits_of, new_keys, offered, store_config, values_of
from tests.stores.placed.servers import There, behind_tls, certificates, exporter, placed, there
from workflow.hyperkv.base.errors import StoreDied, StoreError
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.placed import lease, refusals
from workflow.hyperkv.stores.placed.place import Place
from workflow.hyperkv.stores.registry import make_store

SIZE = 50_000
ROOT = Path(__file__).parents[3]
CLIENTS = ("redis", "resp", "striped")


@pytest.fixture
def server(tmp_path) -> Iterator[There]:
    with there(tmp_path / "there") as found:
        yield found


def store_at(folder: Path, place: Place, name: str = "valkey") -> Store:
    return make_store(name, store_config(folder, name, place=place, processes=len(place.addresses)))


def saved_and_loaded(store: Store, client: str) -> None:
    """Values go there and come back, through one of the connectors."""
    keys = new_keys(5)
    with make_connector(client, store, 2, **OPTIONS.get(client, {})) as connector:
        connector.put(keys, values_of(keys, SIZE))
        assert connector.count_present([*keys, *new_keys(1)]) == 5
        assert hits_of(connector.get, [*keys, *new_keys(1)], SIZE) == [True] * 5 + [False]


@pytest.mark.parametrize("client", CLIENTS)
def test_keys_have_the_prefix_of_the_run_and_are_gone_at_its_end(tmp_path, server, client):
    place = placed(server.address)
    with store_at(tmp_path, place) as store:
        saved_and_loaded(store, client)
        own = server.keys_of_others()
        assert len(own) > 5
        assert all(key == b"hyperkv:lease" or key.startswith(place.prefix.encode()) for key in own)
        assert f"at {server.address} (Valkey" in store.notes()[0]
        assert "1000 keys of others" in store.notes()[0]
    assert server.keys_of_others() == {}


def test_each_start_is_another_run():
    assert placed("h:1").prefix != placed("h:1").prefix


def test_several_servers_are_one_store_and_each_is_left_as_it_was(tmp_path, server):
    with there(tmp_path / "other") as other:
        with store_at(tmp_path, placed(server.address, other.address)) as store:
            saved_and_loaded(store, "striped")
            assert server.keys_of_others()
            assert other.keys_of_others()
            assert store.counters().hits is not None
            assert store.counters().process.cpu_s is None
            assert store.network.round_trip_s > 0
            assert store.network.gbps > 0
        assert server.keys_of_others() == other.keys_of_others() == {}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("with_tls", [False, True], ids=["clear", "tls"])
def test_a_user_with_a_password_over_tls(tmp_path, client, with_tls):
    write_private(tmp_path / "kv", 'pa ss"é\n')
    granted = refusals.GRANTED.split()
    words = ["--user", "me", "on", '>pa ss"é', *granted, "--user", "default", "on", ">other", "~*", "+@all"]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(there(tmp_path / "there", *words, password="other"))
        port, keys = server.port, {}
        if with_tls:
            own = certificates(tmp_path)
            port = stack.enter_context(behind_tls(server.port, own))
            keys = {"tls": {"ca_file": str(own.ca_file)}}
        place = placed(f"localhost:{port}", user="me", password_file=tmp_path / "kv", **keys)
        with store_at(tmp_path, place) as store:
            saved_and_loaded(store, client)
            assert store.counters().served_bytes > 5 * SIZE
            assert "1000 keys of others" in store.notes()[0]
        assert server.keys_of_others(password="other") == {}


def test_a_user_who_may_not_ask_for_info(tmp_path):
    write_private(tmp_path / "kv", "a-word\n")
    granted = [word for word in refusals.GRANTED.split() if word not in ("+info", "+client|list")]
    with there(tmp_path / "there", "--user", "me", "on", ">a-word", *granted) as server:
        with store_at(tmp_path, placed(server.address, user="me", password_file=tmp_path / "kv")) as store:
            saved_and_loaded(store, "striped")
            counted = store.counters()
            assert (counted.served_bytes, counted.taken_bytes, counted.hits, counted.misses) == (None,) * 4
            assert (
                f"{server.address} does not tell this user INFO: bytes, hits and misses are not known"
                in store.notes()
            )
        with refused("does not let this user do it .*; grant ~hyperkv"):
            place = placed(server.address, user="me", password_file=tmp_path / "kv", consent=True)
            store_at(tmp_path, place).start()
        assert server.client().dbsize() == 1001


def test_a_client_shows_its_own_certificate(tmp_path, server):
    own = certificates(tmp_path)
    shown = {"ca_file": str(own.ca_file), "cert_file": str(own.cert_file), "key_file": str(own.key_file)}
    with behind_tls(server.port, own, clients=True) as port:
        with store_at(tmp_path, placed(f"localhost:{port}", tls=shown)) as store:
            saved_and_loaded(store, "striped")
        with refused(
            "closed the connection .*; set tls.cert_file where it asks for a client's certificate|does not speak TLS with us"
        ):
            with store_at(tmp_path, placed(f"localhost:{port}", tls={"ca_file": str(own.ca_file)})):
                pass


def test_with_consent_the_server_is_emptied_before_and_after(tmp_path, server):
    with store_at(tmp_path, placed(server.address, consent=True)) as store:
        assert server.client().dbsize() == 1
        saved_and_loaded(store, "resp")
    assert server.client().dbsize() == 0


def test_what_a_killed_run_left_is_deleted_by_the_next(tmp_path, server, monkeypatch, capsys):
    script = (
        "import sys, json\n"
        "from tests.stores.placed.test_store import *\n"
        "lease.LIVES_S, lease.RENEWED_S = 2.0, 0.4\n"
        "store = store_at(Path(sys.argv[1]), placed(sys.argv[2]))\n"
        "store.start()\n"
        "keys = new_keys(600)\n"
        "make_connector('resp', store, 2).put(keys, values_of(keys, 1000))\n"
        "print('saved', flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "killed"), server.address]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout.readline() == "saved\n"
            monkeypatch.setattr(lease, "LIVES_S", 2.0)
            with refused(rf"another run measures on {server.address} \(process {run.pid} of "):
                store_at(tmp_path, placed(server.address)).start()
            assert len(server.keys_of_others()) == 601  # a run that lives is not cleaned away
        finally:
            run.kill()
    capsys.readouterr()
    with store_at(tmp_path, placed(server.address)) as store:
        holder = rf"{server.address} is another run's \(process {run.pid} of [^)]+\)"
        assert re.fullmatch(
            rf"hyperkv: place.addresses: {holder}; if that was killed, this one has it in [12] s\n",
            capsys.readouterr().out,
        )
        assert [key for key in server.keys_of_others() if key != lease.KEY.encode()] == []
        assert any(line.startswith("600 keys that a run which broke off") for line in store.notes())
    assert server.keys_of_others() == {}
    with store_at(tmp_path, placed(server.address)):
        assert capsys.readouterr().out == ""


def test_a_run_that_lost_the_server_says_so(tmp_path, server, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_S", 0.05)
    with store_at(tmp_path, placed(server.address)) as store:
        server.client().set(lease.KEY, "another")
        eventually(lambda: store._lease.lost)
        with pytest.raises(StoreDied, match=r"another run took 127.0.0.1:[0-9]+ over"):
            store.check_alive()
    assert server.client().get(lease.KEY) == b"another"


def test_a_server_that_goes_away_is_noticed_and_others_keys_stay(tmp_path, server, capsys):
    with store_at(tmp_path, placed(server.address)) as store:
        server.process.kill()
        with pytest.raises(StoreDied, match=f"at {server.address} does not answer any more"):
            store.check_alive()
    [line] = capsys.readouterr().err.splitlines()
    assert "are left to the next run, which deletes them" in line


def test_one_server_under_two_names_is_refused(tmp_path, server):
    with refused("a server that another address names as well"):
        with store_at(tmp_path, placed(server.address, f"localhost:{server.port}")):
            pass
    assert server.keys_of_others() == {}


def test_it_is_no_process_of_ours(tmp_path, server):
    with store_at(tmp_path, placed(server.address)) as store:
        with refused("is not restarted"):
            store.restart()
        with pytest.raises(StoreError, match="no process of this machine"):
            store.pid()
        assert not store.make_cold()
    assert server.client().ping()


@pytest.mark.parametrize("name", [offered("kvrocks")])
def test_a_kvrocks(tmp_path, name):
    with make_store(name, store_config(tmp_path / "own", name)) as started:
        started.client().set("others", "theirs")
        address = f"127.0.0.1:{started.endpoint.port}"
        with store_at(tmp_path, placed(address), name) as store:
            saved_and_loaded(store, "striped")
        with started.client() as client:
            assert list(client.scan_iter()) == [b"others"]


def test_the_exporters_device_is_the_stores(tmp_path, server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with exporter(step=1 << 20) as told:
        place = placed(server.address, metrics_url=told.url, metrics_device="nvme0n1")
        with store_at(tmp_path, place) as store:
            before = store.counters()
            assert store.counters().minus(before)["device_read_bytes"] == 1 << 20
            assert any(
                line.startswith("device bytes are those of nvme0n1 by all programs") for line in store.notes()
            )


def test_a_page_without_the_device_is_refused(tmp_path, server):
    with exporter() as told:
        with refused(
            r"tells node_disk_read_bytes_total of dm-0, nvme0n1, and not of sda; name one of its devices"
        ):
            store_at(tmp_path, placed(server.address, metrics_url=told.url, metrics_device="sda")).start()
    with refused("place.metrics_url: http://127.0.0.1:[0-9]+/metrics does not answer"):
        store_at(tmp_path, placed(server.address, metrics_url=told.url, metrics_device="nvme0n1")).start()
    with refused("is no page of metrics|does not answer"):
        url = f"http://{server.address}/"
        store_at(tmp_path, placed(server.address, metrics_url=url, metrics_device="nvme0n1")).start()
    assert server.keys_of_others() == {}


def test_other_clients_are_noticed(tmp_path, server):
    with server.client() as other:
        other.ping()
        with store_at(tmp_path, placed(server.address)) as store:
            assert any(
                line.startswith(f"1 other clients are connected to {server.address}")
                for line in store.notes()
            )


def test_a_bound_keeps_its_order_below_the_prefix(tmp_path, server):
    keys = new_keys(4)
    with store_at(tmp_path, placed(server.address)) as store:
        options = {"stripe_bytes": 20_000, "bound_bytes": 3 * 51_000}
        with make_connector("striped", store, 2, **options) as connector:
            connector.put(keys, values_of(keys, SIZE))
            assert hits_of(connector.get, keys, SIZE).count(True) < 4
    assert server.keys_of_others() == {}
