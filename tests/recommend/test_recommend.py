"""A recommendation's files: as a measurement's, ready to start, and found out when they are not as written."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.configs import one_line
from tests.helpers import command, write_as_a_stage
from tests.recommend.scenarios import record_of, scenario
from tests.record_factory import measured, varied
from tests.stores.conftest import KVROCKS_BIN
from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.base.secret import quoted as quoted_value
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.models.engines import Vllm
from workflow.hyperkv.config.plan import recommend_spec
from workflow.hyperkv.engines.vllm import lmcache
from workflow.hyperkv.recommend import check_recommended, choose_scenario
from workflow.hyperkv.recommend.check_recommended import check, command_words
from workflow.hyperkv.recommend.engine_files import EngineSlice
from workflow.hyperkv.recommend.files import Place
from workflow.hyperkv.recommend.recommended_files import files_of, measured_place
from workflow.hyperkv.recommend.store_files import password_read, password_written
from workflow.hyperkv.recommend.systemd_unit import quoted
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.kvrocks.config import complete, rendered
from workflow.hyperkv.tables.cells import cells_table
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.secret import Secret

FAKE_KVROCKS = Path(__file__).parents[1] / "stores" / "fake_kvrocks.py"
NO_ENGINE = "no/such/python"
SECRET = 'pa "ss\\ $HOME %s #1'
VLLM = Vllm().model_dump()
REPOSITORY_CONFIGS = ("config/scenarios.yaml", "config/config.yaml")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A measured record of scenario none."""
    return measured(tmp_path_factory.mktemp("none"), "none")


def place(folder: Path) -> Place:
    return Place(folder / "the data", Path("/etc/hyperkv"), 6666, 8000, Path.cwd())


def files_for(real: dict, own: dict, folder: Path):
    return files_of(
        record_of(real, own), EngineSlice(VLLM, {"vllm": {}, "lmcache": {}}, "python3"), place(folder)
    )


def config_with(**sections) -> dict:
    """The repository's configuration with other sections on top."""
    return merged(*(yaml.safe_load(Path(name).read_text()) for name in REPOSITORY_CONFIGS), sections)


def written(files, folder: Path) -> tuple[dict, Path]:
    """The files in a folder, and the part of a recommendation that a check reads."""
    folder.mkdir()
    choose_scenario.write_files(files, folder)
    return {"servers": files.servers, "files": files.about, "not_written": files.missing}, folder


ROCKSDB = {"rocksdb.write_buffer_size": 8, "rocksdb.write_options.disable_wal": "yes", "direct_io": "no"}


@pytest.mark.parametrize(
    "own",
    [
        scenario("valkey", capacity_bytes=64 << 20, settings={"io-threads": 2}),
        scenario("valkey", socket="unix"),
        scenario("rocksdb", settings=ROCKSDB),
        scenario("rocksdb", "striped", processes=2, settings=ROCKSDB),
    ],
    ids=lambda own: f"{own['name']}-{own.get('socket', 'tcp')}-{own.get('processes', 1)}",
)
def test_what_is_written_starts_keeps_a_value_and_ends_in_however_deep_a_folder(own, real, tmp_path):
    recommendation, folder = written(files_for(real, own, tmp_path), tmp_path / f"files{'-' * 100}")
    checks = check(recommendation, folder, NO_ENGINE)
    started = [item for item in checks if item.what.endswith(".sh") and item.what.startswith("store")]
    assert len(started) == own.get("processes", 1)
    assert {item.status for item in started} == {"checked"}
    assert not (tmp_path / "the data").exists()
    assert not list(folder.glob("hyperkv-check-*"))
    assert next(item.detail for item in checks if item.what == "vllm.sh").startswith(
        ("no engine", "there is no such")
    )


def test_a_data_dir_too_deep_for_the_stores_socket_is_noted_and_a_shorter_one_is_not(real):
    own = scenario("valkey", "striped", socket="unix")
    for letters, told in ((90, False), (91, True)):
        files = files_for(real, own, Path("/" + letters * "d"))
        found = [note for note in files.notes if "the kernel takes 107; set recommend.data_dir to a" in note]
        assert bool(found) is told, letters


