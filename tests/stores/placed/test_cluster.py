"""A cluster that is there already: its nodes are found, what is ours comes and goes on all of them, and one that cannot be used is a line."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connectors.peers import ClusterPeer
from tests.helpers import eventually, refused
from tests.record_factory import VALKEY, cell
from tests.stores.conftest import KVROCKS_BIN, hits_of, new_keys, offered, store_config, values_of
from tests.stores.placed.servers import place_of, placed
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.engines.replay.cells import measure_cell
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.profile.clusters.made import MadeCluster
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.placed import cluster as placed_cluster
from workflow.hyperkv.stores.placed import refusals
from workflow.hyperkv.stores.placed.place import Place
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.deadline import name_of
from workflow.plugin.lmcache_striped.slots import tag_of

KINDS = [offered("valkey"), offered("kvrocks")]
SIZE = 100_000
THEIRS = 50


@contextlib.contextmanager
def filled(kind: str, folder: Path, replicas: int = 0) -> Iterator[MadeCluster]:
    """A cluster with keys of others on every node."""
    program = Path(KVROCKS_BIN or "kvrocks") if kind == "kvrocks" else None
    with MadeCluster(kind, folder, 3, replicas, program) as cluster:
        for store, (first, _) in zip(cluster.masters, cluster.ranges(), strict=True):
            for number in range(THEIRS):
                cluster.ask(store, "SET", b"others:%d{%b}" % (number, tag_of(first)), "theirs")
        yield cluster


def addresses(cluster: MadeCluster) -> list[str]:
    return [name_of(endpoint) for endpoint in cluster.endpoints]


def keys_in(cluster: MadeCluster) -> list[list[bytes]]:
    """Keys of each master that are not of others, whose own are all there."""
    found = []
    for store in cluster.masters:
        with store.client() as client:
            keys = list(client.scan_iter(count=1000))
        assert sum(key.startswith(b"others:") for key in keys) == THEIRS
        found.append([key for key in keys if not key.startswith(b"others:")])
    return found


def store_at(folder: Path, place: Place, kind: str = "valkey") -> Store:
    return make_store(kind, store_config(folder, kind, place=place))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_a_cluster_as_it_was(tmp_path, kind):
    with filled(kind, tmp_path / "there") as cluster:
        place, keys = placed(addresses(cluster)[1], cluster=True), new_keys(8)
        with store_at(tmp_path, place, kind) as store:
            assert sorted(map(name_of, store.endpoints)) == sorted(addresses(cluster))
            with make_connector("striped", store, 2, stripe_bytes=20_000) as connector:
                connector.put(keys, values_of(keys, SIZE))
                assert connector.count_present([*keys, *new_keys(1)]) == 8
                assert hits_of(connector.get, [*keys, *new_keys(1)], SIZE) == [True] * 8 + [False]
            mine = keys_in(cluster)
            assert all(len(each) > 8 for each in mine)
            assert sum(key == b"hyperkv:lease" for each in mine for key in each) == 1
            assert all(
                key == b"hyperkv:lease" or key.startswith(place.prefix.encode())
                for each in mine
                for key in each
            )
            assert store.counters().served_bytes > 8 * SIZE
            assert store.network.gbps > 0
            assert sum("was there already" in line for line in store.notes()) == 3
            with refused("place.addresses: another run measures on 127.0.0.1:"):
                store_at(tmp_path, placed(addresses(cluster)[0], cluster=True), kind).start()
            assert (
                hits_of(make_connector("striped", store, 2, stripe_bytes=20_000).get, keys, SIZE)
                == [True] * 8
            )
        assert keys_in(cluster) == [[], [], []]


def test_what_a_run_that_broke_off_left_is_deleted_by_the_next(tmp_path):
    with filled("valkey", tmp_path / "there") as cluster:
        for store, (first, _) in zip(cluster.masters, cluster.ranges(), strict=True):
            cluster.ask(store, "SET", b"hyperkv:01234567:left{%b}" % tag_of(first), "ours")
        with store_at(tmp_path, placed(*addresses(cluster), cluster=True)) as store:
            assert sum("1 keys that a run which broke off had left" in line for line in store.notes()) == 3
        assert keys_in(cluster) == [[], [], []]


def test_a_cell_of_a_cluster_is_valid(tmp_path):
    tiny = cell(tmp_path, "none")
    tiny.spec["scenario"] |= VALKEY | {"connector": "striped", "stripe_bytes": 1 << 18, "name": "there"}
    with filled("valkey", tmp_path / "there") as cluster:
        tiny.spec["scenario"] |= {"place": place_of(addresses(cluster)[2], cluster=True)}
        record = measure_cell(tiny)
        assert (record.valid, record.served_from, record.reasons) == (True, "ram", [])
        assert record.evidence.loaded_bytes > 0
        assert record.evidence.served_bytes >= record.evidence.loaded_bytes
        assert keys_in(cluster) == [[], [], []]


# What cannot be used


def test_a_node_of_a_cluster_that_is_not_said_to_be_one(tmp_path):
    with filled("valkey", tmp_path / "there") as cluster:
        address = addresses(cluster)[0]
        with refused(
            f"place.addresses: {address} is a node of a cluster; set place.cluster: true, or name servers"
        ):
            store_at(tmp_path, placed(address)).start()
        with store_at(tmp_path, placed(address, cluster=True)) as store:  # the remedy
            assert len(store.endpoints) == 3


def test_a_server_of_its_own_that_is_said_to_be_a_cluster(tmp_path):
    with make_store("valkey", store_config(tmp_path / "there", "valkey")) as server:
        address = name_of(server.endpoint)
        with refused(rf"place.cluster: {address} is no node of a cluster \(.*disabled.*\); leave it out"):
            store_at(tmp_path, placed(address, cluster=True)).start()


def test_a_cluster_that_is_down_or_lacks_slots(tmp_path):
    with filled("valkey", tmp_path / "there") as cluster:
        first, last = cluster.ranges()[1]
        for store in cluster.masters:
            cluster.ask(store, "CLUSTER", "DELSLOTSRANGE", first, last)
        place = placed(addresses(cluster)[0], cluster=True)
        with refused(
            f"place.addresses: {addresses(cluster)[0]} says that its cluster is down .*, with {last - first + 1} slots of no node; mend"
        ):
            store_at(tmp_path, place).start()
        for store in cluster.masters:
            cluster.ask(store, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        assert eventually(lambda: b"cluster_state:ok" in cluster.ask(cluster.masters[0], "CLUSTER", "INFO"))
        with refused(
            f"place.addresses: {last - first + 1} slots of the cluster of {addresses(cluster)[0]} have no node; mend"
        ):
            store_at(tmp_path, place).start()


def test_nobody_of_a_cluster_answers(tmp_path):
    with refused(
        r"place.addresses: 127.0.0.1:\d+ does not answer: Connection refused; start the store there"
    ):
        store_at(
            tmp_path, placed(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", cluster=True)
        ).start()


@pytest.mark.parametrize("kind", [offered("kvrocks")])
def test_a_kvrocks_that_was_not_told_its_cluster(tmp_path, kind):
    node = MadeCluster(kind, tmp_path / "there", 1, program=Path(KVROCKS_BIN or "")).masters[0]
    (tmp_path / "there").mkdir()
    with node:
        with refused("place.addresses: no node of the cluster says which slots it has: .*CLUSTERDOWN"):
            store_at(tmp_path, placed(name_of(node.endpoint), cluster=True), kind).start()


def test_a_node_whose_address_cannot_be_reached_from_here(tmp_path, monkeypatch):
    monkeypatch.setattr(refusals, "_CONNECT_S", 0.3)
    peer = ClusterPeer(at=("192.0.2.7", 7000), state=b"ok")
    words = "place.addresses: 192.0.2.7:7000 does not answer.*; the cluster says that a node is there: .*cluster-announce-ip"
    with refused(words):
        store_at(tmp_path, placed(name_of(peer.endpoint), cluster=True)).start()


def test_a_node_that_ends_while_the_others_are_taken_leaves_them_free(tmp_path, monkeypatch):
    with filled("valkey", tmp_path / "there") as cluster:
        starts: list[str] = []
        start = placed_cluster.PlacedNode.start

        def second_fails(self: Store) -> None:
            starts.append(self.where)
            if len(starts) == 2:
                raise RuntimeError("gone")
            start(self)

        monkeypatch.setattr(placed_cluster.PlacedNode, "start", second_fails)
        with pytest.raises(RuntimeError, match="gone"):
            store_at(tmp_path, placed(addresses(cluster)[0], cluster=True)).start()
        assert keys_in(cluster) == [[], [], []]
        assert not [each for each in threading.enumerate() if each.name == "place-lease"]
