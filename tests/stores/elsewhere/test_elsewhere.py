"""A store on the other node, which here is this machine at another address: what Slurm has to do with it is in tests/slurm."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import redis

from tests.helpers import eventually
from tests.record_factory import spec as spec_of
from tests.stores.conftest import OPTIONS, buffers_for, new_keys, offered, store_config, values_of
from workflow.hyperkv.base.errors import StoreDied, StoreError, UserError
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.cells import cell as cells
from workflow.hyperkv.cells.cell import CellSpec
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.engines.replay.cells import measure_cell
from workflow.hyperkv.records.hardware import columns_of
from workflow.hyperkv.stores.elsewhere import nodes
from workflow.hyperkv.stores.elsewhere import store as elsewhere
from workflow.hyperkv.stores.elsewhere.agent import address_of
from workflow.hyperkv.stores.elsewhere.nodes import OtherNode, other_node
from workflow.hyperkv.stores.elsewhere.store import Elsewhere
from workflow.hyperkv.stores.registry import STORES, store_class
from workflow.plugin.lmcache_striped.secret import Secret

HERE = OtherNode("there", "127.0.0.2", ("env", "WHERE=there"))
SERVERS = [offered(name) for name in STORES if store_class(name).takes_password]
SIZE = 100_000


def agent(folder: Path, data_dir: str = "", **own: str | None) -> Elsewhere:
    """An agent beside this process, with its files in folder/there."""
    given = {"interface": None, "what": "a test"} | own
    return Elsewhere(HERE, data_dir or str(folder / "there"), log=folder / "agent.log", **given)


def ours(folder: Path) -> list[psutil.Process]:
    """What runs below the agent, by the variable that its launch sets."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WHERE") == "there" and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left(folder) -> Iterator[None]:
    yield
    eventually(lambda: not ours(folder))
    left = folder / "there"
    assert not left.exists() or not list(left.iterdir())


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("processes", [1, 2])
def test_it_serves_and_counts_as_one_of_this_machine(name, processes, folder):
    config = store_config(folder, name, processes=processes)
    keys = new_keys(4)
    with agent(folder) as node, node.store(name, config) as store:
        assert (store.name, store.medium) == (name, store_class(name).medium)
        assert {endpoint.host for endpoint in store.endpoints} == {"127.0.0.2"}
        assert len({endpoint.port for endpoint in store.endpoints}) == processes
        before = store.counters()
        with make_connector("striped", store, 2, timeout_s=10, **OPTIONS["striped"]) as client:
            client.put(keys, values_of(keys, SIZE))
            assert all(client.get(keys, buffers_for(keys, SIZE)))
            store.evict_page_cache()
            store.push_out_writes()
            assert all(client.get(keys, buffers_for(keys, SIZE)))
        moved = store.counters().minus(before)
        assert moved["served_bytes"] >= 2 * len(keys) * SIZE
        assert moved["cpu_s"] > 0
        assert store.network.gbps > 0
        store.check_alive()
        assert store.block_bytes(folder) is None or store.block_bytes(folder)[1] > 0
        assert node.environment["node"]
        assert node.free_bytes > 0 < node.available_bytes
        assert isinstance(store.make_cold(), bool)
        for server in store.servers:
            with server.client(10) as client:
                assert client.ping()


@pytest.mark.parametrize("name", SERVERS)
def test_nobody_gets_in_without_the_runs_password_which_is_in_no_command_line(name, folder):
    with agent(folder) as node, node.store(name, store_config(folder, name)) as store:
        word = store.endpoint.password.value()
        assert len(word) >= 32
        with (
            redis.Redis(host="127.0.0.2", port=store.endpoint.port, protocol=2) as stranger,
            pytest.raises((redis.AuthenticationError, redis.ResponseError)),
        ):
            stranger.get("a")
        told = [" ".join(process.cmdline()) + str(process.environ()) for process in ours(folder)]
        assert len(told) >= 2
        assert not [text for text in told if word in text]
        for path in (*folder.rglob("*.password"), store.endpoint.password.file):
            assert path.stat().st_mode & 0o077 == 0
        with make_connector("resp", store, 1, timeout_s=10) as client:
            assert client.count_present(new_keys(1)) == 0


def test_the_scenarios_own_password_is_the_servers(folder, tmp_path):
    write_private(tmp_path / "word", 'pa "ss\n')
    config = store_config(folder, "valkey", password=Secret(tmp_path / "word"))
    with agent(folder) as node, node.store("valkey", config) as store, store.servers[0].client(10) as client:
        assert client.config_get("requirepass") == {"requirepass": 'pa "ss'}


