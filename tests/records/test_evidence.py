"""Every rule of `judge` and every value of served_from."""

import pytest
from pydantic import ValidationError

from workflow.hyperkv.records.evidence import Evidence, excess, judge, mixed_in, shape_evidence
from workflow.plugin.lmcache_striped.shape import Device, Moved

GOOD = {
    "queried_tokens": 100,
    "hit_tokens": 60,
    "computed_tokens": 40,
    "loaded_bytes": 1000,
    "served_bytes": 1000,
    "device_read_bytes": 900,
    "failed_requests": 0,
    "corrupt_chunks": 0,
}


def evidence(**known) -> Evidence:
    """Evidence of which nothing else is known."""
    made = ("device_share", "write_amplification", "store_cpu_s_per_gb")
    return Evidence.of(**{name: known.get(name) for name in Evidence.model_fields if name not in made})


@pytest.mark.parametrize(
    ("tier", "change", "served_from", "reason"),
    [
        ("none", {"loaded_bytes": 0, "served_bytes": None, "device_read_bytes": None}, "recompute", None),
        ("dram", {}, "ram", None),
        ("dram", {"device_read_bytes": None}, "ram", None),
        ("dram", {"loaded_bytes": 0}, "nothing", None),
        ("dram", {"served_bytes": None}, "ram", None),
        ("ssd", {}, "ssd", None),
        ("ssd", {"device_read_bytes": 800}, "ssd", None),
        ("ssd", {"device_read_bytes": 799}, "ram", "reads 80% of bytes"),
        ("ssd", {"device_read_bytes": 0}, "ram", "reads 0% of bytes loaded, at least 80% needed"),
        (
            "ssd",
            {"device_read_bytes": None},
            "unknown",
            "not proved to be served from the device: nobody tells what it read, at least 80% of bytes loaded needed",
        ),
        ("ssd", {"loaded_bytes": 0, "device_read_bytes": None}, "nothing", None),
        ("ssd", {"failed_requests": 3}, "ssd", "3 requests failed"),
        ("dram", {"corrupt_chunks": 2}, "ram", "2 chunks came back with wrong bytes"),
        ("dram", {"corrupt_chunks": None}, "ram", None),
        ("dram", {"damaged_chunks": 2}, "ram", "2 chunks were damaged in the store"),
        ("dram", {"damaged_chunks": 0}, "ram", None),
        ("dram", {"damaged_chunks": None}, "ram", None),
        ("ssd", {"store_errors": 2}, "ssd", "the store reports 2 background errors"),
        ("ssd", {"store_errors": None}, "ssd", None),
        ("dram", {"computed_tokens": 39}, "ram", "99 tokens hit or computed of 100"),
        ("dram", {"hit_tokens": 61}, "ram", "101 tokens hit or computed of 100"),
        ("dram", {"hit_tokens": None}, "ram", "of 100 tokens queried were hit or computed is not known"),
        ("dram", {"loaded_bytes": None}, "nothing", None),
        ("dram", {"shaped_read_share": 0.971, "shaped_read_gbps": 2, "store_read_gbps": 3}, "ram", None),
        (
            "dram",
            {"shaped_read_share": 0.969, "shaped_read_gbps": 2.9, "store_read_gbps": 2.9},
            "ram",
            "loads went at 2.9 GB/s, 97% of what the stated device gives of them; the store itself reads 2.9 GB/s of the same: lower "
            "shape.read_gbps",
        ),
        (
            "dram",
            {"shaped_write_share": 1.04, "shaped_write_gbps": 1, "store_write_gbps": 2},
            "ram",
            "saves went at 1 GB/s, 104% of what",
        ),
        ("dram", {"served_bytes": 999}, "ram", "served 999 bytes, the engine loaded 1,000"),
    ],
)
def test_one_rule_each(tier, change, served_from, reason):
    verdict = judge(tier, evidence(**GOOD | change), 0.8)
    assert verdict.served_from == served_from
    assert verdict.valid is (reason is None)
    assert len(verdict.reasons) == (reason is not None)
    assert (reason or "") in "".join(verdict.reasons)