def test_a_setting_that_the_server_runs_without_is_an_error(real, tmp_path):
    own = scenario("valkey", settings={"io-threads": 2})
    recommendation, folder = written(files_for(real, own, tmp_path), tmp_path / "files")
    recommendation["servers"][0]["settings"]["io-threads"] = "3"
    with pytest.raises(UserError, match=r"store.sh: .* io-threads is '2', not '3'"):
        check(recommendation, folder, NO_ENGINE)


def test_a_script_that_does_not_start_is_an_error_with_the_servers_words(real, tmp_path):
    own = scenario("valkey", settings={"io-threads": "many"})
    recommendation, folder = written(files_for(real, own, tmp_path), tmp_path / "files")
    with pytest.raises(StoreError, match=r"store.sh ended with status 1 at start"):
        check(recommendation, folder, NO_ENGINE)


def test_a_unit_that_systemd_refuses_is_an_error(real, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    path = tmp_path / "hyperkv-store.service"
    path.write_text("[Service]\nExecStart=/no/such/program\n")
    with pytest.raises(UserError, match="no/such/program"):
        check_recommended.check_unit(path)


@pytest.fixture
def kvrocks(tmp_path, monkeypatch):
    """Kvrocks's program is a script that runs fake_kvrocks.py."""
    program = tmp_path / "kvrocks"
    program.write_text(
        f'#!/bin/sh\n# oversize_threshold\nexec {shlex.join([sys.executable, str(FAKE_KVROCKS)])} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("workflow.hyperkv.stores.kvrocks.store.PROGRAM", program)
    return program


KVROCKS = {
    "settings": {"workers": "cores", "rocksdb.write_buffer_size": 256, "db-name": 'a "b'},
    "environment": {"MALLOC_CONF": "thp:always,background_thread:true"},
}


def test_kvrocks_gets_the_file_that_a_measurement_gives_it(real, tmp_path, kvrocks):
    own = scenario("kvrocks", **KVROCKS)
    files = files_for(real, own, tmp_path)
    as_measured = complete(
        own["settings"], directory=tmp_path / "the data", port=6666, value_bytes=real["chunk_bytes"]
    )
    assert files.texts["kvrocks.conf"] == rendered(as_measured)
    assert "\nMALLOC_CONF=thp:always,background_thread:true \\\nexec " in files.texts["store.sh"]
    assert (
        "Environment=MALLOC_CONF=thp:always,background_thread:true\n" in files.texts["hyperkv-store.service"]
    )
    assert f"ExecStart={kvrocks} -c /etc/hyperkv/kvrocks.conf\n" in files.texts["hyperkv-store.service"]


def test_a_kvrocks_that_others_can_reach_without_a_password_is_noted(real, tmp_path, kvrocks):
    opened = {"settings": {**KVROCKS.get("settings", {}), "bind": "0.0.0.0"}}
    files = files_for(real, scenario("kvrocks", **{**KVROCKS, **opened}), tmp_path)
    assert "bind 0.0.0.0\n" in files.texts["kvrocks.conf"]
    assert [note for note in files.notes if "listens on 0.0.0.0 without a password" in note]
    told = {**KVROCKS, **opened, "password_file": str(tmp_path / "word")}
    files = files_for(real, scenario("kvrocks", **told), tmp_path)
    assert not [note for note in files.notes if "listens on" in note]


def test_the_patched_kvrocks_is_the_one_that_was_measured(real, tmp_path, kvrocks, monkeypatch):
    patched = tmp_path / "patched" / "kvrocks"
    monkeypatch.setattr("workflow.hyperkv.stores.kvrocks.store.PATCHED_PROGRAM", patched)
    files = files_for(real, scenario("kvrocks", patched=True, **KVROCKS), tmp_path)
    assert f"ExecStart={patched} -c " in files.texts["hyperkv-store.service"]
    assert any("workflow/patches/kvrocks" in note for note in files.notes)


def test_kvrocks_is_started_from_its_files_in_a_scratch_folder(real, tmp_path, kvrocks):
    recommendation, folder = written(
        files_for(real, scenario("kvrocks", **KVROCKS), tmp_path), tmp_path / "files"
    )
    (checked_store, *_) = check(recommendation, folder, NO_ENGINE)
    assert checked_store.status == "checked"
    assert (folder / "kvrocks.conf").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (
            {"say": "<jemalloc>: Invalid conf pair: thp:sometimes"},
            r"MALLOC_CONF: .* Invalid conf pair: thp:sometimes",
        ),
        (
            {"unknown": ["rocksdb.write_buffer_size"]},
            r"rocksdb\.write_buffer_size is not a key of this Kvrocks",
        ),
    ],
)
def test_what_kvrocks_does_not_take_is_an_error(fake, message, real, tmp_path, kvrocks, monkeypatch):
    monkeypatch.setenv("FAKE_KVROCKS", json.dumps(fake))
    files = files_for(real, scenario("kvrocks", **KVROCKS), tmp_path)
    recommendation, folder = written(files, tmp_path / "files")
    with pytest.raises(UserError, match=message):
        check(recommendation, folder, NO_ENGINE)


