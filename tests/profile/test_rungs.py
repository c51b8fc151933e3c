"""The rungs on real sockets: what each measures, in which layer a delay shows up, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.record_factory import REST, ROCKSDB, VALKEY
from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.machine.memory_dir import MemoryFolder
from workflow.hyperkv.profile import moving, stations
from workflow.hyperkv.profile.loopback import Loopback
from workflow.hyperkv.profile.moving import Bench, Values
from workflow.hyperkv.profile.null import NullStore
from workflow.hyperkv.profile.rungs import keys_of, memory_needed
from workflow.hyperkv.profile.sampling import why_not
from workflow.hyperkv.profile.stations import measure_point
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.files import FilesStore
from workflow.hyperkv.stores.valkey import ValkeyStore
from workflow.hyperkv.tables.methods.substitution import UNEXPLAINED, layers_of, seconds_by_layer
from workflow.hyperkv.workloads.payload import Payload

SIZE, EACH, CONNECTIONS = 64 << 10, 4, 2
DELAY_S = 0.005
STRIPES = {"stripe_bytes": 32 << 10, "stripes_in_flight": 4, "client": "python"}
DIRECT = {"tier": "ssd", "store": "rocksdb", "connector": "direct", "read": "auto"} | STRIPES
FILES = {"tier": "ssd", "store": "files", "connector": "inprocess"}


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Single passes, and a memory folder that need not be a tmpfs."""
    monkeypatch.setattr(stations, "_REPEATED_S", 0.0)
    monkeypatch.setattr(stations, "memory_folder", lambda folder, needed: MemoryFolder(folder))


@pytest.fixture(scope="module")
def loopbacks(tmp_path_factory):
    """The raw socket's processes, over TCP and over a unix socket."""
    log, size = tmp_path_factory.mktemp("loopbacks") / "log", SIZE * EACH * CONNECTIONS
    with Loopback(size, log, 10) as tcp, Loopback(size, log, 10, unix=True) as unix:
        yield tcp, unix


@pytest.fixture
def bench(tmp_path, loopbacks):
    """Makes a bench of a scenario and repeat."""

    def make(scenario: dict, repeat: int = 1) -> Bench:
        spec = {
            "scenario": {"name": "x", **REST, **scenario},
            "data_dir": str(tmp_path / "data"),
            "memory_dir": str(tmp_path / "memory"),
            "warm_up_bytes": SIZE,
        }
        return Bench(spec, Values.of(Payload(SIZE), CONNECTIONS, EACH, repeat), tmp_path, *loopbacks)

    return make


def measured_point(bench: Bench) -> list[dict]:
    """The records of a point as they stand in a file."""
    return [record.dump() for record in measure_point(bench)]


def by_rung(records: list[dict], operation: str) -> dict[str, dict]:
    return {record["rung"]: record for record in records if record["operation"] == operation}


def layers(records: list[dict], scenario: dict, operation: str) -> dict[str, float]:
    """Wall seconds per value of every layer and of the rest; values of all connections move side by side."""
    seconds = {name: record["s_per_gb"] for name, record in by_rung(records, operation).items()}
    per_value = SIZE * CONNECTIONS / 1e9
    return {
        name: value * per_value
        for name, value in seconds_by_layer(layers_of(scenario, operation), seconds).items()
    }


