"""LMCache's log lines, as 0.5.0 wrote them on an H100."""

import pytest

from workflow.hyperkv.engines.vllm.lmcache_log import transfers
from workflow.plugin.lmcache_striped.file_counts import FileCounts
from workflow.plugin.lmcache_striped.shape import Moved

LINES = [
    "(EngineCore pid=1594) \x1b[32;20m[2026-11-24 14:37:30,438] LMCache INFO:\x1b[0m [req_id=cmpl-b] Retrieved 1792 out of 1792 required tokens (from 1792 total tokens). size: 0.2188 gb, cost 35.7298 ms, throughput: 6.1223 GB/s; \x1b[3m(cache_engine.py:939:lmcache.v1.cache_engine)\x1b[0m",
    "(EngineCore pid=1594) \x1b[32;20m[2026-11-24 14:37:29,486] LMCache INFO:\x1b[0m [req_id=cmpl-9] Stored 512 out of total 512 tokens. size: 0.0625 GB, cost 4.2991 ms, throughput: 14.5381 GB/s; offload_time: 4.0814 ms, put_time: 0.1544 ms \x1b[3m(cache_engine.py:561:lmcache.v1.cache_engine)\x1b[0m",
    "(EngineCore pid=1594) LMCache INFO: Reqid: cmpl-8, Total tokens 8192, Inference Engine computed tokens: 0, LMCache hit tokens: 8192, need to load: 8191 (vllm_v1_adapter.py:1461)",
]


def test_tokens_and_seconds_are_summed():
    found = transfers([*LINES, LINES[0]])
    assert (found.retrieved_tokens, found.stored_tokens) == (3584, 512)
    assert found.retrieve_s == 2 * 0.0357298
    assert found.store_s == 0.0042991
    assert found.faults == ()


def of_ranks(*numbers: int) -> list[str]:
    """The lines of several workers."""
    return [
        line.replace("(EngineCore pid=1594)", f"(Worker_TP{rank} pid={rank + 9})")
        for rank in numbers
        for line in LINES
    ]


def test_what_every_rank_tells_is_moved_once():
    for lines in (of_ranks(0, 1), [*LINES, *LINES]):  # the second without their process
        found = transfers(lines, ranks=2)
        assert (found.retrieved_tokens, found.stored_tokens) == (1792, 512)
        assert (found.retrieve_s, found.store_s) == pytest.approx((0.0357298, 0.0042991))


def test_what_one_rank_lacks_is_not_moved():
    short = of_ranks(1)[0].replace("Retrieved 1792", "Retrieved 256").replace("cost 35.7298", "cost 50.0")
    found = transfers([*of_ranks(0), short], ranks=2)
    assert found.retrieved_tokens == 1024 < 1792
    assert found.stored_tokens == 256 < 512
    assert transfers(of_ranks(0), ranks=2).retrieved_tokens == 896 < 1792


def test_a_line_may_begin_with_anothers_prefix():
    """As vLLM 0.25.0 on two GPUs wrote it: both ranks write to one log at once."""
    plain = LINES[0].removeprefix("(EngineCore pid=1594) ")
    mangled = [f"(Worker_TP1 pid=6638) (Worker_TP0 pid=6636) {plain}", plain, *of_ranks(0, 1)]
    assert transfers(mangled, ranks=2).retrieved_tokens == 3584
    assert transfers([plain + plain], ranks=2).retrieved_tokens == 1792


def test_a_hit_that_was_only_looked_up_counts_as_nothing_and_the_first_rank_tells_of_what_all_share():
    assert transfers(of_ranks(0)).retrieved_tokens == 1792
    assert transfers(LINES[2:]).retrieved_tokens == 0


