"""Which Kvrocks a run takes, and what it leaves out without one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.configs import BASE
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.base.own_command import snakemake_command
from workflow.hyperkv.config.explain import validated
from workflow.hyperkv.config.kvrocks_source import (
    PROGRAM,
    RECORD,
    KvrocksSource,
    kvrocks_notes,
    resolve,
    runnable,
    runnable_scenarios,
)
from workflow.hyperkv.config.models.config import Config
from workflow.hyperkv.config.models.kvrocks import DEFAULTS

SECTION: dict[str, Any] = {
    "source": "auto", "binary": None, "patched_binary": None, "commit": None, "path": None
}  # fmt: skip
CONFIG = {
    "scenarios": {
        "dram": {"store": "dram", "family": "dram"},
        "none": {"tier": "none", "family": "none"},
        "kv-16": {"store": "kvrocks", "family": "kv"},
        "kv-32": {"store": "kvrocks", "family": "kv"},
        "patched-32": {"store": "kvrocks", "family": "patched", "patched": True},
    }
}
NONE = KvrocksSource("release", available=False)


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch) -> Path:
    """An empty working directory and an empty PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def read(section: dict[str, Any]) -> dict[str, Any]:
    """The section as a configuration has it, with what its source needs besides."""
    needed = {"git": {"commit": "b" * 40}, "path": {"path": "/src"}}.get(section["source"], {})
    needed = {key: value for key, value in needed.items() if section.get(key) is None}
    return validated(Config, BASE | {"kvrocks": section | needed}).model_dump()["kvrocks"]


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def built(source: str) -> None:
    program(PROGRAM)
    RECORD.write_text(json.dumps({"source": source}))


def test_auto_finds_nothing():
    assert resolve(SECTION) == NONE


def test_auto_takes_one_on_path(empty):
    found = program(empty / "bin" / "kvrocks")
    assert resolve(SECTION) == KvrocksSource("binary", True, str(found))


def test_auto_prefers_what_was_built_here(empty):
    program(empty / "bin" / "kvrocks")
    built("release")
    assert resolve(SECTION) == KvrocksSource("release", True)


@pytest.mark.parametrize(("source", "key", "value"), [("git", "commit", "a" * 40), ("path", "path", "/src")])
def test_what_was_built_counts_while_its_keys_are_there(source, key, value):
    built(source)
    assert resolve(SECTION) == NONE
    assert resolve({**SECTION, key: value}) == KvrocksSource(source, True)


def test_a_link_whose_program_is_gone_does_not_count(empty):
    PROGRAM.parent.mkdir(parents=True)
    PROGRAM.symlink_to(empty / "gone")
    RECORD.write_text(json.dumps({"source": "release"}))
    assert resolve(SECTION) == NONE


@pytest.mark.parametrize("source", ["release", "git", "path", "conda"])
def test_a_named_source_is_taken(source):
    assert resolve({**SECTION, "source": source}) == KvrocksSource(source, True)


def test_a_named_binary_must_be_there(empty):
    for name, shown in ((None, "kvrocks .on PATH."), ("/no/kvrocks", "/no/kvrocks")):
        with pytest.raises(UserError, match=f"kvrocks.binary: there is no program {shown}"):
            resolve({**SECTION, "source": "binary", "binary": name})
    found = str(program(empty / "mine"))
    assert resolve({**SECTION, "source": "binary", "binary": found}) == KvrocksSource("binary", True, found)


def test_without_kvrocks_its_scenarios_and_families_are_left_out_and_named():
    names = ["none", "dram", "kv", "kv-16"]
    assert runnable(CONFIG, names, NONE) == ["none", "dram"]
    [note] = kvrocks_notes(CONFIG, names, NONE)
    command = snakemake_command("build_kvrocks")
    assert note == f"kvrocks: not built here, so without kv, kv-16. Build it: {command}"


def test_with_kvrocks_nothing_is_left_out():
    there = KvrocksSource("conda", True)
    assert runnable(CONFIG, ["kv", "dram"], there) == ["kv", "dram"]
    assert kvrocks_notes(CONFIG, ["kv", "dram"], there) == []
    assert kvrocks_notes(CONFIG, ["dram"], NONE) == []


def test_a_run_of_kvrocks_alone_cannot_go_on_without():
    with pytest.raises(UserError, match=r"experiment\.scenarios: all need Kvrocks"):
        runnable_scenarios(CONFIG, ["kv-16", "kv-32"], NONE)
    assert runnable_scenarios(CONFIG, ["kv-16", "none"], NONE) == ["none"]
    assert runnable(CONFIG, ["kv-16"], NONE) == []


