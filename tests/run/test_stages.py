"""Targets that have nothing to do are refused before there are jobs."""

from pathlib import Path

import pytest
import yaml

from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.run.stages import FROM_SOURCE, Stages

SHIPPED = merged(
    *(yaml.safe_load(Path(f"config/{name}.yaml").read_text()) for name in ("config", "scenarios"))
)


@pytest.mark.parametrize("target", sorted(FROM_SOURCE))
def test_nothing_is_fetched_or_compiled_of_a_source_that_builds_none(target):
    stages = Stages.of(merged(SHIPPED, {"kvrocks": {"source": "conda"}}))
    stages.require(["build_kvrocks"])
    with pytest.raises(
        UserError, match=r"config: kvrocks\.source: conda builds none; set it to release, git or path"
    ):
        stages.require(["--cores", "1", target])
    Stages.of(merged(SHIPPED, {"kvrocks": {"source": "release"}})).require([target])
