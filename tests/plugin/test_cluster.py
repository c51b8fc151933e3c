"""Connector striped in clusters: of Valkey, which keep themselves, of Kvrocks where KVROCKS_BIN names it, and of peers that lie."""

import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.connectors.peers import ClusterPeer
from tests.helpers import eventually, is_stopped
from tests.stores.conftest import KVROCKS_BIN, hits_of, new_keys, offered, store_config, values_of
from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.profile.clusters.made import MadeCluster
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.bounded import OwnBoundConnector
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings
from workflow.plugin.lmcache_striped.cluster import Cluster
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.direct import FileSettings
from workflow.plugin.lmcache_striped.secret import Secret
from workflow.plugin.lmcache_striped.slots import SLOTS, slot_of, spread_key
from workflow.plugin.lmcache_striped.stripes import stripe_key

SIZE, STRIPE = 100_000, 20_000
STRIPES = 6  # of a chunk, the first one included
KINDS = [offered("valkey"), offered("kvrocks")]


def made(kind: str, folder: Path, replicas: int = 0, **options) -> MadeCluster:
    program = Path(KVROCKS_BIN or "kvrocks") if kind == "kvrocks" else None
    return MadeCluster(kind, folder, 3, replicas, program, **options)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> Iterator[Callable[[str], MadeCluster]]:
    """A cluster of each kind, for tests that leave it as it was."""
    with contextlib.ExitStack() as stack:
        running: dict[str, MadeCluster] = {}

        def of(kind: str) -> MadeCluster:
            if kind not in running:
                running[kind] = stack.enter_context(made(kind, tmp_path_factory.mktemp(kind)))
            return running[kind]

        yield of


@pytest.fixture(params=["python", "native"])
def client(request) -> Path | None:
    """What loads."""
    return request.getfixturevalue("library") if request.param == "native" else None


@contextlib.contextmanager
def cached(*endpoints: Endpoint, lines: list[str] | None = None, **changes) -> Iterator[StripedCache]:
    """retry_s is long, so that what goes on after a failure does so because a cluster is not one store."""
    settings = {"connections": 2, "stripe_bytes": STRIPE, "timeout_s": 5, "retry_s": 600} | changes
    said = [] if lines is None else lines
    cache = StripedCache(CacheSettings(endpoints, **settings), said.append, said.append)
    try:
        yield cache
    finally:
        cache.close()


def save(cache: StripedCache, keys: list[bytes]) -> bool:
    """Whether all were saved."""
    ended: list[bool] = []
    for key, value in zip(keys, values_of(keys, SIZE), strict=True):
        assert cache.offer([key], [value], ended.append)
    assert cache.wait_saved(30)
    return all(ended)


def hits(cache: StripedCache, keys: list[bytes]) -> list[bool]:
    return hits_of(cache.load, keys, SIZE)


class Loads:
    """Loads in a thread until the block ends, each of which is right or a miss."""

    def __init__(self, cache: StripedCache, keys: list[bytes]):
        self._cache, self._keys = cache, keys
        self._stop = threading.Event()
        self.found: list[list[bool]] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Loads":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        if self.error is not None:
            raise self.error

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self.found.append(hits(self._cache, self._keys))
        except BaseException as error:
            self.error = error

    def some_more(self, count: int = 3) -> None:
        """Wait for loads that begin from now on."""
        wanted = len(self.found) + count + 1
        assert eventually(lambda: self.error is not None or len(self.found) >= wanted)


