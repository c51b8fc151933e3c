"""Stage fetch_trace, as its rule runs it."""

import hashlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("damage", [b"", b"!"])
def test_a_trace_is_taken_when_it_is_the_one_that_was_asked_for(tmp_path, damage):
    source, out = tmp_path / "source", tmp_path / "traces" / "trace.jsonl"
    source.write_bytes(b"{}\n" + damage)
    options = ["--url", source.as_uri(), "--sha256", hashlib.sha256(b"{}\n").hexdigest(), "--out", str(out)]
    command = [sys.executable, "-m", "workflow.hyperkv.workloads.fetch_trace", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if damage:
        assert done.returncode == 2
        assert done.stderr.startswith("hyperkv fetch_trace: error: cannot download file://")
        assert not out.exists()
    else:
        assert done.returncode == 0, done.stderr
        assert out.read_bytes() == b"{}\n"
