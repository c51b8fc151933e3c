"""The table of prices and the section that changes them: what is read, and what is refused by name."""

import json
from pathlib import Path

import pytest
import yaml

from tests.config.test_config import BASE, changed
from tests.tables.costs import NO_SLO, PRICES
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked, cost_spec
from workflow.hyperkv.config.prices import resolved_prices
from workflow.hyperkv.tables.cost import values_of

RULES = {"usd": {"unit": "USD", "anyOf": [{"type": "number", "minimum": 0}]}, "years": {"unit": "years", "anyOf": [{"exclusiveMinimum": 0}]}}  # fmt: skip


PRICE = {"value": 2.0, "low": 1.0, "high": 3.0, "date": "2026-11", "source": "assumption"}


def table_file(folder: Path, text=None, **prices) -> Path:
    path = folder / "prices.yaml"
    path.write_text(text if text is not None else yaml.safe_dump({"usd": PRICE, "years": PRICE} | prices))
    return path


def test_prices_of_the_configuration_replace_figure_range_and_source(tmp_path):
    found = resolved_prices(table_file(tmp_path), {"usd": None, "years": 4.0}, RULES)
    assert found["usd"] == {**PRICE, "unit": "USD"}
    assert found["years"] == {
        "value": 4.0, "low": 2.0, "high": 6.0, "date": None, "source": "the configuration", "unit": "years",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"usd": 5}, "usd must have exactly the keys value, low, high, date, source"),
        ({"usd": PRICE | {"note": 1}}, "usd must have exactly the keys"),
        ({"usd": PRICE | {"value": "2"}}, "usd.value: '2' is wrong; it must be a number, at least 0"),
        ({"usd": PRICE | {"low": -1}}, "usd.low: -1 is wrong; it must be a number, at least 0"),
        ({"usd": PRICE | {"high": float("inf")}}, "usd.high: .inf is wrong"),
        ({"usd": PRICE | {"value": True}}, "usd.value: True is wrong"),
        ({"years": PRICE | {"low": 0}}, "years.low: 0 is wrong; it must be a number, more than 0"),
        ({"usd": PRICE | {"value": 5}}, "usd: low, value and high must not fall"),
        (
            {"usd": PRICE | {"date": "today"}},
            "usd.date: 'today' is wrong; it must be a month such as 2026-11",
        ),
        ({"usd": PRICE | {"source": " "}}, "usd.source is empty"),
        ({"euro": PRICE}, "euro is not a price; allowed are usd, years"),
    ],
)
def test_mistakes_in_the_table_of_prices_name_the_price(tmp_path, prices, message):
    with pytest.raises(UserError) as error:
        resolved_prices(table_file(tmp_path, **prices), {"usd": None, "years": None}, RULES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not YAML"), ("5", "is no mapping of keys"), ("usd: 1", "years is missing")],
)
def test_a_table_that_is_none_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        resolved_prices(table_file(tmp_path, text), {"usd": None, "years": None}, RULES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_configurations_prices_are_all_there_with_their_sources():
    spec = json.loads(cost_spec(checked(BASE)))
    assert spec["slo"] == NO_SLO
    assert set(spec["prices"]) == set(PRICES)
    assert all(price["source"] and price["date"] and price["unit"] for price in spec["prices"].values())
    own = json.loads(cost_spec(checked(changed("cost.dram_usd_per_gb", 3))))["prices"]["dram_usd_per_gb"]
    assert (own["value"], own["source"]) == (3, "the configuration")
    assert values_of(spec["prices"])["ssd_capacity_gb"] == 7680


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "cost.dram_usd_per_gb",
            "3 USD",
            "cost.dram_usd_per_gb: '3 USD' is wrong; it must be a number, at least 0",
        ),
        (
            "cost.amortisation_years",
            0,
            "cost.amortisation_years: 0 is wrong; it must be a number, more than 0",
        ),
        ("cost.dram_usd", 3, "cost.dram_usd is not a key; did you mean dram_usd_per_gb?"),
        ("cost.slo.tps_per_user", 0, "cost.slo.tps_per_user: 0 is wrong"),
        ("cost.prices", 5, "cost.prices: 5 is wrong; it must be text"),
    ],
)
def test_mistakes_in_the_section_name_the_key(path, value, message):
    with pytest.raises(UserError) as error:
        checked(changed(path, value))
    assert message in str(error.value)


def test_a_missing_table_of_prices_is_named():
    with pytest.raises(
        UserError, match=r"config: cost.prices: there is no file none.yaml; config/prices.yaml is one"
    ):
        cost_spec(checked(changed("cost.prices", "none.yaml")))
