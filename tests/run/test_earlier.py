"""Earlier measurements outlive what removes them."""

import errno
from pathlib import Path

import pytest

from tests.helpers import write_as_a_stage
from workflow.hyperkv.run import earlier

RECORDS = Path("results/sweep/none/1.jsonl")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RECORDS.parent.mkdir(parents=True)
    write_as_a_stage(RECORDS, [{"load": 1}])


def test_what_was_removed_comes_back_as_it_was():
    before, time = RECORDS.read_bytes(), RECORDS.stat().st_mtime_ns
    earlier.keep([RECORDS, Path("results/sweep/none/2.jsonl")])
    RECORDS.unlink()
    earlier.restore()
    assert (RECORDS.read_bytes(), RECORDS.stat().st_mtime_ns) == (before, time)
    RECORDS.unlink()
    assert earlier.restore() == []
    assert not RECORDS.exists()


def test_a_copy_of_what_is_there_does_not_come_back_when_somebody_deletes_it():
    earlier.keep([RECORDS])
    assert earlier.restore() == []
    RECORDS.unlink()
    assert earlier.restore() == []
    assert not RECORDS.exists()


def test_a_copy_that_was_cut_is_put_back_whole_or_not_at_all(monkeypatch):
    earlier.keep([RECORDS])
    before = RECORDS.read_bytes()
    RECORDS.unlink()
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        earlier.restore()
    assert not RECORDS.exists()
    assert earlier.restore() == [RECORDS]
    assert RECORDS.read_bytes() == before


def test_what_is_there_again_is_left():
    earlier.keep([RECORDS])
    RECORDS.write_text("new")
    earlier.restore()
    assert RECORDS.read_text() == "new"


def test_what_is_not_whole_is_neither_kept_nor_restored():
    earlier.keep([RECORDS])
    (kept,) = (path for path in Path(".snakemake").rglob("*.jsonl"))
    kept.write_bytes(kept.read_bytes()[:-3])
    RECORDS.unlink()
    earlier.restore()
    assert not RECORDS.exists()
    kept.unlink()
    RECORDS.write_text("cut")
    earlier.keep([RECORDS])
    assert not kept.exists()


def test_a_copy_that_the_disk_cut_is_not_kept(monkeypatch):
    """A winner does not say itself whether it is whole."""
    winner = Path("results/tune/valkey/winner.yaml")
    winner.parent.mkdir(parents=True)
    winner.write_text("scenarios: {valkey: {chunk_tokens: 16}}\n")

    def full(_, to):
        Path(to).write_text("scenarios: {")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context, pytest.raises(OSError, match="No space"):
        context.setattr("shutil.copy2", full)
        earlier.keep([winner])
    winner.unlink()
    assert earlier.restore() == []
    assert not list(winner.parent.iterdir())