# Where stripes are


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_over_all_nodes_of_a_cluster_of_which_one_is_named(clusters, kind, client):
    cluster, keys, lines = clusters(kind), new_keys(40), []
    with cached(cluster.endpoints[1], lines=lines, library=client) as cache:
        assert save(cache, keys)
        assert cache.count_present([*keys, *new_keys(1)]) == 40
        assert cache.present([keys[3], *new_keys(1), keys[7]]) == [True, False, True]
        assert hits(cache, [*keys, *new_keys(1)]) == [True] * 40 + [False]
        names = [spread_key(key, index) for key in keys for index in range(STRIPES)]
        for store, (first, last) in zip(cluster.masters, cluster.ranges(), strict=True):
            with store.client() as client:
                mine = [name for name in names if first <= slot_of(name) <= last]
                assert len(mine) > len(names) / 4
                assert all(client.exists(name) for name in mine)
        assert cache.delete([*keys[:2], *new_keys(1)]) == [True, True, False]
        assert hits(cache, keys) == [False] * 2 + [True] * 38
        gone = [spread_key(key, index) for key in keys[:2] for index in range(STRIPES)]
        for store, (first, last) in zip(cluster.masters, cluster.ranges(), strict=True):
            with store.client() as client:
                assert not any(client.exists(name) for name in gone if first <= slot_of(name) <= last)
    assert lines == []
    assert cache.counts.failures == 0


def test_a_server_of_its_own_has_the_keys_that_it_always_had(tmp_path):
    keys = new_keys(2)
    with make_store("valkey", store_config(tmp_path, "valkey")) as store, cached(store.endpoint) as cache:
        assert save(cache, keys)
        with store.client() as client:
            assert (
                client.exists(*(stripe_key(key, index) for key in keys for index in range(STRIPES)))
                == 2 * STRIPES
            )


def test_a_cluster_of_which_the_named_node_is_not_there(clusters):
    cluster, keys = clusters("valkey"), new_keys(3)
    with cached(Endpoint("127.0.0.1", free_port()), cluster.endpoints[0]) as cache:
        assert save(cache, keys)
        assert hits(cache, keys) == [True] * 3


def test_a_cluster_keeps_no_bound_and_its_files_are_not_read(clusters, tmp_path):
    endpoint, lines, keys = clusters("valkey").endpoints[0], [], new_keys(2)
    files = FileSettings((tmp_path,), "auto")
    cluster = Cluster([endpoint])
    with StripedConnector([endpoint], 1, 5, STRIPE, files=files, report=lines.append, cluster=cluster) as one:
        one.put(keys, values_of(keys, SIZE))
        assert hits_of(one.get, keys, SIZE) == [True, True]
    assert lines == ["the servers are a cluster, whose files are not read"]
    with pytest.raises(
        StoreError, match="bound_bytes: the servers are a cluster, in which a bound cannot be kept; leave"
    ):
        OwnBoundConnector([endpoint], 1, 0.2, STRIPE, bound_bytes=1 << 20, cluster=Cluster([endpoint]))
    with cached(endpoint, lines=lines, bound_bytes=1 << 20) as cache:
        assert eventually(lambda: any("bound_bytes: the servers are a cluster" in line for line in lines))
        assert not save(cache, keys)


def test_a_user_who_may_not_ask_for_the_slots(clusters, tmp_path):
    cluster, lines = clusters("valkey"), []
    for store in cluster.masters:
        cluster.ask(
            store, "ACL", "SETUSER", "few", "on", ">secret", "~*", "+@read", "+@write", "+@connection"
        )
    write_private(tmp_path / "kv", "secret\n")
    few = replace(cluster.endpoints[0], user="few", password=Secret(tmp_path / "kv"))
    with cached(few, lines=lines) as cache:
        assert not save(cache, new_keys(3))
    (line,) = lines
    assert re.search(r"answered: MOVED .*, and to CLUSTER SLOTS: NOPERM", line)
    for store in cluster.masters:
        cluster.ask(store, "ACL", "SETUSER", "few", "+cluster|slots", "+cluster|info")
    with cached(few, lines=lines) as cache:
        assert save(cache, new_keys(3))


# Slots that move


def owner_of(cluster: MadeCluster, slot: int) -> int:
    """The number of the master that had a slot at first."""
    return next(n for n, (first, last) in enumerate(cluster.ranges()) if first <= slot <= last)


