"""Import closures: what a stage's rule depends on, and nothing else."""

from pathlib import Path

import pytest

from workflow.hyperkv.base import sources as module
from workflow.hyperkv.base.sources import code_digest, scenario_sources, sources

TREE = {
    "__init__.py": "",
    "stage.py": "import os\nfrom . import near\nfrom .sub.deep import thing\n",
    "near.py": "def later():\n    from workflow.hyperkv import absolute\n",
    "absolute.py": "import workflow.hyperkv.plain\nimport workflow.elsewhere\n",
    "plain.py": "from importlib import import_module\nimport_module('workflow.hyperkv.by_name')\n",
    "by_name.py": "",
    "sub/__init__.py": "from .inside import x\n",
    "sub/inside.py": "x = 1\n",
    "sub/deep.py": "from ..upstairs import y\nthing = 1\n",
    "sub/unused.py": "",
    "upstairs.py": "from . import stage\ny = 1\n",
}


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A small package of the same name in a folder of its own."""
    for name, text in TREE.items():
        path = tmp_path / "workflow/hyperkv" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    module._imported.cache_clear()
    yield tmp_path
    module._imported.cache_clear()


def names(paths: list[str]) -> list[str]:
    return [path.removeprefix("workflow/hyperkv/") for path in paths]


def test_closure_of_every_kind_of_import(tree):
    assert names(sources("stage")) == sorted(set(TREE) - {"by_name.py", "sub/unused.py"})
    assert names(sources("plain")) == ["plain.py"]
    assert names(sources("plain", "by_name")) == ["by_name.py", "plain.py"]
    assert names(sources("sub")) == ["__init__.py", "sub/__init__.py", "sub/inside.py"]


def test_unknown_module(tree):
    with pytest.raises(FileNotFoundError, match=r"workflow\.hyperkv\.nothing"):
        sources("nothing")


def test_code_digest_follows_contents_and_names(tree):
    paths = sources("stage")
    first = code_digest(paths)
    assert code_digest(reversed(paths)) == first
    Path(paths[0]).touch()
    assert code_digest(paths) == first
    assert code_digest(paths[1:]) != first
    Path(paths[1]).write_text(Path(paths[1]).read_text() + "\n")
    assert code_digest(paths) != first


def scenario(store: str, connector: str, **changes) -> list[str]:
    part = {"tier": "ssd", "store": store, "connector": connector, "dram_pool_bytes": 0} | changes
    return names(scenario_sources({"engine": "replay", "workload": {"kind": "multi_turn"}, "scenario": part}))


def test_sweep_closure_holds_its_imports_but_no_store():
    found = names(sources("sweep"))
    assert {"sweep.py", "journal.py", "errors.py", "sources.py"} <= set(found)
    assert not {f"stores/{name}.py" for name in ("files", "valkey", "rocksdb", "rocksdb_server")} & set(found)
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("store", "connector", "own", "others"),
    [
        (
            "rocksdb",
            "resp",
            ["rocksdb", "server", "rocksdb_server", "rocksdb_options", "resp_protocol"],
            ["valkey"],
        ),
        ("valkey", "redis", ["valkey", "server"], ["rocksdb", "rocksdb_server", "resp_protocol", "files"]),
        ("files", "inprocess", ["files"], ["valkey", "rocksdb", "server"]),
    ],
)
def test_scenario_depends_on_its_own_store_and_connector(store, connector, own, others):
    found = scenario(store, connector)
    assert {f"stores/{name}.py" for name in own} <= set(found)
    assert not {f"stores/{name}.py" for name in others} & set(found)
    assert f"connectors/{connector}.py" in found
    unused = {"redis", "resp", "inprocess"} - {connector}
    assert not {f"connectors/{name}.py" for name in unused} & set(found)
    assert {"engines/replay.py", "workloads/multi_turn.py"} <= set(found)
    assert "workloads/mooncake.py" not in found


def test_an_engine_depends_on_its_own_cells_only():
    replay = set(scenario("valkey", "resp"))
    part = {"tier": "dram", "store": "valkey", "connector": "resp", "dram_pool_bytes": 0}
    spec = {"engine": "vllm", "workload": {"kind": "multi_turn"}, "scenario": part}
    vllm = set(names(scenario_sources(spec)))
    assert {"replay_cells.py", "engines/replay.py", "connectors/resp.py"} <= replay - vllm
    assert {"vllm_cells.py", "aiperf.py", "engines/lmcache.py", "engines/vllm_server.py"} <= vllm - replay
    assert {"cells.py", "samples.py", "stores/valkey.py", "stores/registry.py"} <= vllm & replay


def test_engine_vllm_starts_no_store_for_memory_and_files_of_its_own():
    part = {"tier": "ssd", "store": "files", "connector": "mp", "dram_pool_bytes": 0}
    found = names(scenario_sources({"engine": "vllm", "workload": {"kind": "multi_turn"}, "scenario": part}))
    assert not {"stores/files.py", "stores/valkey.py"} & set(found)


def test_several_processes_add_their_store_and_stripes_their_modules():
    found = scenario("valkey", "striped")
    own = {f"connectors/{name}.py" for name in ("striped", "stripes", "channels", "sockets")}
    assert own <= set(found)
    assert "connectors/resp.py" not in found
    assert set(scenario("valkey", "striped", processes=2)) - set(found) == {"stores/sharded.py"}


def test_a_pool_adds_the_dram_store():
    added = {"stores/dram.py", "connectors/inprocess.py"}
    assert not added & set(scenario("rocksdb", "resp"))
    assert set(scenario("rocksdb", "resp", dram_pool_bytes=1)) - set(scenario("rocksdb", "resp")) == added


def test_recompute_depends_on_no_store():
    found = set(scenario("", "", tier="none"))
    assert not {f"stores/{name}.py" for name in ("dram", "files", "valkey", "rocksdb", "server")} & found
