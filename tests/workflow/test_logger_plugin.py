"""Somebody's own `--logger` plugin hears Snakemake's events though the status line has taken the place of what it prints."""

import pytest

from tests.workflow_helpers import Checkout

pytestmark = pytest.mark.slow

PLUGIN = '''
from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    """Appends the name of every event to a file."""

    writes_to_stream = False
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def emit(self, record):
        with open("heard.txt", "a") as heard:
            heard.write(f"{getattr(record, 'event', None)}\\n")
'''


def test_a_plugin_hears_of_every_job(tmp_path):
    checkout = Checkout.new(tmp_path / "checkout")
    package = tmp_path / "packages" / "snakemake_logger_plugin_heard"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN)
    checkout.python_path = str(package.parent)
    argv = checkout.snakemake_argv("predict_break_even", "--quiet", "rules", "--logger", "heard")
    status, output = checkout.run(*argv)
    assert status == 0, output
    heard = (checkout / "heard.txt").read_text().splitlines()
    assert {"workflow_started", "run_info", "job_started", "job_finished"} <= set(heard)
    assert "hyperkv: 0 of 1 steps" in output
