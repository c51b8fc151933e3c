"""Targets that have nothing to do are refused before there are jobs."""

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.run.stages import FROM_SOURCE, Stages


@pytest.mark.parametrize("target", sorted(FROM_SOURCE))
def test_nothing_is_fetched_or_compiled_of_a_source_that_builds_none(target):
    stages = Stages.of({"kvrocks": {"source": "conda"}})
    stages.require(["build_kvrocks"])
    with pytest.raises(
        UserError, match=r"config: kvrocks\.source: conda builds none; set it to release, git or path"
    ):
        stages.require(["--cores", "1", target])
    Stages.of({"kvrocks": {"source": "release"}}).require([target])