def moved(cluster: MadeCluster, slot: int, between: Callable[[], None]) -> int:
    """Move a slot of Valkey to the next node, which is returned, as its manual says. between: before its keys move, after, and when
    all nodes know.
    """
    source = owner_of(cluster, slot)
    target = (source + 1) % 3
    old, new = cluster.masters[source], cluster.masters[target]
    cluster.ask(new, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.ids[source])
    cluster.ask(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.ids[target])
    between()
    while keys := cluster.ask(old, "CLUSTER", "GETKEYSINSLOT", slot, 10):
        for key in keys:
            cluster.ask(old, "MIGRATE", "127.0.0.1", new.endpoint.port, key, 0, 5000)
    between()
    for store in (new, old, *cluster.masters):
        cluster.ask(store, "CLUSTER", "SETSLOT", slot, "NODE", cluster.ids[target])
    between()
    return target


def test_slots_of_valkey_move_during_loads(tmp_path, client):
    with made("valkey", tmp_path) as cluster:
        keys, lines = new_keys(12), []
        with cached(cluster.endpoints[0], lines=lines, library=client) as cache:
            assert save(cache, keys)
            slots = {slot_of(spread_key(key, index)) for key in keys[:4] for index in range(STRIPES)}
            with Loads(cache, keys) as loads:
                for slot in slots:
                    moved(cluster, slot, lambda: loads.some_more(1))
            assert lines or all(map(all, loads.found))
            assert save(cache, keys)
            assert hits(cache, keys) == [True] * 12
            counts = cache.counts
        assert counts.damaged == 0
        assert lines or not counts.failures  # of nodes that were too slow for each other


def test_what_is_saved_while_its_slot_moves_is_found(tmp_path):
    with made("valkey", tmp_path) as cluster:
        (key,) = keys = new_keys(1)
        with cached(cluster.endpoints[0]) as cache, cached(cluster.endpoints[1]) as other:
            assert cache.present(keys) == [False]
            name = spread_key(key, 2)
            saved: list[bool] = []
            target = moved(
                cluster,
                slot_of(name),
                lambda: saved.append(save(cache, keys) and hits(other, keys) == [True]),
            )
            assert saved == [True] * 3
            with cluster.masters[target].client() as client:
                assert client.exists(name)


def has_moved(cluster: MadeCluster, source: int) -> bool:
    return b"migrating_state: success" in cluster.ask(cluster.masters[source], "CLUSTER", "INFO")


@pytest.mark.parametrize("kind", [offered("kvrocks")])
def test_slots_of_kvrocks_move_during_loads(tmp_path, kind, client):
    with made(kind, tmp_path) as cluster:
        keys = new_keys(12)
        slots = {slot_of(spread_key(key, index)) for key in keys[:4] for index in range(STRIPES)}
        there = {slot: owner_of(cluster, slot) for slot in range(SLOTS)}
        with cached(cluster.endpoints[0], library=client) as cache:
            assert save(cache, keys)
            with Loads(cache, keys) as loads:
                for slot in slots:
                    source, target = there[slot], (there[slot] + 1) % 3
                    cluster.ask(cluster.masters[source], "CLUSTERX", "MIGRATE", slot, cluster.ids[target])
                    assert eventually(partial(has_moved, cluster, source))
                    loads.some_more(1)
                    there[slot] = target
                    cluster.tell_owners(there.__getitem__)
                loads.some_more()
            assert all(loads.found[-1])
            assert save(cache, keys)
            assert hits(cache, keys) == [True] * 12
            assert cache.counts.damaged == 0


# Nodes that do not answer


def test_calls_that_fail_beside_each_other_are_one_node_that_does_not_answer():
    lines: list[str] = []
    cluster = Cluster([Endpoint("127.0.0.1", free_port())], lines.append)
    node = Endpoint("127.0.0.1", 1)
    said = [str(cluster.failed(node, StoreError(why))) for why in ("connection reset", "broken pipe")]
    cluster.close()
    assert "connection reset" in said[0]
    assert "broken pipe" in said[1]
    assert [line.partition(";")[0] for line in lines] == [said[0]]


