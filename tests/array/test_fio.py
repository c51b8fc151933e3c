"""fio's JSON, recorded on a virtual machine's disks: proof of the parsing, not of a speed."""

import json
from pathlib import Path

import pytest

from tests.array.machines import recorded
from workflow.hyperkv.array.fio import PATTERNS, layout_command, parse_point, point_command
from workflow.hyperkv.base.errors import UserError


@pytest.mark.parametrize(
    ("name", "operation"),
    [("fio-read.json", "read"), ("fio-randread.json", "read"), ("fio-randwrite.json", "write")],
)
def test_a_recorded_run(name, operation):
    point = parse_point(recorded(name), operation)
    side = json.loads(recorded(name))["jobs"][0][operation]
    assert point["tool"] == "fio-3.33"
    assert point["moved_bytes"] == side["io_bytes"]
    assert point["gbps"] == pytest.approx(point["moved_bytes"] / point["elapsed_s"] / 1e9, rel=0.01)
    assert point["iops"] == pytest.approx(point["gbps"] * 1e9 / 65536, rel=0.01)
    assert 0 < point["latency_p50_ms"] < point["latency_p99_ms"]
    assert 0 < point["cpu_s"] <= 1.1 * point["elapsed_s"]


def test_lines_before_the_json_do_not_matter():
    text = "fio: a warning\n" + recorded("fio-read.json")
    assert parse_point(text, "read") == parse_point(recorded("fio-read.json"), "read")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "fio printed no result: nothing"),
        ("fio: engine libaio not loadable\n", "fio printed no result: fio: engine libaio not loadable"),
        ("{}", "fio printed no result"),
        (
            recorded("fio-read.json").replace('"error" : 0', '"error" : 28'),
            r"fio moved no bytes \(error 28\)",
        ),
    ],
)
def test_what_is_no_result(text, message):
    with pytest.raises(UserError, match=message):
        parse_point(text, "read")


def test_the_other_operation_moved_nothing():
    with pytest.raises(UserError, match="fio moved no bytes"):
        parse_point(recorded("fio-read.json"), "write")


def test_a_run_without_percentiles_has_none():
    document = json.loads(recorded("fio-read.json"))
    del document["jobs"][0]["read"]["clat_ns"]["percentile"]
    point = parse_point(json.dumps(document), "read")
    assert point["latency_p50_ms"] is point["latency_p99_ms"] is None


def test_commands_go_past_the_page_cache():
    layout = layout_command(Path("/data/fio"), 1 << 30)
    point = point_command(Path("/data/fio"), 1 << 30, "write", "random", 4096, 32, 2.5)
    for command in (layout, point):
        assert {"--direct=1", "--overwrite=1", "--size=1073741824", "--filename=/data/fio"} <= set(command)
    assert {"--rw=randwrite", "--bs=4096", "--iodepth=32", "--runtime=2.5", "--time_based"} <= set(point)
    assert len(set(PATTERNS.values())) == 4
