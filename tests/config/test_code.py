"""What measuring a scenario depends on: its own engine, workload, store and connector, and no other."""

import pytest

from workflow.hyperkv.base.sources import sources
from workflow.hyperkv.config.code import scenario_modules


def closure(spec: dict) -> list[str]:
    return sources(*scenario_modules(spec))


def names(paths: list[str]) -> list[str]:
    return [path.removeprefix("workflow/hyperkv/").removeprefix("workflow/plugin/") for path in paths]


def scenario(store: str, connector: str, **changes) -> list[str]:
    part = {"tier": "ssd", "store": store, "connector": connector, "dram_pool_bytes": 0} | changes
    return names(closure({"engine": "replay", "workload": {"kind": "multi_turn"}, "scenario": part}))


def test_sweep_closure_holds_its_imports_but_no_store():
    found = names(sources("sweep.measure_scenario"))
    assert {"sweep/measure_scenario.py", "records/journal.py", "base/errors.py"} <= set(found)
    assert not {f"stores/{name}.py" for name in ("files", "valkey", "rocksdb/store", "rocksdb/server")} & set(
        found
    )
    assert found == sorted(found, key=lambda name: (name.startswith("lmcache_striped/"), name))


@pytest.mark.parametrize(
    ("store", "connector", "own", "others"),
    [
        (
            "rocksdb",
            "resp",
            ["rocksdb/store", "server", "rocksdb/server", "rocksdb/options", "resp_protocol"],
            ["valkey"],
        ),
        (
            "valkey",
            "redis",
            ["valkey", "server"],
            ["rocksdb/store", "rocksdb/server", "resp_protocol", "files"],
        ),
        ("files", "inprocess", ["files"], ["valkey", "rocksdb/store", "server"]),
    ],
)
def test_scenario_depends_on_its_own_store_and_connector(store, connector, own, others):
    found = scenario(store, connector)
    assert {f"stores/{name}.py" for name in own} <= set(found)
    assert not {f"stores/{name}.py" for name in others} & set(found)
    assert f"connectors/{connector}.py" in found
    unused = {"redis", "resp", "inprocess"} - {connector}
    assert not {f"connectors/{name}.py" for name in unused} & set(found)
    assert {"engines/replay/engine.py", "workloads/multi_turn.py"} <= set(found)
    assert "workloads/trace.py" not in found


def test_an_engine_depends_on_its_own_cells_only():
    replay = set(scenario("valkey", "resp"))
    part = {"tier": "dram", "store": "valkey", "connector": "resp", "dram_pool_bytes": 0}
    spec = {"engine": "vllm", "workload": {"kind": "multi_turn"}, "scenario": part}
    vllm = set(names(closure(spec)))
    assert {"engines/replay/cells.py", "engines/replay/engine.py", "connectors/resp.py"} <= replay - vllm
    assert {f"engines/vllm/{name}.py" for name in ("cells", "aiperf", "lmcache", "server")} <= vllm - replay
    assert {"cells/cell.py", "cells/samples.py", "stores/valkey.py", "stores/registry.py"} <= vllm & replay


def test_engine_vllm_depends_on_its_own_store_alone():
    part = {"tier": "ssd", "store": "files", "connector": "mp", "dram_pool_bytes": 0}
    found = names(closure({"engine": "vllm", "workload": {"kind": "multi_turn"}, "scenario": part}))
    assert not {"stores/valkey.py", "stores/server.py", "stores/kvrocks/store.py"} & set(found)


def test_several_processes_add_their_store_and_stripes_their_modules():
    found = scenario("valkey", "striped")
    own = {f"lmcache_striped/{name}" for name in ("connector.py", "stripes.py", "channels.py", "native.c")}
    assert own <= set(found)
    assert "connectors/resp.py" not in found
    assert set(scenario("valkey", "striped", processes=2)) - set(found) == {
        "stores/sharded.py",
        "base/threads.py",
    }


def test_a_bound_adds_what_keeps_it():
    added = {f"lmcache_striped/{name}.py" for name in ("bounded", "bound", "ledger", "order", "order_log")}
    assert set(scenario("valkey", "striped", bound_bytes=1)) - set(scenario("valkey", "striped")) == added


def test_a_pool_adds_the_dram_store():
    added = {"stores/dram.py", "stores/local.py", "connectors/inprocess.py"}
    assert not added & set(scenario("rocksdb", "resp"))
    assert set(scenario("rocksdb", "resp", dram_pool_bytes=1)) - set(scenario("rocksdb", "resp")) == added


def test_recompute_depends_on_no_store():
    found = set(scenario("", "", tier="none"))
    assert not {f"stores/{name}.py" for name in ("dram", "files", "valkey", "rocksdb", "server")} & found


def test_what_looks_at_an_array_is_depended_on_where_there_is_one_only():
    part = {"tier": "none"}
    spec = {"engine": "replay", "workload": {"kind": "multi_turn"}, "scenario": part}
    without, on_array = names(closure(spec)), names(closure(spec | {"array": {}}))
    assert not [name for name in without if name.startswith("array/")]
    assert "array/verify.py" in on_array