def test_a_killed_master_costs_its_stripes_until_its_replica_has_them(tmp_path, client):
    with made("valkey", tmp_path, replicas=1, node_timeout_ms=2000) as cluster:
        keys, lines = new_keys(60), []
        for store in cluster.stores:
            cluster.ask(store, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        # chunks of one stripe beside the first, so that some are wholly elsewhere
        with cached(cluster.endpoints[0], lines=lines, library=client, stripe_bytes=SIZE) as cache:
            assert save(cache, keys)
            for store in cluster.masters:
                assert cluster.ask(store, "WAIT", 1, 5000) == 1
            first, last = cluster.ranges()[1]
            there = [
                not any(first <= slot_of(spread_key(key, index)) <= last for index in (0, 1)) for key in keys
            ]
            assert {*there} == {True, False}
            with Loads(cache, keys) as loads:
                loads.some_more()
                cluster.masters[1].kill()
                loads.some_more()
                assert eventually(lambda: loads.error or all(loads.found[-1]))
            some = all(
                hit or not near for found in loads.found for hit, near in zip(found, there, strict=True)
            )
            assert some or any(
                "CLUSTERDOWN" in line for line in lines
            )  # nodes that were too slow for each other
            assert not all(map(all, loads.found))
            assert eventually(lambda: lines[-1] == "every slot of the cluster is served again")
            assert save(cache, keys)
        assert cache.counts.damaged == 0
        dead = f"127.0.0.1:{cluster.endpoints[1].port}"
        assert sum(dead in line for line in lines) == 1 or lines.count(lines[-1]) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_master_that_comes_back(tmp_path, kind, client):
    with made(kind, tmp_path) as cluster:
        keys, lines = new_keys(12), []
        with cached(cluster.endpoints[0], lines=lines, library=client) as cache:
            assert save(cache, keys)
            with Loads(cache, keys) as loads:
                cluster.masters[2].kill()
                loads.some_more()
                assert not save(cache, keys[:2])
                cluster.masters[2].restart()
                if kind == "kvrocks":  # which keeps what it has on disk
                    assert eventually(lambda: loads.error or all(loads.found[-1]))
            assert eventually(lambda: save(cache, keys))
            assert hits(cache, keys) == [True] * 12
            counts = cache.counts
        assert counts.damaged == 0
        assert counts.skipped == 0
        assert counts.saves.failed >= 2


def test_a_node_that_hangs_costs_one_time_out(tmp_path):
    with made("valkey", tmp_path) as cluster:
        keys, lines = new_keys(4), []
        with cached(cluster.endpoints[0], lines=lines, timeout_s=1, connections=1) as cache:
            assert save(cache, keys)
            pid = cluster.masters[1].pid()
            os.kill(pid, signal.SIGSTOP)
            try:
                assert eventually(lambda: is_stopped(pid))
                for _ in range(50):
                    assert hits(cache, keys) == [False] * 4
            finally:
                os.kill(pid, signal.SIGCONT)
            assert len([line for line in lines if "timed out" in line]) == 1
            assert eventually(lambda: hits(cache, keys) == [True] * 4)


def test_a_cluster_that_is_down_is_a_miss_and_one_line(tmp_path, client):
    with made("valkey", tmp_path) as cluster:
        keys, lines = new_keys(6), []
        with cached(*cluster.endpoints, lines=lines, library=client) as cache:
            assert save(cache, keys)
            first, last = cluster.ranges()[1]
            for store in cluster.masters:
                cluster.ask(store, "CLUSTER", "DELSLOTSRANGE", first, last)
            assert eventually(lambda: not any(hits(cache, keys)))
            assert cache.present(keys) == [False] * 6
            assert not save(cache, keys)
            assert cache.counts.saves.failed == 6
            down = [line for line in lines if "CLUSTERDOWN" in line]
            assert down
            assert len(down) == len(set(down)) <= 2 * 3
            cluster.ask(cluster.masters[1], "CLUSTER", "ADDSLOTSRANGE", first, last)
            cluster.wait_well(cluster.stores)
            assert eventually(lambda: save(cache, keys) and all(hits(cache, keys)))
            assert eventually(lambda: lines[-1] == "every slot of the cluster is served again")
            assert cache.counts.skipped == 0


def test_slots_without_a_node_where_the_others_are_served(tmp_path):
    with made("valkey", tmp_path) as cluster:
        keys, lines = new_keys(60), []
        for store in cluster.masters:
            cluster.ask(store, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        first, last = cluster.ranges()[0]
        with cached(*cluster.endpoints, lines=lines, stripe_bytes=SIZE) as cache:
            assert save(cache, keys)
            for store in cluster.masters:
                cluster.ask(store, "CLUSTER", "DELSLOTSRANGE", first, last)
            there = [
                not any(first <= slot_of(spread_key(key, index)) <= last for index in (0, 1)) for key in keys
            ]
            assert eventually(lambda: hits(cache, keys) == there)
            no_node = "slots of the cluster have no node"
            assert eventually(lambda: hits(cache, keys) == there and any(no_node in line for line in lines))
        with cached(*cluster.endpoints, lines=lines, stripe_bytes=SIZE) as cache:
            assert hits(cache, keys) == there


# Peers that lie


@pytest.mark.parametrize("word", ["MOVED", "ASK"])
def test_nodes_that_send_a_command_to_and_fro(word, client):
    one, other, keys = ClusterPeer(), ClusterPeer(), new_keys(1)
    one.reply, other.reply = (b"-%b 7 127.0.0.1:%d" % (word.encode(), peer.port) for peer in (other, one))
    lines: list[str] = []
    for call in (
        lambda cache: any(cache.present(keys)),
        lambda cache: any(hits(cache, keys)),
        lambda cache: save(cache, keys),
    ):
        with cached(one.endpoint, lines=lines, library=client) as cache:
            assert not call(cache)
    assert len(lines) == 3
    assert all(f"answered: {word} 7" in line for line in lines)
    assert 3 * 5 <= one.commands + other.commands <= 3 * STRIPES * (1 + 2 * 5)


@pytest.mark.parametrize("address", [("192.0.2.7", 7000), ("nowhere.invalid", 7000)])
def test_nodes_at_addresses_that_cannot_be_reached_from_here(address):
    peer, keys, lines = ClusterPeer(at=address), new_keys(3), []
    with cached(peer.endpoint, lines=lines, timeout_s=0.3) as cache:
        for _ in range(5):
            assert cache.present(keys) == [False] * 3
            assert hits(cache, keys) == [False] * 3
    (line,) = lines
    assert f"{address[0]}:{address[1]}" in line
    assert line.startswith("a node of the cluster does not answer: ")


@pytest.mark.parametrize(
    "said", [b"-MOVED", b"-MOVED x y", b"-MOVED 7 :x", b"-ASK 7", b"-ERR no", b"-CROSSSLOT Keys"]
)
def test_refusals_that_say_nowhere_to_go(said):
    lines: list[str] = []
    with cached(ClusterPeer(reply=said).endpoint, lines=lines) as cache:
        assert hits(cache, new_keys(1)) == [False]
    (line,) = lines
    assert f"answered: {said[1:].decode()}" in line


@pytest.mark.parametrize(
    "slots",
    [
        b"*1\r\n*1\r\n:0\r\n",
        b"*1\r\n:0\r\n",
        b":0\r\n",
        b"$-1\r\n",
        b"*1\r\n*3\r\n:0\r\n:x\r\n*1\r\n$1\r\nh\r\n",
        b"*1\r\n" * 50,
    ],
)
def test_a_server_whose_slots_are_no_slots(slots):
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(4096)
                    peer.sendall(slots)
                    peer.recv(4096)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with cached(Endpoint("127.0.0.1", listener.getsockname()[1]), lines=lines, timeout_s=0.5) as cache:
            assert cache.present(new_keys(1)) == [False]
        thread.join(5)
    assert len(lines) == 1