def test_a_server_that_was_killed_is_told_with_its_node(folder):
    with agent(folder) as node, node.store("rocksdb", store_config(folder, "rocksdb")) as store:
        [server] = [each for each in ours(folder) if "stores.rocksdb.server" in " ".join(each.cmdline())]
        server.kill()
        line = rf"the store's node there: store rocksdb \(pid {server.pid}\) died with signal 9"
        with pytest.raises(StoreDied, match=line):
            store.check_alive(5.0)
        store.restart()
        store.check_alive()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_is_gone_is_a_dead_store(number, folder):
    with agent(folder) as node, node.store("rocksdb", store_config(folder, "rocksdb")) as store:
        [its] = [each for each in ours(folder) if "elsewhere.agent" in " ".join(each.cmdline())]
        its.send_signal(number)
        with pytest.raises(StoreDied, match="the store's node there has ended"):
            for _ in range(1000):
                store.check_alive()
    if number == signal.SIGKILL:  # it could not; the next one does
        with agent(folder):
            pass


def test_what_the_store_says_of_its_settings_and_what_the_node_lacks_is_one_line(folder):
    with (
        agent(folder) as node,
        pytest.raises(StoreError, match="Bad directive"),
        node.store("valkey", store_config(folder, "valkey", settings={"no": "key"})),
    ):
        pass
    with (
        pytest.raises(UserError, match="data_dir: /not/there/x: there is no folder /not/there on"),
        agent(folder, "/not/there/x"),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"place\.interface: ib9 has no address on .*; choose one of .*lo"),
        agent(folder, interface="ib9"),
    ):
        pass
    silent = replace(HERE, launch=("sh", "-c", "echo 'srun: no' >&2; exit 3"))
    with (
        pytest.raises(StoreDied, match="the store's node there has ended: srun: no"),
        Elsewhere(silent, "x", None, "a test", folder / "silent.log"),
    ):
        pass


def test_an_interface_is_where_the_server_listens(folder):
    assert address_of("lo") == "127.0.0.1"
    with agent(folder, interface="lo") as node, node.store("valkey", store_config(folder, "valkey")) as store:
        assert store.endpoint.host == "127.0.0.1"


def test_folders_are_those_of_the_other_node(folder, monkeypatch):
    monkeypatch.delenv("WHERE", raising=False)
    (folder / "there").mkdir(parents=True)
    with agent(folder, f"{folder}/$WHERE/data") as node:
        assert node.data_dir == f"{folder}/there/data"
        assert list((folder / "there/data").iterdir())
    (folder / "there/data").rmdir()


def test_asked_by_several_threads_each_gets_its_own_answer(folder):
    with agent(folder) as node, node.store("rocksdb", store_config(folder, "rocksdb")) as store:
        wrong: list[object] = []

        def ask() -> None:
            for _ in range(50):
                if store.counters().process.rss_bytes is None or not isinstance(store.notes(), list):
                    wrong.append(1)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []


_OWNER = """
import sys
from pathlib import Path
from workflow.hyperkv.stores.elsewhere.nodes import OtherNode
from workflow.hyperkv.stores.elsewhere.store import Elsewhere
from workflow.hyperkv.stores.base import StoreConfig
folder = Path(sys.argv[1])
(folder / "own").mkdir(parents=True)
with Elsewhere(OtherNode("there", "127.0.0.2", ("env", "WHERE=there")), str(folder / "there"), None, "a test", folder / "log") as node:
    with node.store("rocksdb", StoreConfig(folder / "own/store", 1 << 20, folder / "store.log")):
        print("ready", flush=True)
        sys.stdin.read()
"""


