"""A store's bound on real servers: what is kept, its order, and that nothing is there that nobody counts, whoever is killed."""

import json
import random
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import eventually
from tests.plugin.saver import BOUND, CHUNK, STRIPE, key_of, opened, value_of
from tests.stores.conftest import offered, store_config
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.bound import Bound
from workflow.plugin.lmcache_striped.bounded import BoundedConnector
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.errors import StoreError
from workflow.plugin.lmcache_striped.ledger import Ledger
from workflow.plugin.lmcache_striped.order import Entry
from workflow.plugin.lmcache_striped.stripes import parts_of, stripe_key

ROOT = Path(__file__).parents[2]
STRIPES = len(parts_of(CHUNK, STRIPE))
STORED = Entry(key_of(0), CHUNK, STRIPES).stored_bytes
HELD = BOUND // STORED
OF_LOG = 3  # values beside the stripes in each server, when the bound has just been taken over: head, sign of life, snapshot
WITHOUT_LOG = {"rocksdb.write_options.disable_wal": "yes"}
SERVERS = [offered("valkey"), offered("rocksdb"), offered("kvrocks")]


def held_of(connector) -> list[bytes]:
    return connector.bound.keys()


def every_value(store) -> int:
    """How many values the servers have."""
    return sum(len(scanned(server)) for server in store.servers)


def scanned(server) -> list[bytes]:
    with server.client() as client:
        if server.name == "rocksdb":
            return [b""] * client.dbsize()
        return list(client.scan_iter(count=1000))


def nothing_uncounted(store, connector) -> None:
    """Of a bound that was taken over: the values that are there are those of the chunks that are counted."""
    expected = len(held_of(connector)) * STRIPES + OF_LOG * len(store.servers) - (len(store.servers) - 1)
    assert every_value(store) == expected


def loaded(connector, numbers) -> list[bool]:
    """Load chunks; what is found must be right."""
    buffers = [np.zeros(CHUNK, np.uint8) for _ in numbers]
    found = connector.get([key_of(number) for number in numbers], buffers)
    for number, hit, buffer in zip(numbers, found, buffers, strict=True):
        assert not hit or np.array_equal(buffer, value_of(number))
    return found


def put(connector, *numbers: int) -> None:
    connector.put([key_of(number) for number in numbers], [value_of(number) for number in numbers])


@pytest.fixture(params=SERVERS, scope="module")
def running(request, tmp_path_factory):
    settings = {} if request.param == "valkey" else WITHOUT_LOG
    folder = tmp_path_factory.mktemp("bound")
    config = store_config(folder, request.param, settings=settings, port=free_port())
    with make_store(request.param, config) as store:
        yield store


@pytest.fixture
def store(running):
    with running.client() as client:
        client.flushall()
    return running


def test_what_is_kept_is_what_an_ideal_lru_keeps_and_nothing_else_is_there(store):
    rng, ideal = random.Random(3), OrderedDict()
    with opened(store.endpoints) as one:
        for _ in range(150):
            number = rng.randrange(30)
            if rng.random() < 0.5:
                put(one, number)
                ideal[number] = None
            elif rng.random() < 0.9:
                assert loaded(one, [number]) == [number in ideal]
            else:
                assert one.bound.delete([key_of(number)]) == [number in ideal]
                ideal.pop(number, None)
            if number in ideal:
                ideal.move_to_end(number)
            while len(ideal) > HELD:
                ideal.popitem(last=False)
            assert held_of(one) == [key_of(each) for each in ideal]
        counts = one.bound.counts
        assert counts.used_bytes == len(ideal) * STORED <= BOUND
        assert counts.evicted_bytes == counts.evicted_chunks * STORED > 0
    with opened(store.endpoints) as one:
        assert held_of(one) == [key_of(each) for each in ideal]
        nothing_uncounted(store, one)


def test_the_beginning_of_a_prompt_goes_after_its_end(store):
    prompt = [key_of(number) for number in range(6)]
    with opened(store.endpoints) as one:
        put(one, 0, 1, 2)
        put(one, 20)
        assert one.count_present(prompt) == 3
        put(one, 4, 5)
        put(one, 3)
        kept = [5, 4, 3, 2, 1, 0]
        assert held_of(one) == [key_of(20), *(key_of(number) for number in kept)]


