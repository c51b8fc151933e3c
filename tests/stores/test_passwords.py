"""A password from a file or a variable reaches every client of a store, and nothing that a run writes or shows has it."""

import contextlib
import json
import os
import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.helpers import command
from tests.record_factory import VALKEY
from tests.record_factory import spec as spec_of
from tests.stores.conftest import OPTIONS, buffers_for, new_keys, offered, store_config, values_of
from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.machine.processes import LOOPBACK
from workflow.hyperkv.profile import profile_layers as layers
from workflow.hyperkv.profile import profile_store as profile
from workflow.hyperkv.records.record_file import read_records
from workflow.hyperkv.stores.registry import make_store
from workflow.hyperkv.sweep import measure_scenario as sweep
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.secret import Secret

WORD = 'pa "ss\\ #1 é'
SERVERS = [offered("valkey"), offered("kvrocks"), "rocksdb"]


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file with a password, apart from everything that a run writes."""
    (tmp_path / "secrets").mkdir()
    write_private(tmp_path / "secrets" / "kv", f"{WORD}\n")
    return tmp_path / "secrets" / "kv"


def telling(folder: Path) -> list[Path]:
    """Files below a folder that have the password, as it is or as JSON and configuration files write it."""
    forms = [WORD, json.dumps(WORD), WORD.replace("\\", "\\\\").replace('"', '\\"')]
    needles = [form.strip('"').encode() for form in forms]
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize(("connector", "by"), [("redis", "file"), ("resp", "variable"), ("striped", "file")])
def test_every_connector_gets_in_and_a_stranger_does_not(name, connector, by, secret, folder, monkeypatch):
    monkeypatch.setenv("KV_PASSWORD", WORD)
    reference = Secret(secret) if by == "file" else Secret(variable="KV_PASSWORD")
    keys = new_keys(2)
    with make_store(name, store_config(folder, name, password=reference)) as store:
        with make_connector(connector, store, 1, timeout_s=10, **OPTIONS.get(connector, {})) as client:
            client.put(keys, values_of(keys, 100))
            assert client.get(keys, buffers_for(keys, 100)) == [True, True]
        stranger = redis.Redis(port=store.endpoint.port, protocol=2, retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        assert store.counters().hits >= 2
        assert telling(folder) == []
        assert WORD not in repr(store.endpoint) + repr(store.config)
        store.restart()
        store.check_alive()
    assert telling(folder) == []


def test_over_a_unix_socket_and_by_several_processes(secret, folder):
    with make_store(
        "valkey", store_config(folder, "valkey", password=Secret(secret), unix=True, processes=2)
    ) as store:
        keys = new_keys(4)
        with make_connector("striped", store, 1, timeout_s=10, stripe_bytes=20_000) as client:
            client.put(keys, values_of(keys, 50_000))
            assert all(client.get(keys, buffers_for(keys, 50_000)))


def test_a_server_that_does_not_start_leaves_no_password(secret, folder):
    store = make_store(
        "valkey", store_config(folder, "valkey", password=Secret(secret), settings={"no": "key"})
    )
    with pytest.raises(StoreError, match="Bad directive") as caught, store:
        pass
    assert WORD not in str(caught.value)
    assert telling(folder) == []


def test_a_password_that_was_taken_away_is_one_line(secret, folder):
    secret.unlink()
    with pytest.raises(UserError, match=r"password_file: .*write the password there"):
        make_store("valkey", store_config(folder, "valkey", password=Secret(secret))).start()


@contextlib.contextmanager
def parrot(form: bytes) -> Iterator[int]:
    """A server that answers whatever it is sent with an answer that repeats it."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    while given := connection.recv(1 << 16):
                        connection.sendall(form % given.replace(b"\r\n", b" ") + b"\r\n")

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        thread.join(10)


@pytest.mark.parametrize("connector", ["redis", "resp", "striped"])
@pytest.mark.parametrize(
    "form", [b"-ERR unknown command, with args beginning with: %b", b"+%b", b"-WRONGPASS %b"]
)
def test_a_server_that_repeats_the_password_gets_it_into_no_message(connector, form, tmp_path):
    write_private(tmp_path / "p", "hunter2\n")
    secret = Secret(tmp_path / "p")
    with parrot(form) as port:
        store = SimpleNamespace(
            endpoint=Endpoint(LOOPBACK, port, secret),
            endpoints=[Endpoint(LOOPBACK, port, secret)],
            is_cluster=False,
        )
        with (
            pytest.raises(StoreError) as caught,
            make_connector(connector, store, 1, timeout_s=5, **OPTIONS.get(connector, {})) as client,
        ):
            client.count_present(new_keys(1))
        assert "did not take the password" in str(caught.value)
        shown = "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in shown