def test_without_the_program_it_is_said_that_nothing_was_started(real, tmp_path, kvrocks):
    recommendation, folder = written(
        files_for(real, scenario("kvrocks", **KVROCKS), tmp_path), tmp_path / "files"
    )
    kvrocks.unlink()
    found = {item.what: (item.status, item.detail) for item in check(recommendation, folder, NO_ENGINE)}
    nothing = ("not checked", f"this machine has no program {kvrocks}")
    assert (found["store.sh"], found["hyperkv-store.service"]) == (nothing, nothing)


@pytest.mark.skipif(KVROCKS_BIN is None, reason="KVROCKS_BIN is not set")
@pytest.mark.parametrize("preset", ["shipped", "tuned", "reference"])
def test_a_real_kvrocks_starts_from_its_files(preset, real, tmp_path, monkeypatch):
    monkeypatch.setattr("workflow.hyperkv.stores.kvrocks.store.PROGRAM", Path(KVROCKS_BIN))
    config = checked(config_with())
    own = {**config["scenarios"][f"kvrocks_{preset}"], "name": "kv", "socket": "unix"}
    recommendation, folder = written(files_for(real, own, tmp_path), tmp_path / "files")
    (started, *_) = check(recommendation, folder, NO_ENGINE)
    assert started.status == "checked"
    assert not list(folder.glob("hyperkv-check-*"))


@pytest.mark.parametrize(
    ("store", "connector"),
    [("valkey", "resp"), ("rocksdb", "redis"), ("files", "inprocess"), ("dram", "inprocess")],
)
def test_lmcache_gets_the_file_that_a_measurement_gives_it(store, connector, real, tmp_path):
    own = scenario(store, connector, dram_pool_bytes=4 << 30 if store == "dram" else None)
    files = files_for(real, own, tmp_path)
    endpoints = [Endpoint("127.0.0.1", 6666)]
    as_measured = lmcache.inprocess_config(
        own | {"lmcache": {}}, 4 << 30, Held(tmp_path / "the data" / "kv"), endpoints
    )
    assert files.texts["lmcache.yaml"] == lmcache.rendered(as_measured)
    assert yaml.safe_load(files.texts["lmcache.yaml"]) == as_measured
    assert '\nLMCACHE_CONFIG_FILE="$here/lmcache.yaml" \\\n' in files.texts["vllm.sh"]
    assert not any("VLLM_SERVER_DEV_MODE" in line for line in files.texts["vllm.sh"].splitlines())


