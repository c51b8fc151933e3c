"""`snakemake ladder` on a real Valkey, what runs again, and what is refused before anything runs."""

import csv

import pytest

from tests.kvrocks_tree import write_kvrocks
from tests.workflow_helpers import TINY, Checkout, changed

pytestmark = pytest.mark.slow

STEPS = {
    "1 reference": {"scenario": "valkey_redis"},
    "2 native client": {"scenario": "valkey_resp", "changes": ["connector"]},
    "3 striped": {
        "scenario": "valkey_striped",
        "changes": ["connector", "stripe_bytes", "stripes_in_flight"],
    },
}
CONFIG = changed(
    TINY,
    {
        "scenarios.valkey_striped": {"chunk_tokens": 16},
        "experiment.scenarios": ["none", "valkey_redis", "valkey_resp", "valkey_striped"],
        "experiment.loads": [2],
        "ladder": {"steps": STEPS, "beside": ["none"]},
    },
)
DRAWN = {"draw_ladder", "draw_before_after"}


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Checkout:
    """A checkout after `snakemake ladder`. Not to be changed."""
    checkout = Checkout.new(tmp_path_factory.mktemp("ladder") / "checkout", CONFIG)
    status, output = checkout.snakemake("ladder")
    assert status == 0, output
    return checkout


def test_every_step_has_its_gain_and_the_figures_are_drawn(complete):
    with (complete / "results/tables/ladder.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [*STEPS, ""]
    assert {row["valid"] for row in rows} == {"True"}
    assert [bool(row["ttft_gain_over_previous"]) for row in rows] == [False, True, True, False]
    for name in ("ladder", "before_after"):
        assert (complete / f"results/figures/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_again_nothing_runs_and_a_changed_figure_only_draws(complete, tmp_path):
    assert complete.planned("ladder") == set()
    checkout = complete.copy(tmp_path / "checkout")
    path = checkout / "workflow/hyperkv/figures/style.py"
    path.write_text(path.read_text() + "\nCHANGED = True\n")
    assert checkout.planned("ladder") == DRAWN


MADE = ["connector", "stripe_bytes", "stripes_in_flight", "store", "tier", "patched"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "scenarios.valkey_striped": {
                    "store": "kvrocks",
                    "tier": "ssd",
                    "patched": True,
                    "chunk_tokens": 16,
                },
                "kvrocks": {"source": "binary", "binary": "PROGRAM"},
                "ladder.steps.3 striped.changes": MADE,
            },
            "config: ladder: kvrocks: source binary cannot be patched, so without valkey_striped.",
        ),
        (
            {"scenarios.valkey_striped.connections": 4},
            "config: ladder.steps.3 striped: scenario valkey_striped differs from valkey_resp in connections as well",
        ),
        ({"ladder": {}}, "config: ladder.steps is empty"),
    ],
)
def test_a_ladder_that_is_none_stops_before_anything_runs(complete, tmp_path, changes, message):
    checkout = complete.copy(tmp_path / "checkout")
    if "kvrocks" in changes:
        changes = changes | {"kvrocks.binary": str(write_kvrocks(tmp_path / "kvrocks"))}
    checkout.configure(changed(CONFIG, changes))
    status, output = checkout.snakemake("ladder", "--dry-run")
    assert status == 1
    assert message in output
