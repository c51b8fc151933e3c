"""Block sizes and time units that do not fit a trace are told with those that do."""

import json

import pytest

from tests.workloads.kinds import EXCERPT, ROWS, mistake, written
from workflow.hyperkv.workloads.factory import make_workload
from workflow.hyperkv.workloads.trace import Trace, conversations

BAILIAN = EXCERPT.parent / "traces" / "bailian.jsonl"


def bailian(count: int = 20) -> list[dict]:
    """The first requests of Bailian's head."""
    return [json.loads(line) for line in BAILIAN.read_text().splitlines()[:count]]


@pytest.mark.parametrize(("unit", "arrival"), [("ms", 0.04), ("s", 40.0), ("us", 4e-5)])
def test_time_units(tmp_path, unit, arrival):
    rows = [ROWS[0] | {"timestamp": 1000}, ROWS[1] | {"timestamp": 1040}]
    requests = conversations(Trace(written(tmp_path, rows), time_unit=unit), 1)
    assert [request.turns[0].arrival_s for request in requests] == [0, pytest.approx(arrival)]


@pytest.mark.parametrize("count", [1, 3, 20])
def test_a_wrong_block_size_is_told_with_the_right_one(tmp_path, count):
    trace = written(tmp_path, bailian(count))
    for told in ({"form": "mooncake"}, {"block_tokens": 64}):
        assert mistake(trace=trace, **told).endswith("set workload.block_tokens: 16")
    make_workload({"kind": "trace", "trace": trace})
    assert "set workload.block_tokens: 512" in mistake(trace=str(EXCERPT), block_tokens=16)
    assert "set workload.block_tokens: 512" in mistake(trace=str(EXCERPT), block_tokens=1024)


def test_a_wrong_line_of_a_right_size_is_the_lines(tmp_path):
    rows = [*ROWS[:5], ROWS[5] | {"hash_ids": ROWS[5]["hash_ids"][:-1]}]
    assert "one per started block of 512 tokens" in mistake(trace=written(tmp_path, rows))


@pytest.mark.parametrize(
    ("rows", "keys", "right"),
    [
        (bailian(), {"time_unit": "ms"}, "s"),
        (bailian(2), {"time_unit": "ms"}, "s"),
        (bailian(), {"time_unit": "us"}, "s"),
        ([row | {"timestamp": n // 5} for n, row in enumerate(bailian(40))], {"time_unit": "ms"}, "s"),
        (ROWS, {"time_unit": "us"}, "ms"),
        ([row | {"timestamp": 4000 * n} for n, row in enumerate(ROWS)], {"time_unit": "s"}, "ms"),
        ([row | {"timestamp": 400_000 * n} for n, row in enumerate(ROWS)], {}, "us"),
        ([row | {"timestamp": n // 2} for n, row in enumerate(ROWS)], {"time_unit": "us"}, "s"),
        ([row | {"timestamp": n // 2} for n, row in enumerate(ROWS)], {}, "s"),
    ],
)
def test_a_wrong_time_unit_is_told_with_the_right_one(tmp_path, rows, keys, right):
    trace = written(tmp_path, rows)
    assert f"set workload.time_unit: {right}" in mistake(trace=trace, **keys)
    make_workload({"kind": "trace", "trace": trace, **keys, "time_unit": right})


@pytest.mark.parametrize("apart", [2, 1, 20, 0.5])
def test_seconds_that_may_be_milliseconds_are_asked_for(tmp_path, apart):
    trace = written(tmp_path, [row | {"timestamp": apart * n} for n, row in enumerate(ROWS)])
    assert "set workload.time_unit: s" in mistake(trace=trace)
    make_workload({"kind": "trace", "trace": trace, "time_unit": "s"})
    if apart >= 2:
        make_workload({"kind": "trace", "trace": trace, "time_unit": "ms"})


def test_requests_at_one_time_and_few_requests_tell_no_unit(tmp_path):
    for rows in ([row | {"timestamp": 0} for row in ROWS], ROWS[:9]):
        for unit in ("ms", "s", "us"):
            make_workload({"kind": "trace", "trace": written(tmp_path, rows), "time_unit": unit})