def test_the_rungs_of_valkey_are_measured_with_both_sides_and_nothing_is_left(bench, tmp_path):
    records = measured_point(bench(VALKEY))
    assert [(r["rung"], r["operation"]) for r in records] == keys_of(VALKEY)
    for operation in ("set", "get"):
        found = by_rung(records, operation)
        for name in ("loopback", "loopback_unix", "null", "valkey", "whole"):
            record = found[name]
            assert record["moved_bytes"] == SIZE * EACH * CONNECTIONS * record["passes"]
            assert record["s_per_gb"] == pytest.approx(record["elapsed_s"] / record["moved_bytes"] * 1e9)
            assert record["server_cpu_s"] > 0
            assert record["client_cpu_s"] > 0
            assert record["server_page_faults"] >= 0
        assert found["memcpy"]["server_cpu_s"] is None
        assert found["gpu_copy"]["s_per_gb"] is None
        assert found["gpu_copy"]["notes"]
        assert found["whole"]["threads"]
        assert (found["whole"]["sampled"] is None) or why_not() is None
    json.dumps(records, allow_nan=False)
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("dropped", [True, False])
def test_a_store_on_disk_is_measured_cold_or_not_at_all(bench, monkeypatch, dropped):
    monkeypatch.setattr(FilesStore, "make_cold", lambda store: dropped)
    monkeypatch.setattr(stations, "_COLD_SHARE", 2)
    records = measured_point(bench(FILES))
    assert [(r["rung"], r["operation"]) for r in records] == keys_of(FILES)
    for name in ("device", "whole"):
        assert by_rung(records, "set")[name]["s_per_gb"] > 0
        got = by_rung(records, "get")[name]
        assert got["cold"] is dropped
        assert (got["s_per_gb"] is not None) is dropped
        assert [note for note in got["notes"] if "not cold" in note] == (
            [] if dropped else [stations._NOT_COLD]
        )


def test_without_a_wire_the_same_files_are_read_bare_by_direct_and_by_striped(bench):
    """The values are stripes, each above what RocksDB keeps in its tables."""
    records = measured_point(bench(DIRECT))
    assert [(r["rung"], r["operation"]) for r in records] == keys_of(DIRECT)
    found = by_rung(records, "get")
    for name in ("files_ram", "direct_ram", "striped_ram"):
        assert found[name]["moved_bytes"] == SIZE * EACH * CONNECTIONS
        assert found[name]["notes"] == []
    for name in ("files_disk", "striped_disk", "whole"):
        assert (found[name]["s_per_gb"] is None) is (found[name]["cold"] is False)
    assert {"client_striped", "store_disk", "device"} <= set(by_rung(records, "set"))
    assert "files_ram" not in by_rung(records, "set")


def test_what_the_device_delivered_is_cold_without_a_dropped_cache(bench, monkeypatch):
    monkeypatch.setattr(FilesStore, "make_cold", lambda store: False)
    monkeypatch.setattr(stations, "_COLD_SHARE", 0)
    assert by_rung(measured_point(bench(FILES)), "get")["whole"]["cold"] is True


class FakeDisk(NullStore):
    """A store on disk that keeps nothing and has nothing to make cold."""

    name = "fake"

    def make_cold(self) -> bool:
        self.restart()
        return True


def delayed(monkeypatch, late: tuple[str, ...] = ()) -> list[tuple[str, Store]]:
    """Replace the servers by ones that store nothing, and time by a clock that only a GET of the late ones moves.

    Returns the stores by their names, as they are made.
    """
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    stores: list[tuple[str, Store]] = []

    def made(kind: type[NullStore], name: str, config) -> NullStore:
        store = kind(replace(config, settings={"memory_bytes": 8 * SIZE}, environment={}))
        stores.append((name, store))
        return store

    def make(name, config):
        if name != "files":
            return made(FakeDisk, name, config)
        stores.append((name, FilesStore(config)))
        return stores[-1][1]

    def get(store, *rest):
        found = moving.get(store, *rest)
        clock.now += EACH * DELAY_S * any(store is one and name in late for name, one in stores)
        return found

    monkeypatch.setattr(moving, "time", clock)
    monkeypatch.setattr(stations, "get", get)
    monkeypatch.setattr(stations, "make_store", make)
    monkeypatch.setattr(stations, "NullStore", lambda config: made(NullStore, "null", config))
    monkeypatch.setattr(Values, "require_right", lambda *_: None)
    monkeypatch.setattr(stations.Sampler, "start", lambda sampler: None)
    return stores


@pytest.mark.parametrize(
    ("late", "layer"),
    [
        (("null", "valkey", "rocksdb"), "protocol"),
        (("valkey", "rocksdb"), "server_memory"),
        (("rocksdb",), "engine"),
    ],
)
def test_a_delay_of_every_get_shows_up_in_its_layer_and_nowhere_else(bench, monkeypatch, late, layer):
    delayed(monkeypatch, late)
    records = measured_point(bench(ROCKSDB))
    got, put = (layers(records, ROCKSDB, operation) for operation in ("get", "set"))
    assert got.pop(layer) == pytest.approx(DELAY_S)
    assert UNEXPLAINED in got
    assert [*got.values(), *put.values()] == pytest.approx([0] * len([*got, *put]), abs=1e-12)


