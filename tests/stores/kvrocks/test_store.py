"""Store kvrocks without a Kvrocks: its configuration file, what it holds against the server, and its refusals.

With KVROCKS_BIN the presets are tried on the real one, and it takes part in test_conformance and test_faults.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import eventually, refused
from tests.stores.conftest import CONNECTIONS, MIB, buffers_for, new_keys, offered, store_config, values_of
from tests.stores.servers import parsed
from workflow.hyperkv.base.errors import StoreDied, StoreError, UserError
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.connectors.redis import RedisConnector
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.connectors.resp import RespConnector
from workflow.hyperkv.machine.machine_code import Needs
from workflow.hyperkv.stores.applied import number
from workflow.hyperkv.stores.kvrocks.config import complete, rendered
from workflow.hyperkv.stores.kvrocks.store import KvrocksStore
from workflow.plugin.lmcache_striped.base import Connector
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.secret import Secret

PRESETS = sorted(Path("config/kvrocks").glob("*.yaml"))
KEYS = set(Path("tests/data/kvrocks-2.10-keys.txt").read_text().split())
FAKE = Path(__file__).parents[1] / "fake_kvrocks.py"


def preset(name: str) -> dict:
    return yaml.safe_load(Path(f"config/kvrocks/{name}.yaml").read_text())


def completed(settings: dict, value_bytes: int = MIB) -> dict[str, str]:
    return complete(settings, directory=Path("/data"), port=6666, value_bytes=value_bytes)


# The configuration file


def test_without_settings_only_what_the_workflow_needs():
    assert rendered(completed({})) == ("dir /data\nport 6666\nlog-dir stdout\ndaemonize no\nbind 127.0.0.1\n")
    text = rendered(completed({"rocksdb.write_buffer_size": 256, "workers": "cores"}))
    assert f"rocksdb.write_buffer_size 256\nworkers {len(os.sched_getaffinity(0))}\n" in text


@pytest.mark.parametrize(
    ("value_bytes", "found"),
    [(512 * MIB, None), (512 * MIB + 1, str(513 * MIB)), (600 * MIB, str(600 * MIB))],
)
def test_bulk_length_follows_the_largest_value_unless_it_is_given(value_bytes, found):
    assert completed({}, value_bytes).get("proto-max-bulk-len") == found
    assert completed({"proto-max-bulk-len": "1g"}, value_bytes)["proto-max-bulk-len"] == "1g"
    with refused("proto-max-bulk-len: 512k is below the value's size"):
        completed({"proto-max-bulk-len": "512k"}, value_bytes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rocksdb.write_buffer_size": "= 268435456"}, "Kvrocks reads `key value`, without ="),
        ({"rocksdb.write_buffer_size": ""}, "settings.rocksdb.write_buffer_size: '' is wrong"),
        ({"rocksdb.write_buffer_size = 5": "1"}, "is not a key"),
        ({"": "1"}, "is not a key"),
        ({"db-name": "a\nb"}, "has a line break"),
        ({"dir": "/elsewhere"}, "settings.dir is set by the workflow"),
    ],
)
def test_settings_that_are_refused(settings, words):
    with refused(words):
        KvrocksStore.check_settings(settings, "settings")


@pytest.mark.parametrize(
    ("settings", "exposed"),
    [
        ({}, False),
        ({"bind": "127.0.0.1 localhost"}, False),
        ({"bind": "0.0.0.0"}, True),
        ({"bind": "127.0.0.1 10.0.0.1"}, True),
        ({"bind": "127.0.0.1 ::1"}, False),
        ({"bind": "127.0.0.1 127.0.0.2 ::ffff:127.0.0.1"}, False),
        ({"bind": "127.0.0.1 ::"}, True),
        ({"BIND": "localhost kv.example.org"}, True),
    ],
)
def test_an_open_server_without_a_password_is_warned_of(settings, exposed):
    found = KvrocksStore.exposure(settings, password=False)
    assert (found is not None) == exposed
    assert "password_file" in (found or "password_file")
    assert KvrocksStore.exposure(settings, password=True) is None


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter(lambda t: t[0] != "="))
def test_every_value_is_read_back_as_it_was(value):
    [line] = rendered({"db-name": value}).splitlines()
    assert parsed(line) == ("db-name", value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("2k", 2048), ("3M", 3 << 20), ("1g", 1 << 30), ("-1", -1), ("yes", None), ("k", None)],
)
def test_numbers_with_units(text, size):
    assert number(text) == size


# Against what the server says


def test_differences_names_every_fault():
    wanted = {"workers": "8", "rocksdb.compression": "lz4", "no-such-key": "1", "old-key": "1", "size": "2m"}
    applied = {"workers": "8", "rocksdb.compression": "no", "size": str(2 << 20), "other": "x"}
    faults, ignored = KvrocksStore.unlike(wanted, applied, ["old-key", "workers"])
    assert faults == ["rocksdb.compression is 'no', not 'lz4'", "no-such-key is not a key of this Kvrocks"]
    assert ignored == ["old-key"]
    assert KvrocksStore.unlike({"a": "1"}, {"a": "2"}, ["a"]) == (["a is '2', not '1'"], [])


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_have_only_keys_of_the_pinned_version(path):
    found = preset(path.stem)
    unknown = {key for key in found["settings"] if key not in KEYS}
    assert unknown == set(found.get("ignored_settings", []))
    KvrocksStore.check_settings(found["settings"], "settings")


@pytest.fixture
def fake(tmp_path) -> Path:
    """A program that runs fake_kvrocks.py; it holds the words by which jemalloc is recognised."""
    program = tmp_path / "kvrocks"
    program.write_text(f'#!/bin/sh\n# oversize_threshold\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    program.chmod(0o755)
    return program


def fake_store(folder: Path, program: Path, script: dict | None = None, **changes) -> KvrocksStore:
    environment = {"FAKE_KVROCKS": json.dumps(script or {})} | changes.pop("environment", {})
    config = store_config(folder, "kvrocks", program=program, environment=environment, **changes)
    return KvrocksStore(config)


def test_a_good_start_notes_the_version(fake, folder):
    with fake_store(folder, fake, settings={"workers": 3}) as store:
        assert store.notes() == ["Kvrocks 2.10.0 (abc1234)"]
        text = (store.config.directory / "kvrocks.conf").read_text()
        assert "workers 3\n" in text
        assert f"dir {store.config.directory.resolve()}\n" in text


def test_a_patched_program_is_told_from_its_record(fake, folder):
    with pytest.raises(UserError, match="has no record of patches beside it"):
        fake_store(folder, fake, patched=True).start()
    patches = [{"name": name, "sha256": "0"} for name in ("large-transfers", "fewer-copies")]
    fake.with_suffix(".json").write_text(json.dumps({"patches": patches}))
    with fake_store(folder, fake, patched=True) as store:
        assert store.notes() == ["Kvrocks 2.10.0 (abc1234) with large-transfers, fewer-copies"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({"unknown": ["workers"]}, "workers is not a key of this Kvrocks"),
        ({"applied": {"workers": "8"}}, "workers is '8', not '3'"),
        ({"unknown": ["tcp-backlog"], "applied": {"workers": "8"}}, "workers is '8', not '3'; tcp-backlog"),
    ],
)
def test_a_setting_that_is_not_taken_over_fails_and_leaves_nothing(script, words, fake, folder):
    store = fake_store(folder, fake, script, settings={"workers": 3, "tcp-backlog": 5})
    with refused(words, StoreError), store:
        pass
    with pytest.raises(StoreDied):
        store.check_alive()


def test_what_may_be_ignored_is_noted(fake, folder):
    script = {"unknown": ["old-key", "older-key"]}
    settings = {"old-key": "1", "older-key": 2, "workers": 3}
    with fake_store(
        folder, fake, script, settings=settings, ignored_settings=("old-key", "older-key", "workers")
    ) as store:
        assert store.notes() == ["Kvrocks 2.10.0 (abc1234)", "ignored by Kvrocks: old-key, older-key"]


def test_a_refused_line_is_shown(fake, folder):
    script = {"die": "Failed to load config. Error: at line #L5: failed to set value of field 'workers'"}
    with pytest.raises(StoreError, match="the line is 'workers many'") as caught:
        fake_store(folder, fake, script, settings={"workers": "many"}).__enter__()
    assert "ended with status 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_allocator_that_refuses_its_options_fails(fake, folder):
    script = {"say": "<jemalloc>: Invalid conf pair: no_such_option:1"}
    with pytest.raises(
        StoreError, match=r"environment\.MALLOC_CONF: <jemalloc>: Invalid conf pair: no_such_option"
    ):
        fake_store(folder, fake, script, environment={"MALLOC_CONF": "no_such_option:1"}).__enter__()


def test_malloc_conf_needs_jemalloc(fake, folder):
    fake.write_text(fake.read_text().replace("# oversize_threshold\n", ""))
    with fake_store(folder, fake):
        pass
    with pytest.raises(UserError, match="is not linked with jemalloc"):
        fake_store(folder, fake, environment={"MALLOC_CONF": "thp:always"}).__enter__()


def test_an_open_server_is_said_on_stderr_and_in_the_notes(fake, folder, capsys):
    # The fake listens on loopback whatever `bind` says.
    with fake_store(folder, fake, settings={"bind": "0.0.0.0"}) as store:
        assert "anybody who reaches it can read and delete" in capsys.readouterr().err
        assert any("without a password" in note for note in store.notes())


def test_a_missing_program_says_how_to_get_one(tmp_path, folder):
    with refused(r"no program .*`[^`]*kvrocks[^`]*` builds it"):
        fake_store(folder, tmp_path / "nothing").__enter__()


def test_a_program_for_another_machine_is_refused_before_it_starts(fake, folder, monkeypatch):
    needs = Needs("x86_64", None, {"GLIBC": "2.999"})
    monkeypatch.setattr("workflow.hyperkv.stores.kvrocks.store.needs_of", lambda program: needs)
    monkeypatch.setattr("workflow.hyperkv.machine.machine_code.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("workflow.hyperkv.machine.machine_code.glibc_version", lambda: "2.36")
    with refused(r"needs glibc 2\.999, this machine has 2\.36: build it here"):
        fake_store(folder, fake).__enter__()
    assert not (folder / "kvrocks.log").exists()


@pytest.mark.parametrize("record", [{"instructions": ["avx9999"]}, {"built": {"instructions": ["avx9999"]}}])
def test_a_program_for_another_cpu_is_refused_before_it_starts(record, fake, folder):
    fake.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"may use avx9999, which this CPU lacks; .*kvrocks\.march"):
        fake_store(folder, fake).__enter__()


def test_an_illegal_instruction_is_translated(fake, folder):
    fake.write_text("#!/bin/sh\nkill -ILL $$\n")
    with refused(r"SIGILL: this CPU lacks an instruction.*kvrocks\.march", StoreError):
        fake_store(folder, fake).__enter__()


# The real one


@pytest.mark.parametrize(("store", "name"), [offered("kvrocks", path.stem) for path in PRESETS])
def test_every_preset_starts_and_serves(store, name, folder):
    found = preset(name)
    config = store_config(
        folder,
        store,
        settings=found["settings"],
        environment=found.get("environment", {}),
        ignored_settings=tuple(found.get("ignored_settings", [])),
    )
    keys = new_keys(8)
    with KvrocksStore(config) as store:
        noted = [note for note in store.notes() if note.startswith("ignored by Kvrocks")]
        assert len(noted) == ("ignored_settings" in found)
        assert all(key in noted[0] for key in found.get("ignored_settings", []))
        with make_connector("resp", store, CONNECTIONS, timeout_s=10) as connector:
            connector.put(keys, values_of(keys, MIB))
            assert connector.get(keys, buffers_for(keys, MIB)) == [True] * 8
        details = store.counters().details
        assert details["memtable_bytes"] >= 8 * MIB
        assert details["memtables_to_flush"] == 0
        store.restart()  # SIGTERM writes the memtables out, with and without a write-ahead log
        with make_connector("resp", store, CONNECTIONS, timeout_s=10) as connector:
            assert connector.get(keys, buffers_for(keys, MIB)) == [True] * 8
        ended = store.final_counters()
        assert ended is not None
        assert ended.device_write_bytes >= 8 * MIB


REAL_PAIRS = [offered("kvrocks", kind) for kind in ("resp", "redis")]


@pytest.mark.parametrize(("name", "kind"), REAL_PAIRS)
def test_password(name, kind, folder):
    folder.mkdir()
    secret = folder / "password"
    write_private(secret, 'pass "word" #1\n')
    config = store_config(folder, name, password=Secret(secret))
    keys = new_keys(1)
    with KvrocksStore(config) as store:
        with make_connector(kind, store, 1, timeout_s=10) as connector:
            connector.put(keys, values_of(keys, 100))
            assert connector.get(keys, buffers_for(keys, 100)) == [True]
        assert store.counters().hits >= 1
        with (
            stranger(kind, store.endpoint.port) as connector,
            pytest.raises(StoreError, match=r"NOAUTH|Authentication required"),
        ):
            connector.get(keys, buffers_for(keys, 100))


def stranger(kind: str, port: int) -> Connector:
    """A connector that knows no password."""
    return {"resp": RespConnector, "redis": RedisConnector}[kind](Endpoint("127.0.0.1", port), 1, 10)


@pytest.mark.parametrize(("name", "kind"), REAL_PAIRS)
def test_evicted_files_are_read_from_the_device(name, kind, folder):
    settings = preset("tuned")["settings"] | {"rocksdb.write_buffer_size": 2}
    keys, read = new_keys(32), []
    with KvrocksStore(store_config(folder, name, settings=settings)) as store:
        with make_connector(kind, store, 1, timeout_s=10) as connector:
            connector.put(keys, values_of(keys, MIB))
        store.restart()
        with make_connector(kind, store, 1, timeout_s=10) as connector:
            for evict in (False, True, True):
                if evict:
                    store.evict_page_cache()
                before = store.counters()
                assert connector.get(keys, buffers_for(keys, MIB)) == [True] * 32
                read.append(store.counters().minus(before)["device_read_bytes"])
    assert read[0] < 16 * MIB
    assert min(read[1:]) >= 32 * MIB


@pytest.mark.parametrize("name", [offered("kvrocks")])
def test_what_is_pushed_out_of_the_write_buffers_is_read_from_the_device(name, folder):
    settings = preset("tuned")["settings"] | {"rocksdb.write_buffer_size": 8}
    keys, read = new_keys(4), []
    with (
        KvrocksStore(store_config(folder, name, settings=settings)) as store,
        make_connector("resp", store, 1, timeout_s=10) as connector,
    ):
        values = values_of(keys, MIB)
        connector.put(keys, values)
        for push_out in (False, True):
            if push_out:
                store.push_out_writes()
                assert eventually(lambda: not store.counters().details["memtables_to_flush"])
            store.evict_page_cache()
            before, buffers = store.counters(), buffers_for(keys, MIB)
            assert connector.get(keys, buffers) == [True] * 4
            assert all((got == value).all() for got, value in zip(buffers, values, strict=True))
            read.append(store.counters().minus(before)["device_read_bytes"])
    assert read[0] < MIB
    assert read[1] >= 4 * MIB


@pytest.mark.parametrize("name", [offered("kvrocks")])
def test_preset_tuned_compacts_nothing_since_a_compaction_reads_every_value(name, folder):
    settings = preset("tuned")["settings"] | {"rocksdb.write_buffer_size": 2}
    keys = new_keys(32)
    with KvrocksStore(store_config(folder, name, settings=settings)) as store:
        with make_connector("resp", store, 1, timeout_s=10) as connector:
            connector.put(keys, values_of(keys, MIB))
        saved = store.counters()
        assert saved.details["flushes"] > 4  # as many L0 files as begin a compaction otherwise
        assert saved.details["compactions"] == 0
        store.restart()
        store.evict_page_cache()
        before = store.counters()
        with store.client(30) as client:
            client.execute_command("COMPACT")

        def read() -> int:
            return store.counters().minus(before)["device_read_bytes"]

        assert eventually(lambda: read() >= 32 * MIB)


@pytest.mark.parametrize("name", [offered("kvrocks")])
def test_a_crash_is_noticed_at_once(name, folder):
    keys = new_keys(1)
    with KvrocksStore(store_config(folder, name)) as store:
        with make_connector("resp", store, 1, timeout_s=10) as connector:
            connector.put(keys, values_of(keys, 100))
            store.kill()
            with pytest.raises(StoreError) as caught:
                connector.get(keys, buffers_for(keys, 100))
            with pytest.raises(StoreDied, match=r"signal 9 \(SIGKILL\)"):
                raise store.explain(caught.value)
            assert "timed out" not in str(caught.value)


def test_the_fake_with_a_password_lets_the_workflow_in_and_its_file_goes(folder, fake, tmp_path):
    write_private(tmp_path / "secret", 'pa "ss #1')
    with fake_store(folder, fake, password=Secret(tmp_path / "secret")) as store:
        assert store.client().config_get("requirepass")["requirepass"] == 'pa "ss #1'
        assert not list(folder.rglob("kvrocks.conf"))


def test_a_password_that_the_server_has_otherwise_is_not_told(folder, fake, tmp_path):
    script = {"applied": {"requirepass": "other-word"}}
    write_private(tmp_path / "secret", "secret-word")
    with (
        pytest.raises(StoreError, match="requirepass is another") as caught,
        fake_store(folder, fake, script, password=Secret(tmp_path / "secret")),
    ):
        pass
    assert "-word" not in str(caught.value)
