"""What is written of a scenario whose store is there already: nothing that starts it, and its address for the engine."""

from pathlib import Path

import yaml

from tests.recommend.scenarios import record_of, scenario
from tests.record_factory import measured
from tests.stores.placed.servers import place_of
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.config.models.engines import Vllm
from workflow.hyperkv.recommend.check_recommended import check
from workflow.hyperkv.recommend.engine_files import EngineSlice
from workflow.hyperkv.recommend.files import Place
from workflow.hyperkv.recommend.recommended_files import files_of


def test_a_store_that_is_there_has_no_script_and_the_engine_its_address(tmp_path):
    write_private(tmp_path / "kv", "a secret\n")
    there = place_of("kv-1:6379", "kv-2:6379", user="me")
    own = scenario("valkey", "striped", processes=2, place=there, password_file=str(tmp_path / "kv"))
    engine = EngineSlice(Vllm().model_dump(), {"vllm": {}, "lmcache": {}}, "python3")
    place = Place(tmp_path / "data", Path("/etc/hyperkv"), 6666, 8000, Path.cwd())
    files = files_of(record_of(measured(tmp_path, "none"), own), engine, place)
    assert set(files.texts) == {"lmcache.yaml", "vllm.sh"}
    assert files.servers == []
    keys = yaml.safe_load(files.texts["lmcache.yaml"])["extra_config"]
    told = {key.removeprefix("remote_storage_plugin.striped."): value for key, value in keys.items()}
    assert (told["endpoints"], told["user"]) == ("kv-1:6379,kv-2:6379", "me")
    assert told["password_file"] == str(tmp_path / "kv")
    assert "key_prefix" not in told
    assert files.notes[0].startswith(
        "store valkey is there already, at kv-1:6379 kv-2:6379: no file starts it"
    )
    assert "KV goes to kv-1:6379 in the clear" in files.notes[1]
    assert "a secret" not in "".join([*files.texts.values(), *files.notes])
    checks = check(
        {"servers": [], "files": files.about, "not_written": files.missing}, tmp_path, "no/such/python"
    )
    assert checks[0].detail == "the recommended scenario starts no server"


def test_lmcaches_own_client_is_recommended_without_a_prefix(tmp_path):
    own = scenario("valkey", "redis", place=place_of("kv-1:6379"))
    engine = EngineSlice(Vllm().model_dump(), {"vllm": {}, "lmcache": {}}, "python3")
    place = Place(tmp_path / "data", Path("/etc/hyperkv"), 6666, 8000, Path.cwd())
    files = files_of(record_of(measured(tmp_path, "none"), own), engine, place)
    assert yaml.safe_load(files.texts["lmcache.yaml"])["remote_url"] == "redis://kv-1:6379"
