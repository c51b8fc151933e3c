"""The pages of kept runs by snakemake: made when they are asked for, and no part of a run."""

import shutil

import pytest

from tests.kept import KEPT, kept
from tests.workflow_helpers import Checkout

pytestmark = pytest.mark.slow


def test_target_docs_makes_the_page_of_every_kept_run_and_a_run_makes_none(tmp_path):
    run = next(each for each in map(kept, KEPT) if each.of("calibration"))
    checkout = Checkout.new(tmp_path)
    pages = checkout / "docs" / "results"
    page = pages / f"{run.name}.md"
    before = page.read_text()
    shutil.rmtree(pages)
    shutil.copytree(run.folder, checkout / str(run.folder))
    assert not [job for job in checkout.planned() if job.startswith("make_run_page")]
    status, output = checkout.snakemake("docs")
    assert status == 0, output
    assert page.read_text() == before
    assert [path.name for path in pages.glob("*.md")] == [page.name]
