"""What a store reads for itself while it grows."""

from pathlib import Path

import pytest
import yaml

from tests.stores.conftest import MIB, offered, store_config
from workflow.hyperkv.bench.bench_compactions import grown
from workflow.hyperkv.machine.watch import every
from workflow.hyperkv.stores.registry import make_store


def test_a_store_in_ram_grows_and_reads_nothing(tmp_path):
    with make_store("valkey", store_config(tmp_path, "valkey")) as store:
        found = grown(store, [MIB, 3 * MIB], 64 << 10, 4)
        with store.client() as client:
            assert client.dbsize() == 48
    assert [interval.size for interval in found] == [MIB, 3 * MIB]
    assert [interval.read_per_byte for interval in found] == [0, 0]
    assert all(interval.set_gbps > 0 for interval in found)


@pytest.mark.parametrize("name", [offered("kvrocks")])
@pytest.mark.parametrize(("disabled", "reads"), [("no", True), ("yes", False)])
def test_kvrocks_reads_for_itself_with_compactions_only(tmp_path, name, disabled, reads):
    tuned = yaml.safe_load(Path("config/kvrocks/tuned.yaml").read_text())
    changes = {"rocksdb.write_buffer_size": 2, "rocksdb.disable_auto_compactions": disabled}
    config = store_config(tmp_path, name, settings=tuned["settings"] | changes)
    with make_store(name, config) as store, every(0.05, store.evict_page_cache):
        (*_, last) = grown(store, [16 * MIB, 64 * MIB], MIB, 2)
    assert (last.read_per_byte > 0.2) == reads
