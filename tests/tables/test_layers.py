"""From rungs to the table and the text: known layers, refused shares, sampled CPU and the verdict's lines."""

import json

import pandas as pd
import pytest

from tests.helpers import command
from tests.record_factory import ROCKSDB, VALKEY, rung, rungs
from workflow.hyperkv.profile.perf_categories import CATEGORIES
from workflow.hyperkv.tables import layers
from workflow.hyperkv.tables.layers import layers_table
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary
from workflow.hyperkv.tables.methods.layers_text import layers_text


def layer(table: pd.DataFrame, name: str, kind: str = "layer") -> pd.Series:
    """The only row of that name."""
    rows = table[(table["layer"] == name) & (table["kind"] == kind)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.parametrize("filled", [True, False])
def test_the_dictionary_has_exactly_the_columns_of_the_table(tmp_path, filled):
    found, out = tmp_path / "rungs.jsonl", tmp_path / "tables"
    found.write_text("".join(json.dumps(record) + "\n" for record in rungs()))
    files = [found] if filled else []
    command(layers, "--rungs", *files, "--table", out / "layers.csv", "--text", out / "layers.txt")
    table, text = pd.read_csv(out / "layers.csv"), (out / "layers.txt").read_text()
    assert list(table) == list(columns_dictionary()["layers"])
    assert bool(len(table)) is bool(text) is filled


def test_known_layers_are_recovered_as_medians_of_paired_differences():
    table = layers_table(rungs())
    known = {"wire": 1.0, "protocol": 0.5, "server_memory": 0.25, "engine": 2.0, "device": 4.0}
    for name, value in known.items():
        row = layer(table, name)
        assert row["s_per_gb"] == pytest.approx(1.01 * value)
        assert (row["s_per_gb_low"], row["s_per_gb_high"]) == pytest.approx((value, 1.02 * value))
        assert row["share"] == pytest.approx(value / 7.9375)
        assert row["share_low"] == pytest.approx(row["share_high"])
        assert row["server_cpu_s_per_gb"] == pytest.approx(1.01 * value / 2)
        assert row["client_cpu_s_per_gb"] == pytest.approx(1.01 * value / 4)
    assert layer(table, "unexplained")["s_per_gb"] == pytest.approx(1.01 * 0.0625)
    assert layer(table, "whole", "whole")["share"] == 1
    assert table[table["kind"] == "layer"]["share"].sum() == pytest.approx(1)
    assert [layer(table, name)["server_faults_per_gb"] for name in ("wire", "engine")] == [100, 0]


def test_a_share_is_refused_when_the_interval_spans_zero():
    records = rungs()
    for record, s_per_gb in zip([r for r in records if r["rung"] == "null"], (0.9, 1.5, 1.6), strict=True):
        record["s_per_gb"] = s_per_gb
    table = layers_table(records)
    row = layer(table, "protocol")
    assert row["s_per_gb_low"] < 0 < row["s_per_gb"]
    assert not row["distinguishable"]
    assert pd.isna(row["share"])
    line = next(line for line in layers_text(table).splitlines() if line.startswith("  for "))
    assert "not distinguishable from 0: protocol" in line
    assert "% [6, 6] protocol" not in line


def test_one_repeat_has_no_share():
    table = layers_table(rungs(repeats=1))
    assert not table["distinguishable"].any()
    assert table[table["kind"] != "group"]["share"].isna().all()
    assert "(2 connections, 7.94 s/GB): one repeat has no interval, so no shares" in layers_text(table)


def test_one_repeat_of_several_that_was_measured_is_said_so_and_cpu_time_of_zero_is_not_known():
    records = rungs(repeats=3)
    for record in records:
        if record["rung"] == "whole" and record["repeat"] > 1:
            record["s_per_gb"] = None
        record["server_cpu_s"] = 0.0
    table = layers_table(records)
    assert "): one alone of 3 repeats was measured, which has no interval, so no shares" in layers_text(table)
    assert " None" not in layers_text(table)
    assert table[table["kind"] == "rung"]["server_cpu_s_per_gb"].isna().all()


def test_the_sentence_names_the_largest_share_first():
    text = layers_text(layers_table(rungs()))
    assert (
        "for 1 MiB GET from rocksdb_resp (2 connections, 8.02 s/GB [7.94, 8.10]): 50 % [50, 50] device, "
        "25 % [25, 25] storage engine in memory, 13 % [13, 13] wire"
    ) in text
    assert "for 1 MiB SET to" in layers_text(layers_table(rungs(operation="set")))


def test_the_largest_size_at_the_most_connections_is_told():
    records = rungs()
    for size, connections in ((1 << 22, 2), (1 << 22, 8), (1 << 20, 8)):
        records += [record | {"value_bytes": size, "connections": connections} for record in rungs()]
    lines = [line for line in layers_text(layers_table(records)).splitlines() if "  for " in line]
    assert len(lines) == 1
    assert "for 4 MiB GET from rocksdb_resp (8 connections" in lines[0]


@pytest.mark.parametrize(
    ("layers", "verdict"),
    [
        ({}, "refuted"),
        ({"device": 0.1, "engine": 0.1}, "confirmed"),
        ({"device": 0.1}, "refuted"),
        ({"device": 1.5, "engine": 0.1}, "undecided"),
    ],
)
def test_the_verdict_follows_from_the_shares(layers, verdict):
    records = rungs(**layers)
    if verdict == "undecided":
        for record, more in zip([r for r in records if r["rung"] == "null"], (0.4, 0, -0.4), strict=True):
            record["s_per_gb"] += more
    text = layers_text(layers_table(records))
    assert f"\n  {verdict} on this machine for 1 MiB GET, rocksdb_resp: wire + protocol + client " in text


def test_without_a_device_the_claim_is_undecided():
    records = [record | {"spec": {"scenario": VALKEY}} for record in rungs() if record["rung"] in KEPT]
    text = layers_text(layers_table(records))
    assert "undecided: no scenario here has both a wire and a device" in text


KEPT = ("loopback", "null", "valkey", "whole")


def test_what_was_not_cold_is_said_and_leaves_the_rest():
    records = [r for r in rungs() if r["rung"] != "store_disk"]
    records += [rung("store_disk", None, repeat, notes=["not cold"], cold=False) for repeat in (1, 2, 3)]
    table = layers_table(records)
    assert pd.isna(layer(table, "device")["s_per_gb"])
    assert pd.isna(layer(table, "unexplained")["s_per_gb"])
    assert layer(table, "store_disk", "rung")["notes"] == "not cold"
    assert layer(table, "engine")["share"] == pytest.approx(2 / 7.9375)
    assert "not measured: device, unexplained" in layers_text(table)


def sampled(network: float) -> dict[str, float]:
    """Shares of samples: so much of network, the rest in the engine."""
    return dict.fromkeys(CATEGORIES, 0.0) | {"network": network, "storage_engine": 1 - network}


def test_sampled_cpu_is_held_against_substitution():
    whole_cpu = 1.01 * 7.9375 / 2
    right = 0.5 * 1.01 / whole_cpu
    table = layers_table(rungs(changes={"sampled": sampled(right)}))
    wire, check = layer(table, "wire"), layer(table, "beyond_wire", "check")
    assert wire["sampled_cpu_s_per_gb"] == pytest.approx(wire["server_cpu_s_per_gb"])
    assert (wire["agrees"], check["agrees"]) == (True, True)
    assert layer(table, "storage_engine", "sample")["sampled_cpu_s_per_gb"] == pytest.approx(
        whole_cpu * (1 - right)
    )
    text = layers_text(table)
    assert "sampled, 4.01 CPU s/GB of its server: 87 % storage engine, 13 % network, 0 % " in text
    assert "agrees with substitution within 20 % in 2 of 2 comparisons" in text


def with_copies(connections: int = 2) -> list[dict]:
    """Rungs whose server spends a quarter of its CPU on copies and half of that on the socket; a copy costs 0.1 s/GB."""
    shares = dict.fromkeys(CATEGORIES, 0.0) | {"copying": 0.25, "socket_copy": 0.125, "server": 0.625}
    copies = [rung("memcpy", 0.4 * (0.99 + repeat / 100), repeat) for repeat in (1, 2, 3)]
    made = rungs(changes={"sampled": shares}) + copies
    return [record | {"connections": connections} for record in made]


def test_copies_per_byte_are_sampled_cpu_over_that_of_a_plain_copy():
    table = layers_table(with_copies())
    whole_cpu = 7.9375 / 2
    assert layer(table, "copying", "sample")["copies_per_byte"] == pytest.approx(0.25 * whole_cpu / 0.1)
    assert layer(table, "socket_copy", "sample")["copies_per_byte"] == pytest.approx(0.125 * whole_cpu / 0.1)
    assert layer(table, "whole", "whole")["copies_per_byte"] == pytest.approx(0.375 * whole_cpu / 0.1)
    assert table["copies_per_byte"].notna().sum() == 3
    sentences = [line for line in layers_text(table).splitlines() if line.startswith("  for ")]
    assert len(sentences) == 1
    assert sentences[0].endswith("; its server copies each byte 14.9 times (in plain copies' CPU time)")


def test_copies_are_held_against_the_copy_of_the_same_point():
    slower = [
        record | ({"client_cpu_s": 0.2 * record["s_per_gb"] / 0.4} if record["rung"] == "memcpy" else {})
        for record in with_copies(8)
    ]
    table = layers_table(with_copies() + slower)
    few, many = (table[table["connections"] == connections] for connections in (2, 8))
    assert layer(many, "copying", "sample")["copies_per_byte"] == pytest.approx(
        layer(few, "copying", "sample")["copies_per_byte"] / 2
    )


def test_copies_are_unknown_without_samples_or_without_a_plain_copy():
    without = [record | {"sampled": None} for record in with_copies()]
    for records in (without, [record for record in with_copies() if record["rung"] != "memcpy"]):
        table = layers_table(records)
        assert table["copies_per_byte"].isna().all()
        assert "copies each byte" not in layers_text(table)


def test_network_beyond_the_raw_socket_s_is_explained():
    table = layers_table(rungs(changes={"sampled": sampled(0.5)}))
    found = [layer(table, "wire")["agrees"], layer(table, "beyond_wire", "check")["agrees"]]
    assert found == [False, False]
    text = layers_text(table)
    assert "in the server of rocksdb_resp: its network code is its own, and substitution books" in text
    for network in (0.0, 0.5 / (7.9375 / 2)):
        table = layers_table(rungs(changes={"sampled": sampled(network)}))
        assert "network code is its own" not in layers_text(table)


def test_without_samples_agreement_is_unknown_and_said():
    table = layers_table(rungs())
    assert table["agrees"].isna().all()
    assert "Not sampled" in layers_text(table)


DIRECT = ROCKSDB | {"connector": "direct"}


def direct_rungs(changes: dict | None = None) -> list[dict]:
    """A GET without a wire, 1 s/GB of bare reads from memory and known amounts of the rest."""
    seconds = {
        "files_ram": 1.0,
        "direct_ram": 1.25,
        "striped_ram": 3.25,
        "files_disk": 5.0,
        "striped_disk": 5.75,
    }
    seconds |= {"whole": 5.5} | (changes or {})
    spec = {"scenario": DIRECT}
    return [
        rung(name, None if value is None else value * (0.99 + repeat / 100), repeat, spec=spec)
        for repeat in (1, 2, 3)
        for name, value in seconds.items()
    ]


def test_without_a_wire_the_layers_are_reads_proofs_and_the_device():
    table = layers_table(direct_rungs())
    known = {"files": 1.0, "proof": 0.25, "device": 4.0, "unexplained": 0.25}
    assert list(table[table["kind"] == "layer"]["layer"]) == list(known)
    for name, value in known.items():
        assert layer(table, name)["s_per_gb"] == pytest.approx(1.01 * value)
    assert "group" not in set(table["kind"])


def test_what_the_wire_would_take_is_told_beside_them():
    table = layers_table(direct_rungs())
    ram, disk = layer(table, "wire_ram", "left_out"), layer(table, "wire_disk", "left_out")
    assert (ram["s_per_gb"], disk["s_per_gb"]) == pytest.approx((1.01 * 2.0, 1.01 * 0.25))
    assert (ram["server_cpu_s_per_gb"], ram["client_cpu_s_per_gb"]) == pytest.approx((1.01 * 1.0, 1.01 * 0.5))
    assert "connector striped takes 2.02 s/GB [2.00, 2.04] (1.52 CPU s/GB) more from memory" in layers_text(
        table
    )


def test_what_was_not_measured_leaves_them_unknown():
    text = layers_text(layers_table(direct_rungs({"striped_ram": None, "files_disk": None})))
    assert "takes unknown s/GB more from memory" in text
    assert "not measured: device" in text
