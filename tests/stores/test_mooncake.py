"""What Mooncake's programs and vLLM are told of a store, and what vLLM's and its counters make of a cell's hits."""

import json
from pathlib import Path

import pytest

from tests.engines.vllm.slices import scenario
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.engines.vllm import refusals
from workflow.hyperkv.engines.vllm.metrics import counters
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.registry import store_class

MOONCAKE = store_class("mooncake")
GIB = 1 << 30


def held(folder: Path, **own) -> Held:
    return Held(folder, buffer_bytes=GIB, ports=(7001, 7002, 7003, 7004), **own)


def options_of(program) -> dict[str, str]:
    return dict(word[2:].split("=", 1) for word in program.words[2:] if "=" in word)


def test_master_client_and_vllm_meet_at_one_address(tmp_path):
    own = held(tmp_path)
    MOONCAKE.prepare(own)
    variables = MOONCAKE.variables(own)
    told = json.loads(Path(variables["MOONCAKE_CONFIG_PATH"]).read_text())
    master, client = map(options_of, MOONCAKE.beside_engine(own))
    assert f"{master['rpc_address']}:{master['rpc_port']}" == "127.0.0.1:7001"
    assert told["master_server_address"] == client["master_server_address"] == "127.0.0.1:7001"
    assert told["metadata_server"] == client["metadata_server"]
    assert (client["global_segment_size"], told["global_segment_size"]) == ("1024 MB", 0)
    assert [program.port for program in MOONCAKE.beside_engine(own)] == [7002, 7004]
    assert (master["metrics_port"], client["http_port"]) == ("7002", "7004")


def test_without_a_pool_its_memory_keeps_nothing(tmp_path):
    buffer, pool = (
        options_of(MOONCAKE.beside_engine(held(tmp_path, is_pool=is_pool))[0]) for is_pool in (False, True)
    )
    assert buffer["eviction_high_watermark_ratio"] == "0.01"
    assert "eviction_high_watermark_ratio" not in pool


def test_settings_are_the_clients_variables_and_its_folder_is_ours(tmp_path):
    own = held(tmp_path, settings={"bucket_keys_limit": 16, "use_uring": "false"})
    client = MOONCAKE.beside_engine(own)[1].environment
    assert client["MOONCAKE_OFFLOAD_BUCKET_KEYS_LIMIT"] == "16"
    assert client["MOONCAKE_OFFLOAD_USE_URING"] == "false"
    assert client["MOONCAKE_OFFLOAD_FILE_STORAGE_PATH"] == str(tmp_path)
    with pytest.raises(UserError, match=r"settings\.fsdir is set by the workflow; set data_dir"):
        MOONCAKE.check_settings({"fsdir": "x"}, "settings")


def test_a_chunk_is_vllms_block():
    own = scenario("mooncake", "mooncake", chunk_tokens=64)
    refusals.check(own, "cpu", 64, 1 << 20, GIB)
    with pytest.raises(
        UserError, match="chunk_tokens: vLLM gives Mooncake its blocks of 32 tokens; choose 32"
    ):
        refusals.check(own, "cpu", 32, 1 << 20, GIB)


def test_loads_and_saves_are_told_apart_and_hits_of_files_are_the_masters():
    name = "vllm:mooncake_store_operation_bytes_total"
    engine = f'# TYPE {name} counter\n{name}{{operation="save_put",status="ok"}} 40\n{name}{{operation="load_get",status="ok"}} 30\n'
    master = "# TYPE file_cache_hit_bytes_total counter\nfile_cache_hit_bytes_total 20\n"
    found = counters(engine, master)
    assert (found["mooncake_loaded_bytes"], found["mooncake_saved_bytes"], found["mooncake_disk_bytes"]) == (
        30,
        40,
        20,
    )