@pytest.mark.parametrize("source", ["binary", "conda"])
def test_a_program_that_is_not_compiled_here_is_not_patched(source):
    names = ["dram", "kv", "patched-32"]
    kvrocks = KvrocksSource(source, True, "/bin/kvrocks" if source == "binary" else None)
    assert runnable(CONFIG, names, kvrocks) == ["dram", "kv"]
    [note] = kvrocks_notes(CONFIG, names, kvrocks)
    assert note == (
        f"kvrocks: source {source} cannot be patched, so without patched-32. Sources release, git and path can, and source "
        f"binary takes a patched program from kvrocks.patched_binary"
    )
    assert kvrocks_notes(CONFIG, ["dram", "kv"], kvrocks) == []


@pytest.mark.parametrize("source", ["release", "git", "path"])
def test_a_source_that_is_compiled_is_patched(source):
    names = ["kv", "patched"]
    assert runnable(CONFIG, names, KvrocksSource(source, True)) == names
    assert runnable(CONFIG, names, NONE) == []


def test_both_programs_are_named(empty, monkeypatch):
    monkeypatch.setenv("HOME", str(empty))
    stock, patched = program(empty / "stock"), program(empty / "patched")
    section = {**SECTION, "source": "binary", "binary": "~/stock", "patched_binary": "~/patched"}
    found = resolve(section)
    assert found == KvrocksSource("binary", True, str(stock), str(patched))
    names = ["dram", "kv", "patched-32"]
    assert runnable(CONFIG, names, found) == names
    assert kvrocks_notes(CONFIG, names, found) == []
    patched.unlink()
    with pytest.raises(UserError, match=r"kvrocks\.patched_binary: there is no program ~/patched"):
        resolve(section)
    stock.chmod(0o644)
    with pytest.raises(UserError, match=r"kvrocks\.binary: ~/stock is not executable; chmod \+x it"):
        resolve(section)


def test_a_patched_program_alone(empty):
    patched = program(empty / "patched")
    found = resolve({**SECTION, "source": "binary", "patched_binary": str(patched)})
    assert found == KvrocksSource("binary", True, None, str(patched))
    names = ["dram", "kv", "patched-32"]
    assert runnable(CONFIG, names, found) == ["dram", "patched-32"]
    [note] = kvrocks_notes(CONFIG, names, found)
    assert (
        note == "kvrocks: there is a patched program alone, so without kv. kvrocks.binary names a stock one"
    )
    stock = program(empty / "bin" / "kvrocks")
    assert resolve({**SECTION, "source": "binary", "patched_binary": str(patched)}).binary == str(stock)


OTHER = {
    "url": "file:///mine.tar.gz",
    "sha256": "0" * 64,
    "git_url": "/a/clone",
    "commit": "a" * 40,
    "path": "/src",
    "binary": "/bin/true",
    "patched_binary": "/bin/true",
    "deps_dir": "/deps",
}
READ = {
    "release": {"url", "sha256", "deps_dir"},
    "git": {"git_url", "commit", "deps_dir"},
    "path": {"path", "deps_dir"},
    "conda": set(),
    "binary": {"binary", "patched_binary"},
}


@pytest.mark.parametrize("key", OTHER)
@pytest.mark.parametrize("source", [*READ, "auto"])
def test_a_key_that_the_source_does_not_read_is_refused_and_the_remedy_does(source, key, empty):
    program(empty / "bin" / "kvrocks")
    section = {"source": source, key: OTHER[key]}
    decided = "binary" if source == "auto" else source
    if key in READ[decided] - ({"binary", "patched_binary"} if source == "auto" else set()):
        assert resolve(read(section)).source == decided
        return
    with pytest.raises(UserError, match=rf"config: kvrocks\.{key}: ") as caught:
        resolve(read(section))
    message = str(caught.value)
    assert "\n" not in message
    for mend in message.partition("set kvrocks.source: ")[2].partition(",")[0].split(" or "):
        assert resolve(read({**section, "source": mend})).source == mend
    for same in (DEFAULTS[key], None):
        if source != "auto" or same == DEFAULTS[key]:
            assert resolve(read({"source": source, key: same})).source == decided


def test_defaults_are_never_refused(empty):
    program(empty / "bin" / "kvrocks")
    for source in (*READ, "auto"):
        resolve(read({**DEFAULTS, "source": source}))


def test_patches_that_nothing_uses_are_noted():
    chosen = {**CONFIG, "kvrocks": {"patches": ["large-transfers"]}}
    there = KvrocksSource("release", True)
    [note] = kvrocks_notes(chosen, ["dram", "kv"], there)
    assert "patches large-transfers were chosen, and no scenario of this run has `patched: true`" in note
    assert kvrocks_notes(chosen, ["dram", "patched"], there) == []
    assert kvrocks_notes({**CONFIG, "kvrocks": {"patches": DEFAULTS["patches"]}}, ["kv"], there) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_damaged_record_of_the_program_is_one_line(text):
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    PROGRAM.touch()
    RECORD.write_text(text)
    with pytest.raises(
        UserError, match=r"kvrocks\.json: it is damaged; delete results/build/kvrocks to have"
    ):
        resolve(SECTION)