def test_what_the_plugin_drops_is_counted_and_what_it_reports_is_a_fault():
    found = transfers(
        [
            "LMCache WARNING: striped: dropped 3 chunks, saves are behind",
            "LMCache WARNING: striped: dropped 1 chunks, saves are behind",
            "LMCache INFO: striped: gate found 3 of 8 chunks, load 0.0100 s, first token 0.0200 s",
            "LMCache INFO: striped: gate: load predicted 0.0100 s, took 0.0200 s",
            "LMCache WARNING: striped: gate_metrics: http://127.0.0.1:8000/metrics is not read: timed out",
            "LMCache INFO: striped: 7 chunks came for the first time, and are not saved",
            "LMCache ERROR: striped: 1 of 4 chunks are damaged",
        ]
    )
    assert (found.dropped_chunks, found.first_use_chunks) == (4, 7)
    assert (found.gate.lookups, found.gate.left_chunks, found.gate.load_error) == (1, 5, 0.5)
    assert found.faults == ("LMCache ERROR: striped: 1 of 4 chunks are damaged",)
    of_two = [
        "striped: dropped 3 chunks",
        "striped: dropped 2 chunks",
        *["striped: gate found 1 of 3 chunks"] * 2,
    ]
    twice = transfers(of_two, ranks=2)
    assert (twice.dropped_chunks, twice.gate.lookups, twice.gate.left_chunks) == (3, 1, 2)
    assert transfers([]).gate is None


def test_what_connector_direct_read_from_files_is_summed_and_why_it_did_not_is_no_fault():
    why = "127.0.0.1:6666: cannot open /data/kv: Permission denied; what is not read from files is asked for by GET"
    found = transfers(
        [
            "LMCache INFO: striped: 32 stripes from files, 4096 bytes; 2 by GET, 1 of them again",
            f"LMCache WARNING: striped: {why}",
            "LMCache INFO: striped: 8 stripes from files, 1024 bytes; 0 by GET, 0 of them again",
        ]
    )
    assert found.files == FileCounts(40, 2, 1, 5120)
    assert (found.by_get, found.faults) == ((why,), ())
    late = why.replace(
        "cannot open /data/kv: Permission denied", "receive timed out after 3 s at 127.0.0.1:6666"
    )
    found = transfers([f"LMCache WARNING: striped: {late}"])
    assert (found.by_get, found.faults) == ((late,), ())
    left = "LMCache ERROR: striped: the store failed and is left alone for 10 s: receive timed out after 3 s at 127.0.0.1:6666"
    assert transfers([left]).faults == (left,)
    assert transfers(["LMCache INFO: striped: 1 servers"]).files is None


def test_lines_of_faults_are_kept():
    found = transfers(
        [
            "[2026-11-24] LMCache ERROR: Failed to put chunk ",
            "redis.exceptions.TimeoutError: Timeout writing to socket",
            "INFO: 127.0.0.1 - GET /health 200 OK",
        ]
    )
    assert found.faults[0] == "[2026-11-24] LMCache ERROR: Failed to put chunk"
    assert len(found.faults) == 2


def test_what_a_shaped_device_did_is_summed():
    line = "LMCache INFO: striped: shape {}: 2000000 bytes, stated 0.002000 s, took 0.002500 s, store 0.001000 s (l2.py)"
    found = transfers([*LINES, *map(line.format, ("read", "write", "read"))])
    assert found.shape == {
        "read": Moved(4 * 10**6, 0.004, 0.005, 0.002),
        "write": Moved(2 * 10**6, 0.002, 0.0025, 0.001),
    }
    assert found.faults == ()
    assert transfers(LINES).shape is None


def test_that_vllm_went_on_without_lmcaches_server_is_told_once_and_is_no_fault():
    line = "[2026-11-29 20:21:54,013] LMCache WARNING: LMCache server is unhealthy — entering degraded mode (vllm_multi_process_adapter.py:614)"
    found = transfers([*LINES, line, line], ranks=2)
    assert len(found.unheard) == 1
    assert "without it for a while" in found.unheard[0]
    assert found.faults == transfers(LINES).unheard == ()
