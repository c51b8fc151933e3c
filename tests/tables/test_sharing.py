"""Table sharing: shares of prompt tokens by who saved them, and what sharing brings over the same with a store for each engine."""

from copy import deepcopy

import pytest

from tests.helpers import command
from tests.record_factory import measured, varied
from workflow.hyperkv.records.identity import Identity
from workflow.hyperkv.records.record_file import write_records
from workflow.hyperkv.tables import sharing
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary
from workflow.hyperkv.tables.sharing import sharing_table


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A real record of a store on files."""
    return measured(tmp_path_factory.mktemp("files"), "files")


def of_two(record, name, repeat=1, others=None, ttft=40.0, rps=2.0, reasons=(), **scenario):
    """The record as one of two engines, of 1000 tokens asked for of which 100 were still in HBM and 400 in the store."""
    made = varied(
        record, {"ttft_p50_ms": ttft, "rps_per_gpu": rps}, reasons, scenario=name, repeat=repeat, load=4
    )
    made["spec"] = deepcopy(record["spec"]) | {"engines": 2}
    made["spec"]["scenario"] |= {"name": name, **scenario}
    made["evidence"] = record["evidence"] | {
        **{"queried_tokens": 1000, "hbm_hit_tokens": 100, "dram_hit_tokens": 0},
        **{"store_hit_tokens": 400, "other_hit_tokens": others},
    }
    return made


def test_tokens_are_who_saved_them_and_gains_are_over_the_same_with_a_store_for_each(files):
    records = [
        *(of_two(files, "one", repeat, 300, ttft=20.0, rps=3.0, routing="request") for repeat in (1, 2)),
        *(of_two(files, "apart", repeat, 0, shared=False, routing="request") for repeat in (1, 2)),
        *(of_two(files, "stays", repeat, 0) for repeat in (1, 2)),
    ]
    table = sharing_table(records).set_index("scenario")
    assert set(table.reset_index()) == set(columns_dictionary()["sharing"])
    one = table.loc["one"]
    assert [one[name] for name in ("held_share", "own_share", "other_share", "store_share")] == pytest.approx(
        [0.1, 0.1, 0.3, 0.4]
    )
    assert (one["apart"], one["ttft_gain"], one["rps_gain"]) == ("apart", 2.0, 1.5)
    assert (one["routing"], bool(one["shared"]), one["engines"]) == ("request", True, 2)
    # Where conversations stay nothing was measured apart, and a store for each is compared with nothing.
    assert table.loc[["apart", "stays"], ["apart", "ttft_gain", "rps_gain"]].isna().all().all()
    assert table.loc["stays", "routing"] == "conversation"


def test_gains_pair_valid_repeats_alone(files):
    records = [
        of_two(files, "one", 1, 300, ttft=20.0),
        of_two(files, "one", 2, 300, ttft=10.0),
        of_two(files, "apart", 1, 0, shared=False),
        of_two(files, "apart", 2, 0, reasons=("served from RAM",), shared=False),
    ]
    table = sharing_table(records).set_index("scenario")
    assert table.loc["one", "ttft_gain"] == 2.0
    assert (table.loc["apart", "valid"], table.loc["apart", "valid_repeats"]) == (False, 1)


def test_who_saved_is_empty_where_nobody_tells(files):
    table = sharing_table([of_two(files, "one")])
    assert table[["own_share", "other_share"]].isna().all().all()
    assert table["store_share"].tolist() == [0.4]


def test_one_engine_has_no_row_and_the_command_writes_its_columns(files, tmp_path):
    assert sharing_table([files]).empty
    path, out = tmp_path / "1.jsonl", tmp_path / "sharing.csv"
    write_records(path, ["4"], [of_two(files, "one", others=300)], Identity("5bec5bec5bec", "c0dec0dec0de"))
    command(sharing, "--cells", path, "--out", out)
    assert out.read_text().startswith("scenario,engine,engines,routing,shared,apart")