def test_a_recommended_gate_asks_the_vllm_that_is_started_and_says_that_it_learns(real, tmp_path):
    files = files_for(real, scenario("valkey", "striped_mp", stripe_bytes=1 << 20, gate="ttft"), tmp_path)
    words = shlex.split(files.texts["lmcache-server.sh"].splitlines()[-1].rstrip())
    keys = json.loads(words[words.index("--l2-adapter") + 1])["adapter_params"]
    port = re.search(r"--port (\d+)", files.texts["vllm.sh"])[1]
    assert (keys["gate"], keys["gate_metrics"]) == ("ttft", f"http://127.0.0.1:{port}/metrics")
    assert "gate_curve" not in keys
    assert any("the gate learns" in note for note in files.notes)


def test_what_a_store_of_the_engine_needs_beside_it_is_among_the_files(real, tmp_path):
    slots = files_for(real, scenario("raw_block", "mp"), tmp_path).texts["lmcache-server.sh"]
    assert "fallocate -l " in slots
    assert "/kv/slots.img" in slots
    chunk = VLLM["block_tokens"]
    texts = files_for(real, scenario("mooncake", "mooncake", chunk_tokens=chunk), tmp_path).texts
    assert "MOONCAKE_CONFIG_PATH=" in texts["vllm.sh"]
    assert "--rpc_port=8003" in texts["mooncake-master.sh"]
    assert "MOONCAKE_OFFLOAD_USE_URING=true" in texts["mooncake-client.sh"]


def test_as_many_gpus_are_recommended_as_were_measured_or_modelled(real, tmp_path):
    record = record_of(real, scenario("valkey", "striped", stripe_bytes=1 << 20))
    record["spec"]["replay"] = record["spec"]["replay"] | {"gpus": 2}
    own = EngineSlice(VLLM, {"vllm": {}, "lmcache": {}}, "python3")
    files = files_of(record, own, place(tmp_path))
    words = command_words(files.texts["vllm.sh"])
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert yaml.safe_load(files.texts["lmcache.yaml"])["max_local_cpu_size"] == 2
    assert files.servers[0]["value_bytes"] == record["chunk_bytes"] // 2
    assert "vllm.sh needs 2 GPUs, which share the model (--tensor-parallel-size)" in files.notes
    alone = files_of(record_of(real, record["spec"]["scenario"]), own, place(tmp_path))
    assert "--tensor-parallel-size 1 " in alone.texts["vllm.sh"]
    recommendation, folder = written(files, tmp_path / "files")
    assert check(recommendation, folder, NO_ENGINE)[0].status == "checked"


def test_several_engines_are_no_gpus_that_share_a_model(real, tmp_path):
    record = record_of(real, scenario("valkey", "striped", stripe_bytes=1 << 20, routing="request"))
    record["spec"] |= {"engines": 2}
    files = files_of(record, EngineSlice(VLLM, {"vllm": {}, "lmcache": {}}, "python3"), place(tmp_path))
    assert "--tensor-parallel-size 1 " in files.texts["vllm.sh"]
    assert files.servers[0]["value_bytes"] == record["chunk_bytes"]
    assert not any("share the model" in note for note in files.notes)
    assert any(
        note.startswith("2 engines were measured, each request to any of them") for note in files.notes
    )


def test_an_lmcache_server_is_started_beside_vllm(real, tmp_path):
    files = files_for(real, scenario("valkey", "mp"), tmp_path)
    words = command_words(files.texts["lmcache-server.sh"])
    options = dict(itertools.pairwise(words))
    assert (options["--port"], options["--http-port"]) == ("8001", "8002")
    assert json.loads(options["--l2-adapter"])["port"] == 6666
    transfer = command_words(files.texts["vllm.sh"])
    extra = json.loads(transfer[transfer.index("--kv-transfer-config") + 1])["kv_connector_extra_config"]
    assert extra["lmcache.mp.port"] == 8001
    assert "lmcache.yaml" not in files.texts
    recommendation, folder = written(files, tmp_path / "files")
    found = {item.what: item.status for item in check(recommendation, folder, NO_ENGINE)}
    assert (found["store.sh"], found["lmcache-server.sh"]) == ("checked", "not checked")


