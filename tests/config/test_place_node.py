"""`place: {node: other}`: what it may stand beside, and what its job asks a scheduler for."""

import re
from typing import Any

import pytest

from tests.configs import changed
from tests.workflow_helpers import CONFIGS, Checkout
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import sweep_spec
from workflow.hyperkv.stores.elsewhere.nodes import NEEDED

ROCKSDB = {"tier": "ssd", "store": "rocksdb", "connector": "striped"}
VALKEY = {"tier": "dram", "store": "valkey", "connector": "resp"}
OTHER = {"node": "other"}


def config(place: dict[str, Any], keys: dict[str, Any] = ROCKSDB, **sections: Any) -> dict[str, Any]:
    """With scenario `s` at the place, measured."""
    found = changed("scenarios.s", {**keys, "place": place})
    found["experiment"] = {"scenarios": ["none", "s"]}
    for key, value in sections.items():
        found[key] = {**found.get(key, {}), **value}
    return found


@pytest.mark.parametrize("keys", [ROCKSDB, VALKEY, ROCKSDB | {"processes": 3}])
def test_a_spec_has_the_node_and_no_place(keys):
    full = checked(config({"node": "other", "interface": "ib0"}, keys))
    assert full["scenarios"]["s"]["node"] == {"interface": "ib0"}
    assert full["scenarios"]["s"]["place"] is None
    assert '"node": {"interface": "ib0"}' in sweep_spec(full, "s")
    assert '"node"' not in sweep_spec(full, "none")


@pytest.mark.parametrize(
    ("place", "keys", "said"),
    [
        ({"node": "mine"}, {}, r"scenarios\.s\.place\.node: 'mine' is wrong; allowed (is|are) other"),
        ({}, {}, r"scenarios\.s\.place\.addresses is missing; write \[host:port, \.\.\.\], or node: other"),
        (
            OTHER | {"addresses": ["a:1"]},
            {},
            r"place\.addresses: with place\.node the job starts the store; leave one",
        ),
        (
            OTHER | {"consent": True},
            {},
            r"place\.consent: with place\.node the job starts the store; leave one",
        ),
        (
            {"addresses": ["a:1"], "interface": "ib0"},
            {},
            r"place\.interface: place\.addresses say where the store is",
        ),
        (
            OTHER,
            {"store": "files", "connector": "inprocess"},
            r"place\.node: store files is no server .*; choose rocksdb or kvrocks",
        ),
        (OTHER, {"socket": "unix"}, r"scenarios\.s\.socket: another node is reached over tcp; leave it out"),
        (
            OTHER,
            {"connector": "direct"},
            r"connector: direct reads the store's files on this machine; choose striped",
        ),
        (
            OTHER,
            {"store": "kvrocks", "settings": {"bind": "127.0.0.1"}},
            r"settings\.bind: place\.interface says where the server listens; leave it out",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(place, keys, said):
    with pytest.raises(UserError, match=said) as caught:
        checked(config(place, ROCKSDB | keys))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", ["profile", "layers", "tune"])
def test_only_the_sweeps_jobs_have_two_nodes(section):
    with pytest.raises(
        UserError, match=rf"{section}\.scenarios: s has place\.node, and only jobs of experiment"
    ):
        checked(config(OTHER, **{section: {"scenarios": ["s"]}}))


def test_an_array_is_not_made_there():
    array = {"source": "raid0", "devices": ["/dev/nvme0n1", "/dev/nvme1n1"]}
    with pytest.raises(
        UserError,
        match=r"scenarios\.s\.place\.node: an array is .* on the engine's node; set array\.source: path",
    ):
        checked(config(OTHER, array=array))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    return Checkout.new(
        tmp_path_factory.mktemp("node") / "checkout", config(OTHER, ROCKSDB | {"chunk_tokens": 64})
    )


@pytest.mark.parametrize(
    ("own", "asked"),
    [
        ("{}", {"none": ["gpu=0"], "s": ["gpu=0", "nodes=2", "tasks=2"]}),
        (
            "{engine: vllm, vllm: {device: cuda, tensor_parallel: 2}, experiment: {active_conversations: null}}",
            {"none": ["gpu=2"], "s": ["gpu=0", "gres=gpu:2", "nodes=2"]},
        ),
    ],
)
def test_its_job_asks_for_two_nodes_and_for_gpus_on_each(checkout, own, asked):
    (checkout / "own.yaml").write_text(own)
    argv = ["sweep", "--dry-run", "--workflow-profile", "workflow/profiles/slurm", "--configfile"]
    status, output = checkout.forked(*argv, *CONFIGS, "own.yaml")
    assert status == 0, output
    found = {}
    for job in output.split("\n[")[1:]:
        if (scenario := re.search(r"scenario=(\w+),", job)) and "rule measure_scenario:" in job:
            found[scenario[1]] = re.findall(r"(?:gpu|gres|nodes|tasks)=[\w:]+", job)
    assert found == asked


def test_without_slurm_it_is_refused_in_one_line(checkout):
    (checkout / "own.yaml").write_text("{}")
    status, output = checkout.forked(
        "results/sweep/s/1.jsonl", "--cores", "2", "--configfile", *CONFIGS, "own.yaml"
    )
    assert status == 1
    assert f"config: scenarios.s.place.node: {NEEDED}" in output
    assert not list(checkout.folder.glob("results/sweep/s/*"))
