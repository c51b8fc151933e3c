"""The data dictionary is what the records' fields and the derived columns say."""

from pathlib import Path

import pytest
import yaml

from workflow.hyperkv.records.columns import DERIVED, dictionary, fields_of, render
from workflow.hyperkv.records.evidence import Evidence
from workflow.hyperkv.records.kinds.cell import RequestColumns, Values


def test_the_dictionary_is_as_it_is_generated():
    assert Path("workflow/schemas/columns.yaml").read_text() == render(), "run `make docs`"


@pytest.mark.parametrize("part", [Values, Evidence, RequestColumns])
def test_every_figure_of_a_record_is_a_column_with_a_unit_and_a_meaning(part):
    assert list(fields_of(part)) == list(part.model_fields)


def test_what_is_shared_is_used_and_nothing_is_said_twice():
    derived = yaml.safe_load(DERIVED.read_text())
    entries = [entry for entries in derived["tables"].values() for entry in entries]
    named = {name for entry in entries for name in _names(entry)}
    assert set(derived["shared"]) <= named


def _names(entry: str | dict) -> list[str]:
    if isinstance(entry, str):
        return entry.split()
    ((_, told),) = entry.items()
    return told.split() if isinstance(told, str) else []


def test_a_median_has_its_interval_and_a_mean_says_so():
    derived = {"shared": {"x": "s | Seconds."}, "tables": {"t": [{"spread": "x"}, {"mean": {"y": "s | Y."}}]}}
    assert dictionary(derived)["t"] == {
        "x": ("s", "Seconds. Median over repeats."),
        "x_low": ("s", "Lower end of the interval of x over repeats; empty for one repeat."),
        "x_high": ("s", "Upper end of it."),
        "y": ("s", "Y. Mean over repeats."),
    }
    with pytest.raises(KeyError, match="unheard"):
        dictionary(derived | {"tables": {"t": ["unheard"]}})