def test_every_broken_rule_is_listed():
    bad = {
        "failed_requests": 1,
        "corrupt_chunks": 1,
        "hit_tokens": 0,
        "served_bytes": 0,
        "device_read_bytes": 0,
    }
    assert len(judge("ssd", evidence(**GOOD | bad), 0.8).reasons) == 5


@pytest.mark.parametrize(
    ("read", "loaded", "share"),
    [(500, 1000, 0.5), (0, 1000, 0), (None, 1000, None), (500, 0, None), (5, None, None)],
)
def test_device_share(read, loaded, share):
    assert evidence(device_read_bytes=read, loaded_bytes=loaded).device_share == share


@pytest.mark.parametrize(("read", "notes"), [(None, 0), (0, 0), (1000, 0), (1400, 0), (1500, 1), (3200, 1)])
def test_a_store_that_reads_for_itself_is_noted(read, notes):
    found = excess(evidence(device_read_bytes=read, loaded_bytes=1000))
    assert len(found) == notes
    if read == 3200:
        assert found == ["the store read 3.2 bytes from the device per byte loaded"]


@pytest.mark.parametrize(
    ("served", "taken", "words"),
    [
        (10**9, 10**9, []),
        (None, None, []),
        (10**9 + (64 << 20), 10**9, []),
        (2 * 10**9, 10**9, ["the store served 2,000,000,000 bytes and 1,000,000,000 are this cell's"]),
        (10**9, 3 * 10**9, ["the store took 3,000,000,000 bytes and 1,000,000,000 are this cell's"]),
    ],
)
def test_traffic_of_others_is_noticed(served, taken, words):
    own = {"loaded_bytes": 10**9, "saved_bytes": 10**9}
    found = mixed_in(evidence(served_bytes=served, taken_bytes=taken, **own))
    assert found == [f"{word}: others' traffic is in its counters" for word in words]


def test_quotients_are_of_what_is_known():
    found = evidence(saved_bytes=10**9, loaded_bytes=10**9, device_write_bytes=3 * 10**9, store_cpu_s=1.0)
    assert (found.write_amplification, found.store_cpu_s_per_gb, found.device_share) == (3, 0.5, None)
    assert set(Evidence.unknown().dump().values()) == {None}


def test_a_key_that_an_engine_leaves_out_or_misspells_is_an_error():
    known = Evidence.unknown().dump()
    for wrong in ({"sent_requests": 1}, known | {"sent": 1}):
        with pytest.raises(ValidationError):
            Evidence(**wrong)


def test_what_a_connector_counted_is_evidence():
    counts = {"read": Moved(2 * 10**9, stated_s=1.96, took_s=2, store_s=0.5), "write": Moved()}
    found = shape_evidence(counts, Device(read_gbps=1.0))
    assert found == {
        "store_read_gbps": 4,
        "shaped_read_gbps": 1,
        "shaped_read_share": 0.98,
        **dict.fromkeys(("store_write_gbps", "shaped_write_gbps", "shaped_write_share")),
    }
    assert shape_evidence(counts, Device()) == dict.fromkeys(found) | {"store_read_gbps": 4}
    assert set(shape_evidence(None, Device(read_gbps=1.0)).values()) == {None}


def test_a_way_without_stated_gbps_is_as_fast_as_the_store_and_no_reason():
    """A latency alone, which is a small part of what the store takes."""
    counts = {way: Moved(10**9, stated_s=0.01, took_s=2, store_s=2) for way in ("read", "write")}
    for device, held in ((Device(read_gbps=1.0, latency_us=80), "read"), (Device(latency_us=80), None)):
        found = shape_evidence(counts, device)
        assert [way for way in ("read", "write") if found[f"shaped_{way}_share"] is not None] == [
            way for way in ("read", "write") if way == held
        ]
        assert (found["store_write_gbps"], found["shaped_write_gbps"]) == (0.5, 0.5)
