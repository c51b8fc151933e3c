"""The command that measures loads beside saves, on a small Valkey."""

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.profile.bench_saves import Way, main, table


def test_every_way_is_measured_and_told(tmp_path, capsys):
    main(
        store="valkey",
        data_dir=tmp_path,
        chunk_bytes=1 << 20,
        together=2,
        count=4,
        loads=200,
        save_gbps=2.0,
        rounds=2,
    )
    said = capsys.readouterr().out
    assert said.startswith(f"valkey, {tmp_path}, 2 MiB a load, median of 2 rounds\n")
    rows = [line.rsplit(maxsplit=6) for line in said.splitlines()[3:6]]
    assert [row[0] for row in rows] == ["no saves", "saves", "saves with a share"]
    assert rows[0][5:] == ["0", "0"]
    assert float(rows[1][5]) > 0
    assert list(tmp_path.iterdir()) == []


def test_ratios_are_of_ways_of_the_same_round():
    def way(p99_s: float) -> Way:
        return Way([p99_s], 1.0, 0.5, 0.0)

    found = {"no saves": [way(1.0), way(4.0), way(2.0)], "saves": [way(2.0), way(4.0), way(6.0)]}
    rows = [line.split() for line in table(found, "x").splitlines()[3:]]
    assert [row[-4] for row in rows] == ["1", "2"]


def test_a_store_without_a_server_is_refused(tmp_path):
    with pytest.raises(UserError, match="--store: files has no server; choose valkey, rocksdb or kvrocks"):
        main(store="files", data_dir=tmp_path)
