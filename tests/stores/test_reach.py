"""Servers that others can reach: said in one line before they start, and by what they really listen on."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores.conftest import KVROCKS_BIN, store_config
from tests.stores.placed.servers import place_of
from tests.stores.servers import ROOT, TIMEOUT_S, command
from workflow.hyperkv.machine.processes import OwnedProcess, free_port
from workflow.hyperkv.run.jobs import open_stores
from workflow.hyperkv.stores.reach import beyond_loopback, warning
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.secret import Secret


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        ("127.0.0.1 localhost ::1 [::1] -::1 127.8.9.10 ::ffff:127.0.0.1", []),
        ("0.0.0.0 127.0.0.1", ["0.0.0.0"]),
        (":: * 10.0.0.7 ::ffff:10.0.0.7", ["::", "*", "10.0.0.7", "::ffff:10.0.0.7"]),
        ("kv.example.org fe80::1%eth0", ["kv.example.org", "fe80::1%eth0"]),
        ("0x7f.1 0", ["0x7f.1", "0"]),
    ],
)
def test_what_is_not_loopback_can_be_reached(addresses, found):
    assert beyond_loopback(addresses.split()) == found
    line = warning("store x", addresses.split(), password=False)
    assert (line is None) == (found == [])
    assert "\n" not in (line or "")
    assert warning("store x", addresses.split(), password=True) is None


def test_scenarios_are_said_before_the_run_and_those_that_do_what_the_line_says_are_not():
    store = {"tier": "ssd", "store": "kvrocks", "settings": {"workers": 2}}
    opened = {**store, "settings": {"Bind": "0.0.0.0"}}
    scenarios = {
        "open": opened,
        "also_open_but_not_run": opened,
        "closed": store,
        "told": {**opened, "password_file": "secret"},
        "none": {"tier": "none", "store": "kvrocks", "settings": {"bind": "0.0.0.0"}},
        "valkey": {"tier": "dram", "store": "valkey", "settings": {"bind": "127.0.0.1"}},
    }
    (line,) = open_stores(scenarios, ["open", "closed", "told", "none", "valkey", "open"])
    assert line.startswith(
        "scenarios.open.settings.bind: store kvrocks: listens on 0.0.0.0 without a password"
    )
    assert "password_file" in line


def test_kv_that_crosses_a_network_in_the_clear_is_said_before_the_run():
    def at(*addresses: str, tls: dict | None = None) -> dict:
        return {"tier": "dram", "store": "valkey", "family": "far", "place": place_of(*addresses, tls=tls)}

    lines = open_stores(
        {"a": at("10.0.0.7:6379", "127.0.0.1:1", "kv:2"), "b": at("10.0.0.7:6379")}, ["a", "b"]
    )
    assert [line.partition(" in the clear")[0] for line in lines] == [
        "scenarios.far.place: store valkey: KV goes to 10.0.0.7:6379",
        "scenarios.far.place: store valkey: KV goes to kv:2",
    ]
    assert all("can recover prompts from it; set place.tls" in line for line in lines)
    assert (
        open_stores({"a": at("10.0.0.7:6379", tls={}), "b": at("localhost:1", "[::1]:2")}, ["a", "b"]) == []
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_where_a_process_and_its_children_listen_is_seen(address, tmp_path):
    """As an exporter that a server starts on the side."""
    inner = (
        f"import socket, time; s = socket.create_server(({address!r}, 0), "
        f"family=socket.AF_INET{'6' if ':' in address else ''}); print('up', flush=True); time.sleep(60)"
    )
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with OwnedProcess([sys.executable, "-c", outer], log=tmp_path / "log", label="x") as process:
        process.wait_ready(lambda: "up" in process.lines())
        assert process.listening_addresses() == [address]


@pytest.mark.parametrize("name", ["valkey", "rocksdb"])
def test_stores_as_they_come_listen_on_loopback_alone(name, tmp_path, capsys):
    with make_store(name, store_config(tmp_path, name)) as store:
        assert store._process.listening_addresses() == ["127.0.0.1"]
        assert store.notes() == []
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(KVROCKS_BIN is None, reason="KVROCKS_BIN is not set")
def test_a_kvrocks_that_others_can_reach_is_said_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HYPERKV_TEST_PASSWORD", "secret")
    opened = {"settings": {"bind": "0.0.0.0"}}
    with make_store("kvrocks", store_config(tmp_path, "kvrocks", **opened)) as store:
        store.restart()
        (line,) = capsys.readouterr().err.splitlines()
        assert "listens on 0.0.0.0 without a password" in line
        assert any("0.0.0.0" in note for note in store.notes())
    secret = {"password": Secret(None, "HYPERKV_TEST_PASSWORD")}
    with make_store("kvrocks", store_config(tmp_path / "again", "kvrocks", **opened, **secret)):
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("host", "said"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_the_rocksdb_server_started_by_hand_says_it_too(host, said, tmp_path: Path):
    process = subprocess.Popen(
        [*command(tmp_path / "db", free_port()), "--bind", host],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().startswith("ready on")
        process.terminate()
        _, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert (f"rocksdb_server: warning: listens on {host} without a password" in errors) == said
    assert len(errors.splitlines()) == said