def test_an_lmcache_server_with_stripes_below_it_imports_the_plugin_that_a_note_installs(real, tmp_path):
    own = scenario("rocksdb", "striped_mp", processes=2, stripe_bytes=1 << 20, settings=ROCKSDB)
    files = files_for(real, own, tmp_path)
    assert "PYTHONPATH=" not in files.texts["lmcache-server.sh"]
    words = command_words(files.texts["lmcache-server.sh"])
    adapter = json.loads(words[words.index("--l2-adapter") + 1])
    assert adapter["class_name"] == "StripedL2Client"
    assert adapter["adapter_params"]["endpoints"] == "127.0.0.1:6666,127.0.0.1:6667"
    assert adapter["module_path"] == "lmcache_striped.l2"
    assert any(
        note.endswith(f" -m pip install {place(tmp_path).checkout / 'workflow/plugin'}")
        for note in files.notes
    )


def test_direct_names_the_folders_that_the_servers_scripts_make(real, tmp_path):
    own = scenario("rocksdb", "direct_mp", processes=2, stripe_bytes=1 << 20, settings=ROCKSDB)
    files = files_for(real, own, tmp_path)
    words = command_words(files.texts["lmcache-server.sh"])
    folders = json.loads(words[words.index("--l2-adapter") + 1])["adapter_params"]["dirs"].split(",")
    assert all(folder in files.texts[f"store-{number}.sh"] for number, folder in enumerate(folders))
    assert len({*folders}) == 2
    assert any("run it as the store's user" in note for note in files.notes)


def test_the_place_is_the_measured_disk_whether_or_not_this_machine_has_it(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/scratch")
    monkeypatch.delenv("JOB_DISK", raising=False)
    places = {
        "$TMPDIR/kv": "/scratch/kv",
        "/mnt/not-here/kv": "/mnt/not-here/kv",
        "$JOB_DISK/kv": "/var/lib/hyperkv",
    }
    for data_dir, folder in places.items():
        record = {"spec": {"data_dir": data_dir, "scenario": {}}}
        assert measured_place(record) == Path(folder) / "recommended"
    own = {"spec": {"data_dir": "/mnt/a", "scenario": {"data_dir": "/mnt/b"}}}
    assert measured_place(own) == Path("/mnt/b/recommended")


def test_recompute_needs_vllm_alone(real, tmp_path):
    files = files_of(real, EngineSlice(VLLM, {"vllm": {}, "lmcache": {}}, "python3"), place(tmp_path))
    assert (list(files.texts), files.servers, files.missing) == (["vllm.sh"], [], {})
    words = command_words(files.texts["vllm.sh"])
    assert words[:4] == ["$python", "-m", "vllm.entrypoints.openai.api_server", "--model"]
    assert "--load-format" not in words
    assert "--kv-transfer-config" not in words


def test_what_a_real_engine_does_not_know_is_said_and_the_store_is_written(real, tmp_path):
    files = files_for(real, scenario("valkey", "resp", socket="unix"), tmp_path)
    assert "LMCache's resp client has no unix sockets" in files.missing["vllm.sh, lmcache.yaml"]
    assert "store.sh" in files.texts


def test_striped_is_lmcaches_plugin_over_every_process(real, tmp_path):
    files = files_for(real, scenario("rocksdb", "striped", processes=2, stripe_bytes=8192), tmp_path)
    extra = yaml.safe_load(files.texts["lmcache.yaml"])["extra_config"]
    assert extra["remote_storage_plugin.striped.endpoints"] == "127.0.0.1:6666,127.0.0.1:6667"
    assert extra["remote_storage_plugin.striped.module_path"] == "lmcache_striped.remote"
    assert "PYTHONPATH=" not in files.texts["vllm.sh"]
    assert any("package lmcache-striped" in note for note in files.notes)
    without = files_for(real, scenario("valkey", "resp"), tmp_path)
    assert not any("package lmcache-striped" in note for note in without.notes)


def test_vllm_asks_for_a_model_and_passes_words_on(real, tmp_path):
    files = files_of(real, EngineSlice(VLLM, {"vllm": {}, "lmcache": {}}, "echo"), place(tmp_path))
    _, folder = written(files, tmp_path / "files")
    run = ["sh", str(folder / "vllm.sh"), "--more", "a b"]
    environment = {"PATH": "/usr/bin:/bin"}
    missing = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=10)
    assert missing.returncode != 0
    assert "set MODEL_DIR to the folder of llama-3.2-1b" in missing.stderr
    done = subprocess.run(
        run, env=environment | {"MODEL_DIR": "/m 1"}, capture_output=True, text=True, timeout=10
    )
    assert done.stdout.startswith("-m vllm.entrypoints.openai.api_server --model /m 1 --served-model-name")
    assert done.stdout.endswith("--more a b\n")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("a", "a"),
        ("", '""'),
        ("a b", '"a b"'),
        ("50%", "50%%"),
        ("$x", "$$x"),
        ('say "x\\y"', '"say \\"x\\\\y\\""'),
    ],
)
def test_words_of_units_are_quoted(word, text):
    assert quoted(word) == text