class Watcher(threading.Thread):
    """Reads the command lines and environments of this process and its children until it is told to end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.ended.wait(0.005):
            for process in [me, *me.children(recursive=True)]:
                for name in ("cmdline", "environ"):
                    try:
                        text = Path(f"/proc/{process.pid}/{name}").read_bytes()
                    except OSError:
                        continue
                    self.seen.add(text.decode(errors="replace"))

    def __enter__(self) -> "Watcher":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


def stages(tmp_path: Path, secret: Path):
    """The three stages that measure a store, with the arguments that their rules give them."""
    spec = spec_of(tmp_path, "files")
    spec["scenario"] |= VALKEY | {"password_file": str(secret)}
    alone = {
        "scenario": {**spec["scenario"], "name": "v"},
        "data_dir": str(tmp_path / "data"),
        "memory_dir": str(tmp_path / "memory"),
        "value_bytes": [65536],
        "connections": [1],
        "point_bytes": 65536 * 2,
        "warm_up_bytes": 65536,
        "repeats": 1,
    }
    out = tmp_path / "out"
    yield sweep, ["--spec", json.dumps(spec), "--repeat", "1", "--out", f"{out}/sweep/v/1.jsonl"]
    yield profile, ["--spec", json.dumps(alone), "--out", f"{out}/profile/v.jsonl"]
    yield layers, ["--spec", json.dumps(alone), "--out", f"{out}/layers/v.jsonl"]


def test_a_run_leaves_and_shows_no_password(secret, tmp_path, capfd):
    """Everything that the stages write, print and show in /proc is searched; the file with the password is elsewhere."""
    out = tmp_path / "out"
    (out / "sweep").mkdir(parents=True)
    (out / "sweep" / ".progress.json").write_text('{"cells": 1, "started_at": 0, "done": []}')
    with Watcher() as watcher:
        for stage, argv in stages(tmp_path, secret):
            command(stage, *argv, "--logs", tmp_path / "logs")
    (record, *_) = read_records(out / "sweep/v/1.jsonl")
    assert (record["valid"], record["reasons"]) == (True, [])
    assert record["spec"]["scenario"]["password_file"] == str(secret)
    assert any("valkey" in text for text in watcher.seen)
    assert not [text for text in watcher.seen if WORD in text]
    assert telling(tmp_path) == [secret]
    assert WORD not in "".join(capfd.readouterr())


def with_scenario(**keys):
    from tests.configs import changed

    scenario = {"tier": "dram", "store": "valkey", "connector": "resp", **keys}
    config = changed("scenarios.v", scenario)
    config["experiment"] = {"scenarios": ["none", "v"]}
    return config


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"settings": {"requirepass": "hidden-word"}}, r"config: scenarios\.v\.settings\.requirepass is"),
        ({"settings": {"port": 0}}, r"config: scenarios\.v\.settings\.port is set by the workflow; set port"),
        ({"password_file": "/not/there"}, r"config: scenarios\.v\.password_file: /not/there: No such file"),
        ({"password_env": "NOT_THERE"}, r"config: scenarios\.v\.password_env: \$NOT_THERE has no password"),
        ({"password_file": "/a", "password_env": "B"}, r"config: scenarios\.v\.password_env: password_file"),
        (
            {"store": "files", "connector": "inprocess", "tier": "ssd", "password_env": "PATH"},
            r"config: scenarios\.v\.password_env: store files asks for no password; leave it out",
        ),
        ({"password_env": "1 2"}, r"config: scenarios\.v\.password_env: '1 2' is wrong"),
    ],
)
def test_mistakes_are_told_before_anything_runs(keys, said):
    with pytest.raises(UserError, match=said) as caught:
        checked(with_scenario(**keys))
    assert "hidden-word" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_remedy_for_a_written_password_works(secret):
    found = checked(with_scenario(password_file=str(secret)))
    assert found["scenarios"]["v"]["password_file"] == str(secret)
    assert os.fspath(secret) in json.dumps(found)
