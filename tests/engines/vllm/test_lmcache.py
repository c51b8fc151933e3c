"""LMCache's configurations and vLLM's own offloading, rendered from scenarios; what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.vllm.slices import ENDPOINT, HELD, offload, scenario
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.connectors.gated import fed
from workflow.hyperkv.engines.vllm import lmcache, refusals
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.registry import store_class
from workflow.plugin.lmcache_striped.cache_settings import settings_from
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.secret import Secret
from workflow.plugin.lmcache_striped.shape import Device

GIB = 1 << 30


def test_every_rank_has_its_part_of_the_sizes_for_all():
    pool = offload(scenario("dram", "inprocess", dram_pool_bytes=16 * GIB), 4).config
    assert pool["max_local_cpu_size"] == 4
    disk = offload(scenario("files", "inprocess", capacity_bytes=8 * GIB), 4).config
    assert (disk["max_local_cpu_size"], disk["max_local_disk_size"]) == (1, 2)
    extra = offload(scenario("kvrocks", "striped"), 4).config["extra_config"]
    assert settings_from(extra, "remote_storage_plugin.striped").save_queue_bytes == 4 * GIB // 2 // 4


def test_a_server_beside_vllm_has_them_for_all_ranks():
    for own in (scenario("kvrocks", "striped_mp"), scenario("dram", "offloading", dram_pool_bytes=GIB)):
        assert offload(own, 4) == offload(own)


def test_recompute_needs_nothing():
    assert offload({"tier": "none"}) == lmcache.Offload()


def test_a_dram_pool_is_lmcaches_own_memory():
    found = offload(scenario("dram", "inprocess", dram_pool_bytes=16 * GIB))
    assert (found.transfer["kv_connector"], found.transfer["kv_role"]) == ("LMCacheConnectorV1", "kv_both")
    assert found.config["local_cpu"] is True
    assert found.config["max_local_cpu_size"] == 16
    assert "remote_url" not in found.config
    assert found.server is None


@pytest.mark.parametrize("connector", ["redis", "resp", "striped"])
def test_a_hit_leaves_two_tokens_to_compute_so_that_no_step_that_loads_is_a_full_graph(connector):
    extra = offload(scenario("kvrocks", connector)).transfer["kv_connector_extra_config"]
    assert extra == {"skip_last_n_tokens": 2}


def test_keys_of_lmcaches_own_come_beside_those_of_the_plugin():
    own = {"enable_async_loading": True, "extra_config": {"lookup_backoff_time": 0.001}}
    config = offload(scenario("kvrocks", "striped", lmcache=own)).config
    assert config["enable_async_loading"] is True
    assert config["extra_config"]["lookup_backoff_time"] == 0.001
    assert config["extra_config"]["remote_storage_plugin.striped.endpoints"] == "127.0.0.1:6666"
    assert lmcache.loads_ahead(scenario("kvrocks", "striped", lmcache=own))
    assert not lmcache.loads_ahead(scenario("kvrocks", "striped"))


def test_resp_without_a_pool_keeps_nothing_in_memory_and_no_metadata():
    config = offload(scenario("kvrocks", "resp")).config
    assert config["remote_url"] == "resp://127.0.0.1:6666"
    assert (config["local_cpu"], config["max_local_cpu_size"]) == (False, 4)
    assert config["extra_config"] == {"save_chunk_meta": False, "resp_num_threads": 8}


def test_striped_is_a_plugin_of_lmcache_with_all_of_its_servers():
    own = scenario("kvrocks", "striped", stripe_bytes=1 << 20, stripes_in_flight=8, processes=2)
    secret = Secret(Path("/run/secrets/kv"))
    endpoints = [Endpoint("127.0.0.1", 6666, secret), Endpoint("", 0, secret, "/run/kv.sock")]
    config = lmcache.offload(own, 4 * GIB, HELD, endpoints, 5555, 8080).config
    assert "remote_url" not in config
    assert config["remote_storage_plugins"] == ["striped"]
    settings = settings_from(config["extra_config"], "remote_storage_plugin.striped")
    assert [str(item) for item in settings.endpoints] == [str(item) for item in endpoints]
    assert (settings.connections, settings.stripe_bytes, settings.stripes_in_flight) == (8, 1 << 20, 8)
    assert settings.timeout_s == 3
    patient = own | {"stripes_in_flight": None, "timeout_s": 20}
    everything = lmcache.offload(patient, 4 * GIB, HELD, endpoints, 5555, 8080)
    settings = settings_from(everything.config["extra_config"], "remote_storage_plugin.striped")
    assert (settings.stripes_in_flight, settings.timeout_s) == (1024, 20)
    assert settings.save_queue_bytes == 2 * GIB


def test_the_reference_projects_file():
    config = offload(scenario("kvrocks", "redis", chunk_tokens=1024)).config
    assert (config["chunk_size"], config["remote_url"]) == (1024, "redis://127.0.0.1:6666")


def test_local_disk_is_ssd_without_resp():
    config = offload(scenario("files", "inprocess")).config
    assert config["local_disk"] == "file:///data/kv/"
    assert config["extra_config"]["use_odirect"] is True


def test_a_scenarios_own_keys_come_last_and_extra_config_is_merged():
    own = {"use_layerwise": True, "extra_config": {"lookup_backoff_time": 0.1}}
    config = offload(scenario("valkey", "resp", lmcache=own)).config
    assert config["use_layerwise"] is True
    assert config["extra_config"] == {
        "save_chunk_meta": False,
        "resp_num_threads": 8,
        "lookup_backoff_time": 0.1,
    }


@pytest.mark.parametrize(
    ("store", "adapter"),
    [
        ("valkey", '"type": "resp", "host": "127.0.0.1", "port": 6666, "num_workers": 8'),
        ("files", '"type": "fs", "base_path": "/data/kv", "use_odirect": true'),
    ],
)
def test_the_server_has_an_l2_and_without_a_pool_only_a_buffer(store, adapter):
    found = offload(scenario(store, "mp"))
    words = " ".join(found.server)
    assert adapter in words
    assert "--l2-store-policy skip_l1" in words
    assert "--l1-size-gb 4 " in words
    assert found.transfer["kv_connector"] == "LMCacheMPConnector"
    assert found.transfer["kv_connector_extra_config"]["lmcache.mp.port"] == 5555


def test_a_load_that_fails_after_its_lookup_was_answered_is_computed():
    streamed = offload(scenario("valkey", "mp", lmcache={"l2_prefetch_stream_chunks": 4}))
    assert " ".join(streamed.server).endswith("--l2-prefetch-stream-chunks 4")
    assert streamed.transfer["kv_load_failure_policy"] == "recompute"
    assert "kv_load_failure_policy" not in offload(scenario("valkey", "mp")).transfer


def adapter_of(own: dict, held: Held = HELD) -> dict:
    server = lmcache.offload(own, 4 * GIB, held, [], 5555, 8080).server
    return json.loads(server[server.index("--l2-adapter") + 1])


def test_an_adapter_of_lmcaches_own_is_told_the_folder_the_connections_and_the_stores_own_keys():
    held = replace(HELD, settings={"use_odirect": "no", "read_ahead_size": 65536})
    assert adapter_of(scenario("fs_native", "mp"), held) == {
        "type": "fs_native",
        "base_path": "/data/kv",
        "num_workers": 8,
        "use_odirect": False,
        "read_ahead_size": 65536,
    }


def test_nixls_settings_are_its_plugins_and_their_backend():
    held = replace(HELD, settings={"backend": "GDS", "use_uring": "true"})
    assert adapter_of(scenario("nixl", "mp"), held) == {
        "type": "nixl_store_dynamic",
        "backend": "GDS",
        "backend_params": {
            "file_path": "/data/kv",
            "use_direct_io": "true",
            "max_capacity_gb": "3",
            "use_uring": "true",
        },
    }
    nixl = store_class("nixl")
    assert [nixl.bypasses_processes(settings) for settings in ({}, held.settings)] == [False, True]


@given(
    value_bytes=st.integers(1, 1 << 26), saved_bytes=st.integers(0, 1 << 36), connections=st.integers(1, 64)
)
def test_slots_hold_a_value_each_and_the_file_twice_what_is_saved(value_bytes, saved_bytes, connections):
    held = replace(HELD, value_bytes=value_bytes, saved_bytes=saved_bytes, connections=connections)
    told = adapter_of(scenario("raw_block", "mp"), held)
    path, size = store_class("raw_block").sized_file(held)
    assert (told["device_path"], told["num_load_workers"]) == (str(path), connections)
    assert told["slot_bytes"] % 4096 == 0
    assert told["slot_bytes"] >= value_bytes + 4096
    slots = (size - told["meta_total_bytes"]) // told["slot_bytes"]
    assert slots * value_bytes >= 2 * saved_bytes


def test_a_serde_is_the_adapters_whatever_the_store():
    held = replace(HELD, serde={"type": "fp8"})
    for own in (scenario("fs_native", "mp"), scenario("files", "mp")):
        assert adapter_of(own, held)["serde"] == {"type": "fp8"}
        assert "serde" not in adapter_of(own)


@pytest.mark.parametrize(
    ("store", "connector", "pool", "size_gib", "watermark"),
    [
        ("kvrocks", "direct_mp", 16 * GIB, 16, "0.750"),
        ("files", "mp", 8 * GIB, 8, "0.500"),
        ("kvrocks", "direct_mp", None, 4, None),
        ("dram", "mp", 12 * GIB, 12, None),
    ],
)
def test_a_pool_is_all_the_memory_and_one_before_a_store_keeps_what_loads_need_free(
    store, connector, pool, size_gib, watermark
):
    server = offload(scenario(store, connector, dram_pool_bytes=pool)).server
    options = dict(zip(server[::2], server[1::2], strict=False))
    assert (options["--l1-size-gb"], options.get("--eviction-trigger-watermark")) == (
        str(size_gib),
        watermark,
    )


def test_the_server_keeps_chunks_in_stripes():
    own = {"stripe_bytes": 1 << 20, "stripes_in_flight": 4, "save_connections": 1}
    own |= {"client": "native", "bound_bytes": 64 * GIB, "save": "second_use"}
    server = offload(scenario("kvrocks", "striped_mp", **own)).server
    adapter = json.loads(server[server.index("--l2-adapter") + 1])
    parameters = adapter.pop("adapter_params")
    assert adapter == {
        "type": "native_plugin",
        "module_path": "lmcache_striped.l2",
        "class_name": "StripedL2Client",
    }
    assert parameters.pop("library").endswith("/results/build/striped/striped.so")
    assert parameters == {
        "endpoints": "127.0.0.1:6666",
        "connections": 8,
        "save_queue_bytes": 2 * GIB,
        "stripe_bytes": 1 << 20,
        "stripes_in_flight": 4,
        "save_connections": 1,
        "bound_bytes": 64 * GIB,
        "save": "second_use",
    }


def test_the_server_is_told_of_the_device_that_a_store_is_held_to_be():
    shape = {"read_gbps": 1.5, "write_gbps": None, "latency_us": 80, "queue_depth": 32}
    server = offload(scenario("kvrocks", "striped_mp", shape=shape)).server
    told = json.loads(server[server.index("--l2-adapter") + 1])["adapter_params"]
    settings = settings_from({f"l2.{key}": value for key, value in told.items()}, "l2")
    assert settings.device == Device(**shape)


@pytest.mark.parametrize("connector", ["striped_mp", "striped"])
def test_a_gate_is_told_where_vllm_counts_and_where_its_curve_is(connector):
    own = scenario("kvrocks", connector, gate="ttft", chunk_tokens=256)
    told = lmcache.offload(
        fed(own, 8000, Path("/job"), {"ttft_ms": 500}), 4 * GIB, HELD, [ENDPOINT], 5555, 8080
    )
    if connector == "striped_mp":
        parameters = json.loads(told.server[told.server.index("--l2-adapter") + 1])["adapter_params"]
    else:
        prefix = "remote_storage_plugin.striped."
        parameters = {key.removeprefix(prefix): value for key, value in told.config["extra_config"].items()}
    wanted = {"gate": "ttft", "gate_chunk_tokens": 256, "gate_curve": "/job/gate_curve.json"}
    wanted |= {"gate_slo_s": 0.5}
    wanted["gate_metrics"] = "http://127.0.0.1:8000/metrics"
    assert wanted.items() <= parameters.items()
    off = offload(fed(scenario("kvrocks", connector, gate="off"), 8000, Path("/job"), {"ttft_ms": None}))
    assert off == offload(scenario("kvrocks", connector))


def test_the_server_of_a_dram_pool_has_no_l2_and_takes_options():
    own = {"l1_use_hugepages": False, "max_workers": 4, "enable_gc_monitor": True}
    words = " ".join(offload(scenario("dram", "mp", dram_pool_bytes=2 * GIB, lmcache=own)).server)
    assert "--l2-adapter" not in words
    assert words.endswith("--no-l1-use-hugepages --max-workers 4 --enable-gc-monitor")


def test_a_buffer_of_huge_pages_has_what_lmcache_asks_for_with_them():
    server = offload(
        scenario("dram", "mp", dram_pool_bytes=2 * GIB, lmcache={"l1_use_hugepages": True})
    ).server
    assert server[server.index("--shm-name") + 1] == ""
    assert server[-2:] == ["--no-l1-use-lazy", "--l1-use-hugepages"]


def test_vllms_own_offloading_to_memory_and_to_disk():
    memory = offload(scenario("dram", "offloading", dram_pool_bytes=GIB)).transfer[
        "kv_connector_extra_config"
    ]
    assert memory == {"cpu_bytes_to_use": GIB, "block_size": 256, "offload_prompt_only": False}
    disk = offload(scenario("files", "offloading", save_decode_cache=False)).transfer[
        "kv_connector_extra_config"
    ]
    assert disk["offload_prompt_only"] is True
    assert disk["secondary_tiers"] == [{"type": "fs", "root_dir": "/data/kv"}]
    assert disk["spec_name"] == "TieringOffloadingSpec"


def test_stripes_behind_vllms_own_pool_are_a_tier_of_the_plugin():
    own = scenario("kvrocks", "striped_tier", stripe_bytes=1 << 20, save_connections=1)
    found = offload(own)
    assert (found.config, found.server, found.transfer["kv_connector"]) == (None, None, "OffloadingConnector")
    extra = found.transfer["kv_connector_extra_config"]
    assert (extra["spec_name"], extra["cpu_bytes_to_use"]) == ("TieringOffloadingSpec", 4 * GIB)
    (tier,) = extra["secondary_tiers"]
    assert (tier.pop("type"), tier.pop("module_path")) == ("StripedTier", "lmcache_striped.tier")
    settings = settings_from({f"tier.{key}": value for key, value in tier.items()}, "tier")
    assert (settings.endpoints, settings.connections, settings.save_connections) == ((ENDPOINT,), 8, 1)
    assert settings.save_queue_bytes == 2 * GIB


def test_direct_names_the_servers_folders():
    own = scenario("kvrocks", "direct_mp", stripe_bytes=1 << 20, processes=2, read="direct")
    endpoints = [Endpoint("127.0.0.1", port, folder=Path(f"/data/{port}")) for port in (6666, 6667)]
    server = lmcache.offload(own, GIB, HELD, endpoints, 5555, 8080).server
    told = json.loads(server[server.index("--l2-adapter") + 1])["adapter_params"]
    settings = settings_from({f"l2.{key}": value for key, value in told.items()}, "l2")
    assert (settings.dirs, settings.read) == ((Path("/data/6666"), Path("/data/6667")), "direct")
    inside = lmcache.offload(own | {"connector": "direct"}, GIB, HELD, endpoints, 5555, 8080).config
    assert settings_from(inside["extra_config"], "remote_storage_plugin.striped").dirs == settings.dirs


def test_on_a_cpu_the_copy_between_vllms_cache_and_its_pool_is_ours():
    own = scenario("files", "offloading")
    told = lmcache.offload(own, GIB, HELD, [], 5555, 8080, device="cpu").transfer["kv_connector_extra_config"]
    assert told["spec_name"] == "TieringOnHost"
    assert told["spec_module_path"] == "workflow.hyperkv.connectors.host_offloading"
    assert told["secondary_tiers"] == [{"type": "fs", "root_dir": "/data/kv"}]


@pytest.mark.parametrize(
    ("own", "device", "words"),
    [
        (
            scenario("valkey", "inprocess"),
            "cuda",
            "cannot reach store valkey; choose mp or redis or resp or striped",
        ),
        (scenario("dram", "resp", dram_pool_bytes=GIB), "cuda", "cannot reach store dram"),
        (
            scenario("valkey", "striped_mp", lmcache={"enable_async_loading": True}),
            "cuda",
            "lmcache.enable_async_loading is a key of LMCache inside vLLM",
        ),
        (scenario("valkey", "striped", shape={"read_gbps": 1}), "cuda", "choose striped_mp or direct_mp"),
        (scenario("valkey", "resp", socket="unix"), "cuda", "choose tcp, or connector striped"),
        (scenario("files", "mp", serde="turboquant_k8v4"), "cpu", "TurboQuant's kernels need CUDA"),
        (scenario("dram", "mp", dram_pool_bytes=GIB, serde="fp8"), "cuda", "holds KV as it is"),
        (scenario("raw_block", "offloading"), "cuda", "cannot reach store raw_block; choose mp"),
        (scenario("valkey", "resp", chunk_tokens=100), "cuda", "chunk_tokens 100 is not a multiple"),
        (
            scenario("dram", "offloading", dram_pool_bytes=GIB, lmcache={"a": 1}),
            "cuda",
            "none of LMCache's keys",
        ),
        (scenario("dram", "inprocess", dram_pool_bytes=3 << 20), "cuda", "3 MiB hold 3 chunks of 1 MiB"),
    ],
)
def test_refused_with_the_reason_and_the_mend(own, device, words):
    with pytest.raises(UserError) as raised:
        refusals.check(own, device, 16, 1 << 20, 4 * GIB)
    assert words in str(raised.value)
    assert str(raised.value).startswith("scenario s: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("connector", ["resp", "striped"])
def test_lmcache_inside_vllm_is_refused_on_a_cpu_and_there_alone(connector):
    with pytest.raises(UserError, match=r"scenario s: .*choose connector mp, striped_mp or direct_mp"):
        refusals.require_served_on(scenario("valkey", connector), "cpu")
    refusals.require_served_on(scenario("valkey", connector), "cuda")
    refusals.require_served_on(scenario("valkey", "striped_mp"), "cpu")
    refusals.require_served_on({"name": "s", "tier": "none"}, "cpu")


def test_a_small_staging_buffer_is_named_by_its_own_key():
    with pytest.raises(UserError, match=r"vllm\.staging_bytes: 2 MiB hold 2 chunks"):
        refusals.check(scenario("valkey", "resp"), "cuda", 16, 1 << 20, 2 << 20)