def test_a_prompt_larger_than_an_eighth_of_the_bound_is_saved_in_parts(store):
    with opened(store.endpoints) as one:
        put(one, *range(HELD + 3))
        assert one.bound.counts.used_bytes <= BOUND
        assert every_value(store) <= HELD * STRIPES + OF_LOG + HELD + 3


@pytest.mark.parametrize("seed", range(3))
def test_after_kill_9_of_the_client_all_that_is_there_is_counted_and_its_order_is_known(store, seed):
    ports = [str(endpoint.port) for endpoint in store.endpoints]
    command = [sys.executable, "-m", "tests.plugin.saver", str(seed), *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        lines = [process.stdout.readline() for _ in range(20 + 7 * seed)]
        process.kill()
        lines += process.stdout.readlines()
    done = [json.loads(line) for line in lines if line.endswith("\n")]
    with opened(store.endpoints) as one:
        nothing_uncounted(store, one)
        held = held_of(one)
        newest = done[-1][1]
        assert {key_of(number) for number in newest} <= set(held)
        assert loaded(one, range(40)).count(True) == len(held)
        put(one, *range(50, 50 + HELD))
        assert [key for key in held if key in held_of(one)] == []
        assert every_value(store) <= HELD * STRIPES + OF_LOG + HELD


def test_after_kill_9_of_the_server_all_that_is_there_is_counted(store):
    if store.name == "valkey":
        pytest.skip("it keeps nothing")
    with opened(store.endpoints) as one:
        for number in range(HELD + 5):
            put(one, number)
        store.kill()
        with pytest.raises(StoreError):
            put(one, 60)
        store.restart()
        eventually(lambda: saved(one, 61))
        assert key_of(61) in held_of(one)
        loaded(one, range(HELD + 5))
    with opened(store.endpoints) as two:
        nothing_uncounted(store, two)


@pytest.mark.parametrize("name", SERVERS[1:])
def test_what_a_server_has_lost_the_deletion_of_is_deleted_again(name, tmp_path):
    """Write buffers are full now and then, so that a kill -9 loses the last deletions, not what they deleted."""
    small = WITHOUT_LOG | {"rocksdb.write_buffer_size": 1, "rocksdb.max_write_buffer_number": 2}
    with make_store(name, store_config(tmp_path, name, settings=small, port=free_port())) as store:
        with opened(store.endpoints) as one:
            for life in range(4):
                for number in range(250):
                    put(one, 1000 * life + number)
                store.kill()
                store.restart()
                eventually(lambda number=1000 * life + 900: saved(one, number))
                loaded(one, range(1000 * life, 1000 * life + 250))
        with opened(store.endpoints) as one:
            nothing_uncounted(store, one)


def saved(connector, number: int) -> bool:
    try:
        put(connector, number)
    except StoreError:
        return False
    return True


def test_what_others_delete_is_noticed(store):
    with opened(store.endpoints) as one:
        put(one, 1, 2, 3)
        with store.client() as client:
            client.flushall()
        put(one, 4)
        eventually(lambda: held_of(one) == [key_of(4)])
    with opened(store.endpoints) as one:
        nothing_uncounted(store, one)
        assert held_of(one) == [key_of(4)]


def test_a_chunk_that_is_not_whole_any_more_can_be_saved_again(store):
    with opened(store.endpoints) as one:
        put(one, 1, 2)
        with store.client() as client:
            client.delete(stripe_key(key_of(1), 2))
        assert loaded(one, [1, 2]) == [False, True]
        eventually(lambda: held_of(one) == [key_of(2)])
        assert one.count_present([key_of(1)]) == 0
        put(one, 1)
        assert loaded(one, [1]) == [True]


def test_a_lower_bound_holds_from_the_beginning(store):
    with opened(store.endpoints) as one:
        put(one, *range(8))
        order = held_of(one)
    with opened(store.endpoints, bound_bytes=3 * STORED) as one:
        assert held_of(one) == order[-3:]
        nothing_uncounted(store, one)


def test_a_second_instance_saves_nothing_until_the_first_has_gone(store):
    said: list[str] = []
    with opened(store.endpoints) as one:
        put(one, 1)
        bound = Bound(BOUND, Ledger(store.endpoints, 1, 10.0, connect=False), STRIPE, report=said.append)
        try:
            with BoundedConnector(bound, store.endpoints, 2, 10.0, STRIPE) as two:
                eventually(lambda: said)
                assert "another instance keeps the store's bound" in said[0]
                assert loaded(two, [1]) == [True]
                with pytest.raises(StoreError, match="saves and deletes nothing"):
                    put(two, 2)
                with pytest.raises(StoreError, match="saves and deletes nothing"):
                    bound.delete([key_of(1)])
                assert loaded(one, [1, 2]) == [True, False]
                one.bound.close()
                assert bound.wait(10)
                put(two, 2)
                assert held_of(two)[-1] == key_of(2)
        finally:
            bound.close()


def test_the_one_that_was_taken_over_lets_go_and_saves_nothing(store):
    with opened(store.endpoints) as one:
        put(one, 1)
        ledger = Ledger(store.endpoints, 1, 10.0)
        head = b"HKB1|other|99||0|0||0|0"
        ledger.ask((b"SET", b"lmcache_striped:bound:0:head", head))
        with pytest.raises(StoreError, match="another instance keeps the store's bound now"):
            put(one, 2)
        assert not one.bound.mine
        assert ledger.present([key_of(1), key_of(2)]) == [True, False]
        ledger.close()


def test_uses_of_what_another_keeps_are_not_remembered_without_end(store):
    with opened(store.endpoints) as one:
        put(one, 1)
        ledger = Ledger(store.endpoints, 1, 10.0)
        ledger.ask((b"SET", b"lmcache_striped:bound:0:head", b"HKB1|other|99||0|0||0|0"))
        assert eventually(lambda: one.count_present([key_of(1)]) and not one.bound.mine)
        before = one.bound._order.pending
        for _ in range(10):
            assert one.count_present([key_of(1)]) == 1
            assert loaded(one, [1]) == [True]
        assert one.bound._order.pending == before
        ledger.close()


def test_a_save_that_failed_is_not_counted_when_the_store_is_back(store, monkeypatch):
    """Looking for what is not whole fails once as well, as it does while a server is away."""
    with opened(store.endpoints) as one:
        looked, look = [], one.bound._ledger.present

        def present(keys):
            looked.append(len(keys))
            if len(looked) == 1:
                raise StoreError("away")
            return look(keys)

        def fails(*_):
            raise StoreError("away")

        monkeypatch.setattr(one.bound._ledger, "present", present)
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(StripedConnector, "put", fails)
            with pytest.raises(StoreError, match="away"):
                put(one, 1)
        assert eventually(lambda: held_of(one) == [])
        assert len(looked) == 2


def test_loads_and_lookups_go_on_while_chunks_go_and_no_byte_is_wrong(store):
    failed: list[BaseException] = []
    ended = threading.Event()

    def read(one) -> None:
        rng = random.Random(5)
        try:
            while not ended.is_set():
                numbers = [rng.randrange(40) for _ in range(3)]
                one.count_present([key_of(number) for number in numbers])
                loaded(one, numbers)
        except BaseException as error:
            failed.append(error)

    bound = Bound(BOUND, Ledger(store.endpoints, 1, 10.0, connect=False), STRIPE)
    assert bound.wait(10)
    arguments = (bound, store.endpoints, 2, 10.0, STRIPE)
    with BoundedConnector(*arguments) as saves, BoundedConnector(*arguments) as loads:
        thread = threading.Thread(target=read, args=(loads,))
        thread.start()
        for number in range(120):
            put(saves, number % 40)
        ended.set()
        thread.join()
    bound.close()
    assert failed == []
    assert bound.counts.evicted_chunks > 0


def test_of_two_servers_one_may_lose_its_end(tmp_path):
    config = store_config(tmp_path, "rocksdb", settings=WITHOUT_LOG, processes=2)
    with make_store("rocksdb", config) as store:
        with opened(store.endpoints) as one:
            for number in range(HELD):
                put(one, number)
        with opened(store.endpoints) as one:
            for number in range(20, 25):
                put(one, number)
            loser = store.servers[1]
            loser.kill()
            loser.restart()
            with_new_ports = [server.endpoint for server in store.servers]
        with opened(with_new_ports) as one:
            loaded(one, range(40))
            eventually(lambda: loaded(one, range(40)).count(True) == len(held_of(one)))
        with opened(with_new_ports) as one:
            nothing_uncounted(store, one)
            assert one.bound.counts.used_bytes <= BOUND
