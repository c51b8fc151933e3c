"""The table of prices: the shipped one is whole, and one line for every mistake in one."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.configs import BASE, changed
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.models.cost import Prices
from workflow.hyperkv.config.plan import cost_spec

SHIPPED = yaml.safe_load(Path("config/prices.yaml").read_text())
PRICE = {"value": 2.0, "low": 1.0, "high": 3.0, "date": "2026-11", "source": "assumption"}


def prices_of(folder: Path, text: str | None = None, **prices: Any) -> dict[str, Any]:
    """The prices that the cost is worked out with when some of the shipped table are others."""
    path = folder / "prices.yaml"
    path.write_text(text if text is not None else yaml.safe_dump(SHIPPED | prices))
    return json.loads(cost_spec(checked(changed("cost.prices", str(path)))))["prices"]


def test_the_shipped_prices_are_all_there_with_their_sources():
    spec = json.loads(cost_spec(checked(BASE)))
    assert spec["slo"] == {"tps_per_user": None, "ttft_p95_ms": None}
    assert set(spec["prices"]) == set(Prices.model_fields)
    assert all(price["source"] and price["date"] and price["unit"] for price in spec["prices"].values())
    assert spec["prices"]["ssd_capacity_gb"]["value"] == 7680


def test_a_price_is_as_its_table_has_it(tmp_path):
    found = prices_of(tmp_path, usd_per_kwh=PRICE | {"value": 2, "source": "a\n  bill"})
    assert found["usd_per_kwh"] == PRICE | {"value": 2, "source": "a bill", "unit": "USD/kWh"}


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"pue": 5}, "pue: 5 is wrong; it must be a mapping"),
        ({"pue": PRICE | {"note": 1}}, "pue.note is not a key; allowed are value, low, high, date, source"),
        ({"pue": {"value": 1}}, "pue.low is missing"),
        ({"pue": PRICE | {"value": "two"}}, "pue.value: 'two' is wrong; it must be a number, at least 0"),
        ({"pue": PRICE | {"low": -1}}, "pue.low: -1 is wrong; it must be a number, at least 0"),
        ({"pue": PRICE | {"high": float("inf")}}, "pue.high: .inf is wrong"),
        ({"pue": PRICE | {"value": True}}, "pue.value: true is wrong"),
        (
            {"amortisation_years": PRICE | {"low": 0}},
            "amortisation_years.low: 0 is wrong; it must be a number, more than 0",
        ),
        ({"pue": PRICE | {"value": 5}}, "pue: low, value and high must not fall"),
        ({"pue": PRICE | {"date": "today"}}, "pue.date: 'today' is wrong"),
        ({"pue": PRICE | {"source": " "}}, "pue.source: ' ' is wrong; say where the figure is from"),
        ({"euro": PRICE}, "euro is not a key; allowed are gpu_usd_per_hour"),
    ],
)
def test_mistakes_in_the_table_name_the_price(tmp_path, prices, message):
    with pytest.raises(UserError) as error:
        prices_of(tmp_path, **prices)
    assert message in str(error.value)
    assert str(error.value).startswith(f"config: cost.prices: {tmp_path}/prices.yaml: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not YAML"), ("5", "is no mapping of keys"), ("pue: 1", "gpu_usd_per_hour is missing")],
)
def test_a_table_that_is_none_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        prices_of(tmp_path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cost.dram_usd_per_gb", 3, "cost.dram_usd_per_gb is not a key; allowed are prices, slo"),
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