def test_the_order_of_the_stations_moves_on_with_every_repeat(bench, monkeypatch):
    made = delayed(monkeypatch)
    orders = []
    for repeat in (1, 5):
        records = measured_point(bench(ROCKSDB, repeat))
        assert [(r["rung"], r["operation"]) for r in records] == keys_of(ROCKSDB)
        orders.append([name for name, _ in made])
        made.clear()
    first = ["null", "valkey", "rocksdb", "rocksdb", "files", "rocksdb"]
    assert orders == [first, [*first[2:], *first[:2]]]


def test_a_scenario_has_the_rungs_that_its_layers_need():
    for scenario in (VALKEY, ROCKSDB, FILES, ROCKSDB | {"connector": "redis"}):
        for operation in ("set", "get"):
            there = {rung for rung, of in keys_of(scenario) if of == operation}
            for layer in layers_of(scenario, operation):
                assert {layer.rung, layer.below or layer.rung} <= there


def test_a_set_meets_a_warm_server_and_a_get_of_a_disk_a_restarted_one(bench, monkeypatch):
    made = delayed(monkeypatch)
    seen: list[tuple[object, str]] = []

    def noted(owner, name: str) -> None:
        done = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda store, *rest: (seen.append((store, name)), done(store, *rest))[1]
        )

    noted(FakeDisk, "make_cold")
    noted(NullStore, "restart")
    noted(stations, "put")
    noted(stations, "get")
    measured_point(bench(ROCKSDB))
    in_memory, *on_disk = [
        [did for store, did in seen if store is one] for name, one in made if name == "rocksdb"
    ]
    assert in_memory == ["put", "put", "get", "get", "restart", "get"]
    assert on_disk == [["put", "put", "make_cold", "restart", "get"]] * 2
    assert ("store_ram_cold", "set") not in keys_of(ROCKSDB)


def test_wrong_bytes_are_no_result(bench, monkeypatch):
    monkeypatch.setattr(Payload, "matches", lambda *_: False)
    with pytest.raises(UserError, match="8 of 8 values were missing or wrong"):
        measured_point(bench(VALKEY))


def test_a_server_that_dies_is_named(bench, monkeypatch):
    started = ValkeyStore.start

    def start(store):
        started(store)
        store.kill()

    monkeypatch.setattr(ValkeyStore, "start", start)
    with pytest.raises(StoreError, match=r"store valkey \(pid \d+\) died with signal 9"):
        measured_point(bench(VALKEY))


def test_without_room_in_memory_the_layers_there_are_left_out_and_say_why(bench, monkeypatch):
    asked = []

    def none_here(folder: Path, needed: int) -> MemoryFolder:
        asked.append((folder.name, needed))
        return MemoryFolder(None, "no room")

    monkeypatch.setattr(stations, "memory_folder", none_here)
    records = measured_point(bench(DIRECT))
    needed = memory_needed({"warm_up_bytes": SIZE}, SIZE * EACH * CONNECTIONS)
    assert {*asked} == {("memory", needed)} == {("memory", 2 * (SIZE + 3 * SIZE * EACH * CONNECTIONS))}
    left_out = [record for record in records if record["rung"].endswith(("_ram", "_ram_warm", "_ram_cold"))]
    assert {record["rung"] for record in left_out} >= {
        "store_ram_warm",
        "files_ram",
        "direct_ram",
        "striped_ram",
    }
    assert all((record["s_per_gb"], record["notes"]) == (None, ["no room"]) for record in left_out)
    assert by_rung(records, "get")["whole"]["notes"] != ["no room"]
    assert by_rung(records, "set")["store_disk"]["s_per_gb"] is not None


def test_another_folder_in_memory_is_used_and_named(bench, monkeypatch, tmp_path):
    other = tmp_path / "other"
    monkeypatch.setattr(stations, "memory_folder", lambda *_: MemoryFolder(other, "other was used"))
    records = by_rung(measured_point(bench(ROCKSDB)), "get")
    assert "other was used" in records["store_ram_warm"]["notes"]
    assert records["store_ram_cold"]["s_per_gb"] is not None
    assert list(other.iterdir()) == []
