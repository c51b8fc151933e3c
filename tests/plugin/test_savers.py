"""What one instance saved and another loaded, as the plugin tells it and a log is read."""

from workflow.plugin.lmcache_striped.savers import SaverCounts, Savers, told_by


def test_what_an_instance_did_not_save_is_anothers():
    lines: list[str] = []
    savers = Savers(lines.append)
    savers.saved([b"a", b"b"])
    savers.loaded([b"a", b"c", b"d"], [True, True, False])
    savers.loaded([b"b"], [True])
    savers.loaded([b"c"], [False])
    assert told_by([f"LMCache INFO: striped: {line}" for line in lines]) == SaverCounts(loaded=3, others=1)


def test_without_a_line_nothing_is_known():
    assert told_by(["striped: dropped 3 chunks, saves are behind"]) is None
