"""Two engines before one store by the whole workflow: what is drawn, and that one more engine measures all again."""

import csv

import pytest

from tests.workflow_helpers import TINY, Checkout, changed

pytestmark = pytest.mark.slow

FILES = {"tier": "ssd", "store": "files", "connector": "inprocess", "chunk_tokens": 16, "routing": "request"}
CONFIG = changed(
    TINY,
    {
        "scenarios.one": FILES,
        "scenarios.apart": {**FILES, "shared": False},
        "experiment.scenarios": ["none", "one", "apart"],
        "experiment.engines": 2,
        "experiment.loads": [2],
    },
)


def test_what_was_shared_is_in_the_table_and_drawn(tmp_path):
    checkout = Checkout.new(tmp_path / "checkout", CONFIG)
    figure = "results/figures/sharing.png"
    status, output = checkout.snakemake(figure)
    assert status == 0, output
    with (checkout / "results/tables/sharing.csv").open() as file:
        rows = {row["scenario"]: row for row in csv.DictReader(file)}
    assert {name: (row["engines"], row["routing"], row["apart"]) for name, row in rows.items()} == {
        "none": ("2", "conversation", ""),
        "one": ("2", "request", "apart"),
        "apart": ("2", "request", ""),
    }
    assert float(rows["one"]["other_share"]) > 0 == float(rows["apart"]["other_share"])
    assert (checkout / figure).read_bytes().startswith(b"\x89PNG")
    assert {"draw_sharing", "draw_hit_rate"} & checkout.planned("figures") == {"draw_hit_rate"}
    checkout.configure(
        changed(
            CONFIG,
            {
                "experiment.engines": 1,
                "scenarios.one": {**FILES, "routing": "conversation"},
                "experiment.scenarios": ["none", "one"],
            },
        )
    )
    planned = checkout.planned("figures")
    assert "draw_sharing" not in planned
    assert {job for job in planned if job.startswith("measure_scenario")} == {
        "measure_scenario none 1",
        "measure_scenario one 1",
    }
