"""A trial's rounds on a real Valkey, and everything that makes a trial fail; each leaves nothing behind."""

import contextlib

import psutil
import pytest

from tests.record_factory import spec as cell_spec
from workflow.hyperkv.base.errors import StoreDied, StoreError
from workflow.hyperkv.tune.space import applied
from workflow.hyperkv.tune.store_load import measured_rounds
from workflow.plugin.lmcache_striped.connector import StripedConnector

KV_BYTES = 32 << 10  # of one token of the tests' model


@pytest.fixture
def spec(tmp_path):
    """A search's spec on Valkey through `striped`: prompts of 128 tokens, four chunks of 1 MiB."""
    sweep = cell_spec(tmp_path, "dram")
    sweep["scenario"] |= {"name": "valkey_striped", "store": "valkey", "connector": "striped"}
    sweep["scenario"] |= {"stripe_bytes": 256 << 10, "dram_pool_bytes": None}
    return {"sweep": sweep, "prompt_tokens": 128, "rounds": 3, "get_weight": 0.8, "warm_up_bytes": None}


def rounds(spec, tmp_path, **values):
    return measured_rounds(spec, applied(spec["sweep"]["scenario"], values), tmp_path / "logs")


def servers():
    """Running Valkey servers that this process started."""
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def clean(tmp_path):
    return not servers() and not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("connector", ["striped", "striped_mp"])
def test_every_round_weighs_get_and_set_per_thousand_tokens(spec, tmp_path, connector):
    spec["sweep"]["scenario"]["connector"] = connector
    found = list(rounds(spec, tmp_path, connections=4, processes=2))
    assert len(found) == 3
    for entry in found:
        seconds = 4 * 32 * KV_BYTES / 1e9 * (0.8 / entry.get_gbps + 0.2 / entry.set_gbps)
        assert entry.cost_s_per_ktokens == pytest.approx(seconds / 0.128)
    assert clean(tmp_path)


def test_tokens_beyond_the_last_whole_chunk_take_no_part_and_fp8_moves_half(spec, tmp_path):
    def moved(**values):
        with contextlib.closing(rounds(spec, tmp_path, **values)) as found:
            entry = next(found)
        return entry.cost_s_per_ktokens / (0.8 / entry.get_gbps + 0.2 / entry.set_gbps)

    whole = moved()
    assert moved(kv_dtype="fp8") == pytest.approx(whole / 2)
    spec["prompt_tokens"] = 150
    assert moved() == pytest.approx(whole)


def test_a_search_that_ends_a_trial_ends_its_server(spec, tmp_path):
    found = rounds(spec, tmp_path)
    next(found)
    assert len(servers()) == 1
    found.close()
    assert clean(tmp_path)


def test_a_server_that_dies_fails_the_trial(spec, tmp_path):
    found = rounds(spec, tmp_path)
    next(found)
    servers()[0].kill()
    with pytest.raises(StoreDied, match=r"store valkey .* died with signal 9"):
        list(found)
    assert clean(tmp_path)


def test_missing_and_wrong_chunks_fail_the_trial(spec, tmp_path, monkeypatch):
    get = StripedConnector.get

    def spoilt(self, keys, buffers):
        flags = get(self, keys, buffers)
        buffers[0][7] ^= 1
        return [*flags[:-1], False]

    monkeypatch.setattr(StripedConnector, "get", spoilt)
    with pytest.raises(StoreError, match="store valkey: 2 of 4 chunks were missing or wrong"):
        list(rounds(spec, tmp_path))
    assert clean(tmp_path)


def test_an_ssd_that_answers_from_memory_fails_the_trial(spec, tmp_path):
    spec["sweep"]["scenario"]["tier"] = "ssd"
    with pytest.raises(
        StoreError, match="served from RAM: device reads 0% of bytes got, at least 80% needed"
    ):
        list(rounds(spec, tmp_path))
    assert clean(tmp_path)


def test_a_setting_that_the_server_refuses_fails_the_trial(spec, tmp_path):
    with pytest.raises(StoreError, match="store valkey ended with"):
        list(rounds(spec, tmp_path, **{"settings.no-such-key": 1}))
    assert clean(tmp_path)