def run_stage(records: list[dict], folder: Path, **section) -> tuple[dict, str]:
    """The recommendation and the text that the stage writes of records."""
    files: dict[Path, list[dict]] = {}
    for record in records:
        files.setdefault(folder / "sweep" / record["scenario"] / f"{record['repeat']}.jsonl", []).append(
            record
        )
    for path, own in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_as_a_stage(path, own)
    cells_table(records).to_csv(folder / "cells.csv", index=False)
    own = {"data_dir": str(folder / "data"), **section}
    config = checked(config_with(recommend=own))
    arguments = ["--spec", recommend_spec(config), "--table", folder / "cells.csv"]
    arguments += ["--cells", *folder.glob("sweep/*/*.jsonl")]
    arguments += ["--out", folder / "r.json", "--readme", folder / "README.txt", "--files", folder / "files"]
    command(choose_scenario, *arguments)
    return json.loads((folder / "r.json").read_text()), (folder / "README.txt").read_text()


def faster(real: dict, name: str, store: str, rps: float, repeat: int, **keys) -> dict:
    return varied(record_of(real, scenario(store, name=name)), {"rps_per_gpu": rps}, repeat=repeat, **keys)


def test_the_stage_writes_files_numbers_and_a_text(real, tmp_path):
    records = [faster(real, "ram", "valkey", 10 + repeat, repeat) for repeat in (1, 2, 3)]
    records += [varied(real, {"rps_per_gpu": 4.0 + repeat}, repeat=repeat) for repeat in (1, 2, 3)]
    found, text = run_stage(records, tmp_path)
    assert found["chosen"]["scenario"] == "ram"
    assert [found["chosen"][f"value{end}"] for end in ("", "_low", "_high")] == [12, 11, 13]
    assert {Path(path).name for path in found["evidence"]["records"]} == {"1.jsonl", "2.jsonl", "3.jsonl"}
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == sorted(found["files"])
    assert found["machines"]
    again = shlex.split(found["evidence"]["command"])
    assert again[:3] == ["python", "-m", "workflow.hyperkv.sweep.measure_scenario"]
    assert "Keep KV in DRAM with scenario ram: 12.0 [11.0, 13.0] requests" in text
    assert "  sh files/store.sh\n" in text


def with_password(store: str, tmp_path: Path, **keys) -> dict:
    """A scenario whose password is in a file of its own."""
    write_private(tmp_path / "secret", SECRET)
    own = scenario(store, name="kv", password_file=str(tmp_path / "secret"))
    return own | keys