def test_kill_9_of_whoever_measures_leaves_nothing_there(folder):
    words = [sys.executable, "-c", _OWNER, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"ready\n"
        assert len(ours(folder)) >= 2
        owner.kill()
    eventually(lambda: not ours(folder))
    with agent(folder):  # removes what the killed one left, if it could not itself
        pass


# A cell


@pytest.fixture
def cell(tmp_path, monkeypatch) -> CellSpec:
    """A cell whose store is at the other node."""
    monkeypatch.setattr(elsewhere, "other_node", lambda where: HERE)
    spec = spec_of(tmp_path, "files")
    spec["data_dir"] = f"{tmp_path}/data"
    own = {
        "store": "rocksdb",
        "connector": "striped",
        "node": {"interface": None},
        "stripe_bytes": 65536,
        "client": "python",
    }
    spec["scenario"] |= own | {"stripes_in_flight": 4, "settings": {"rocksdb.write_buffer_size": 1}}
    return CellSpec(spec, 1, 1, tmp_path / "logs")


def test_a_cell_says_both_nodes_and_proves_itself_by_the_stores(cell, tmp_path, monkeypatch):
    monkeypatch.setattr(
        cells, "environment", lambda folder, variables: {"node": "here", "cores": 2, "ram_bytes": 1 << 30}
    )
    # Both are on one machine, where two on one folder would disturb each other.
    monkeypatch.setattr(CellSpec, "data_dir_text", f"{tmp_path}/$WHERE/data")
    monkeypatch.setattr(CellSpec, "data_dir", tmp_path / "data")
    (tmp_path / "there").mkdir()
    record = measure_cell(cell)
    assert (record.valid, record.reasons) == (True, [])
    assert record.evidence.served_bytes >= record.evidence.loaded_bytes > 0
    assert record.evidence.network_gbps > 0
    there = record.environment["store_node"]
    assert there["disk"]["size_bytes"] > 0
    row = columns_of([json.loads(json.dumps({"environment": record.environment, "spec": record.spec}))])
    assert row["node"] == f"here | {there['node']}"
    assert row["hardware"].startswith("2 x CPU core, 1 GiB | ")
    assert row["disk"].startswith(there["disk"]["file_system"])
    assert list((tmp_path / "there/data").iterdir()) == []


@pytest.mark.parametrize(
    ("own", "found", "said"),
    [
        ({}, {"free_bytes": 10}, r"needed on the disk of .* on node there, .*; choose another data_dir"),
        (
            {"tier": "dram", "store": "valkey"},
            {"available_bytes": 10},
            r"needed in memory of node there, .*; set a lower capacity_bytes",
        ),
    ],
)
def test_room_is_that_of_the_stores_node(cell, tmp_path, monkeypatch, own, found, said):
    monkeypatch.setattr(CellSpec, "data_dir_text", f"{tmp_path}/$WHERE-data")
    (tmp_path / "here").mkdir()
    cell.scenario.update(own)
    real = Elsewhere.__enter__

    def entered(self):
        real(self)
        for name, value in found.items():
            setattr(self, name, value)
        return self

    monkeypatch.setattr(Elsewhere, "__enter__", entered)
    monkeypatch.setattr(CellSpec, "data_dir", tmp_path / "data")
    with pytest.raises(UserError, match=said):
        measure_cell(cell)


# What Slurm tells

_SAYS = """#!/bin/sh
case "$(basename "$0") $*" in
  "squeue -h -j 7 -o %N") echo "$NODES" ;;
  "scontrol show hostnames n[1-2]") printf 'n1\\nn2\\n' ;;
  "scontrol show hostnames n1") echo n1 ;;
  "scontrol show node n2 -o") echo "NodeName=n2 Arch=x86_64 NodeAddr=$ADDRESS NodeHostName=n2" ;;
  "scontrol show node n1 -o") echo "NodeName=n1 NodeAddr=127.0.0.9" ;;
  *) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> pytest.MonkeyPatch:
    """Stand-ins for Slurm's commands; job 7 has two nodes and this process is on the first."""
    for name in ("squeue", "scontrol", "srun"):
        (tmp_path / name).write_text(_SAYS)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    own = {
        "SLURM_JOB_ID": "7",
        "SLURMD_NODENAME": "n1",
        "SLURM_NNODES": "1",
        "SRUN_DEBUG": "3",
        "SLURM_CONF": "/c",
    }
    for name, value in (own | {"NODES": "n[1-2]", "ADDRESS": "127.0.0.2"}).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_other_node_is_the_one_that_this_process_is_not_on(slurm):
    found = other_node("place.node")
    assert (found.name, found.address) == ("n2", "127.0.0.2")
    words = [*found.launch]
    assert words[words.index("srun") :][:3] == ["srun", "--jobid=7", "--nodelist=n2"]
    unset = {word for flag, word in itertools.pairwise(words) if flag == "-u"}
    assert {"SLURM_JOB_ID", "SLURM_NNODES", "SRUN_DEBUG"} <= unset
    assert "SLURM_CONF" not in unset
    slurm.setenv("SLURMD_NODENAME", "n2")
    assert other_node("place.node").name == "n1"


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"SLURM_JOB_ID": ""}, rf"place\.node: {nodes.NEEDED}"),
        ({"PATH": "/nowhere"}, rf"place\.node: {nodes.NEEDED}"),
        ({"NODES": "n1"}, r"place\.node: Slurm's job 7 has one node, n1; it needs a Slurm job of two nodes"),
        ({"SLURM_JOB_ID": "8"}, "Slurm: squeue .*: slurm_load_jobs error: Invalid job id specified"),
        (
            {"ADDRESS": "no.such.host.invalid"},
            r"place\.node: node n2: its address no\.such\.host\.invalid is not known here",
        ),
    ],
)
def test_without_a_second_node_it_is_one_line(slurm, own, said):
    for name, value in own.items():
        slurm.setenv(name, value)
    with pytest.raises(UserError, match=said):
        other_node("place.node")
