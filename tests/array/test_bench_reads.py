"""Connector direct beside bare reads and fio: every reader reads the store's own files past the page cache, or what is missing is told."""

import shlex

import pytest

from tests.array.machines import recorded
from workflow.hyperkv.array import bench_reads
from workflow.hyperkv.array.bench_reads import Read, by_direct, filled, main, table
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.machine.counters import supports_direct_io
from workflow.hyperkv.profile.bench_saves import config_of
from workflow.hyperkv.stores.registry import make_store

MIB = 1 << 20
SMALL = {"chunk_bytes": MIB, "stripe_bytes": 200_000, "together": 2, "count": 6, "reads": (3,), "rounds": 2}


@pytest.fixture(autouse=True)
def _disk(tmp_path, request):
    if "tmp_path" in request.fixturenames and not supports_direct_io(tmp_path):
        pytest.skip("the temporary folder's file system has no O_DIRECT")


def a_fio(folder, monkeypatch, script: str) -> None:
    folder.mkdir()
    (folder / "fio").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "fio").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_every_reader_is_measured_on_the_same_files(tmp_path, monkeypatch, capsys):
    (tmp_path / "said.json").write_text(recorded("fio-read.json"))
    a_fio(
        tmp_path / "bin",
        monkeypatch,
        f'echo "$@" >> {tmp_path}/calls; ls {tmp_path}/data/*/*/*.blob; cat {tmp_path}/said.json',
    )
    main(data_dir=tmp_path / "data", **SMALL)
    said = capsys.readouterr().out
    assert said.startswith("3 reads under way, 0.00585938 GiB of rocksdb in stripes of 195 KiB, client ")
    rows = {
        line[:16].strip(): [float(figure) for figure in line[16:].split()] for line in said.splitlines()[3:6]
    }
    assert list(rows) == ["connector direct", "bare reads", "fio"]
    assert all(figure > 0 for row in rows.values() for figure in row)
    assert rows["connector direct"][2] == 1
    calls = [shlex.split(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert len(calls) == 2
    options = dict(word.lstrip("-").partition("=")[::2] for word in calls[0])
    assert "readonly" in options
    wanted = {"rw": "read", "bs": "200000", "iodepth": "3", "direct": "1"}
    assert {key: options[key] for key in wanted} == wanted
    assert all(name.endswith(".blob") for name in options["filename"].split(":"))
    assert list((tmp_path / "data").iterdir()) == []


def test_without_fio_bare_reads_are_the_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_reads.shutil, "which", lambda program: None)
    main(data_dir=tmp_path, **SMALL | {"rounds": 1})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[3:5]] == ["connector direct", "bare reads"]
    assert lines[5] == "fio: not installed (Debian: fio)"


def test_a_fio_that_fails_is_one_line(tmp_path, monkeypatch):
    a_fio(tmp_path / "bin", monkeypatch, "echo 'fio: cannot open' >&2; exit 1")
    with pytest.raises(UserError, match="fio printed no result: fio: cannot open"):
        main(data_dir=tmp_path / "data", **SMALL)


def test_what_does_not_come_from_files_is_not_measured(tmp_path):
    config = config_of("rocksdb", tmp_path, MIB, None)
    with make_store("rocksdb", config) as store:
        there = filled(store, MIB, 2, 200_000)
        for path in there.files:
            path.write_bytes(bytes(path.stat().st_size))
        with by_direct(there, 1, 2) as read, pytest.raises(UserError, match="did not get back"):
            read()


def test_ratios_are_of_readers_of_the_same_round():
    found = {
        "connector direct": [Read(1.0, 0.1), Read(4.0, 0.1), Read(2.0, 0.1)],
        "fio": [Read(2.0, 0.1), Read(4.0, 0.1), Read(6.0, 0.1)],
    }
    rows = [line.split() for line in table(found).splitlines()[2:]]
    assert [row[-1] for row in rows] == ["1", "0.5"]


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("files", "--store: files has no server"),
        ("valkey", r"store valkey does not say where values lie \(unknown command .*\)"),
    ],
)
def test_a_store_that_names_no_files_is_refused(tmp_path, store, why):
    with pytest.raises(UserError, match=f"{why}; choose rocksdb, or kvrocks with patch locate-values"):
        main(store=store, data_dir=tmp_path, **SMALL)


def test_a_file_system_without_o_direct_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_reads, "supports_direct_io", lambda folder: False)
    with pytest.raises(
        UserError, match=r"--data-dir: the file system of .* has no O_DIRECT; choose a local disk"
    ):
        main(data_dir=tmp_path)