@pytest.mark.parametrize(
    ("store", "by"),
    [("kvrocks", by) for by in ("file", "KV_PASSWORD")]
    + [("valkey", by) for by in ("file", "here", "dir", "port", "password")],
)
def test_a_password_is_in_no_file_and_the_store_asks_for_it(store, by, real, tmp_path, monkeypatch, kvrocks):
    own = with_password(store, tmp_path, connector="resp")
    if by != "file":  # the name of a variable, which the script may have, too
        monkeypatch.setenv(by, SECRET)
        own = own | {"password_file": None, "password_env": by}
    records = [varied(record_of(real, own), {"rps_per_gpu": 9.0})]
    found, text = run_stage(records, tmp_path)
    assert found["chosen"]["scenario"] == "kv"
    assert SECRET not in json.dumps(found) + text
    files = tmp_path / "files"
    assert not [path.name for path in files.iterdir() if SECRET in path.read_text()]
    (server,) = found["servers"]
    checked_server = check_recommended.check_server(server, files)
    assert checked_server.status == check_recommended.CHECKED
    assert f"ExecStart=/bin/sh /etc/hyperkv/{server['script']}" in (files / server["unit"]).read_text()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\r"])
def test_the_script_reads_the_password_as_the_run_does(tmp_path, ending):
    path = tmp_path / "a b"
    write_private(path, "one 'two\\\\" + ending)
    lines = [*password_read(Secret(path)), *password_written("", "store.conf")]
    subprocess.run(["sh", "-euc", "\n".join([f"dir={tmp_path}", *lines])], check=True)
    assert (
        tmp_path / "store.conf"
    ).read_bytes() == f"requirepass {quoted_value(Secret(path).value())}\n".encode()


@pytest.mark.parametrize("given", [{}, {"HYPERKV_SECRET": ""}])
def test_without_the_password_the_script_ends_before_the_server(tmp_path, given):
    lines = [*password_read(Secret(variable="HYPERKV_SECRET")), *password_written("", "store.conf")]
    script = "\n".join([f"dir={tmp_path}", *lines, "echo started"])
    environment = {"PATH": os.environ["PATH"], **given}
    done = subprocess.run(
        ["sh", "-euc", script], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "$HYPERKV_SECRET has no password; nothing was started\n"
    assert not (tmp_path / "store.conf").exists()


def test_without_the_file_the_recommended_store_does_not_start(real, tmp_path, kvrocks):
    records = [varied(record_of(real, with_password("kvrocks", tmp_path)), {"rps_per_gpu": 9.0})]
    found, _ = run_stage(records, tmp_path)
    (tmp_path / "secret").unlink()
    with pytest.raises(UserError, match=r"password_file: .*write the password there"):
        check_recommended.check_server(found["servers"][0], tmp_path / "files")


def test_the_stage_says_when_nothing_proved_itself(real, tmp_path):
    records = [varied(real, reasons=("3 requests failed",), repeat=repeat) for repeat in (1, 2)]
    found, text = run_stage(records, tmp_path)
    assert (found["chosen"], found["files"], found["servers"]) == (None, {}, [])
    assert "2 of 2 repeats invalid: 3 requests failed" in text
    assert list((tmp_path / "files").iterdir()) == []


def test_records_that_are_not_given_are_named(real, tmp_path):
    none = {"objective": None, "load": None, "tps_per_user_min": None}
    best = choose_scenario.ranked(cells_table([real]), choose_scenario.Objective.of(none, {})).chosen
    with pytest.raises(UserError, match="no record of none at load 2"):
        choose_scenario.evidence_of(best, [tmp_path / "other" / "1.jsonl"])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"objective": "goodput"}, "goodput counts answers that keep experiment.slo"),
        ({"objective": "speed"}, "allowed are goodput, rps_per_gpu, ttft"),
        ({"load": 3}, "no scenario is measured at load 3; choose one of 1, 2, 4, or null"),
        ({"tps_per_user_min": 9}, "is not a key any more; cost.slo.tps_per_user says it"),
        (
            {"load": 0},
            "recommend.load: 0 is wrong; it must be a number, more than 0, at most 1000000, or null",
        ),
        ({"install_dir": "etc"}, "text like"),
        ({"objektive": "ttft"}, "recommend.objektive is not a key; did you mean objective?"),
    ],
)
def test_mistakes_in_the_section_are_one_line(section, message):
    assert message in one_line(config_with(recommend=section))
