"""Section `cost`, and the table of prices that it names."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, model_validator

from .faults import fault, wrong
from .texts import Path
from .values import NotNegative, OrNull, Positive, Section, key, section


class CostSlo(Section):
    """What every scenario must keep where costs are compared; each is taken at the most clients that do."""

    tps_per_user: OrNull[Positive] = key(None, unit="tokens/s")
    """Least answer tokens per second of a request, which the recommended load keeps, too; null for the highest
    that every scenario reaches, and no floor for the recommendation."""
    ttft_p95_ms: OrNull[Positive] = key(None, unit="ms")
    """Longest time to first token, 95th percentile; null for no bound."""


class Cost(Section):
    """What a GPU with each scenario's tier costs, by the prices of a table."""

    prices: Path = key("config/prices.yaml")
    """The dated table of prices, every one with its range and its source."""
    slo: CostSlo = section(CostSlo)


def _one_line(text: str) -> str:
    if not text.strip():
        raise wrong("say where the figure is from, or: assumption")
    return " ".join(text.split())


class Price(Section):
    """A price: the figure, the range that the sensitivity takes, the month it is of, and where it is from."""

    value: NotNegative
    """The figure."""
    low: NotNegative
    """The least that the sensitivity takes."""
    high: NotNegative
    """The most that it takes."""
    date: str = key(unit="month", pattern="^\\d{4}-\\d{2}$")
    """The month it is of."""
    source: Annotated[str, AfterValidator(_one_line)] = key(unit="text")
    """Where it is from."""

    @model_validator(mode="after")
    def _ranged(self) -> Price:
        if not self.low <= self.value <= self.high:
            raise fault(f"low, value and high must not fall, they are {[self.low, self.value, self.high]}")
        return self


class PositivePrice(Price):
    """A price that is more than 0."""

    value: Positive
    """The figure."""
    low: Positive
    """The least that the sensitivity takes."""
    high: Positive
    """The most that it takes."""


class Prices(Section):
    """A table of prices: config/prices.yaml is one."""

    gpu_usd_per_hour: Price = key(unit="USD/hour")
    """One GPU for an hour: its rent, or its price over the hours it is used. Of a rent that includes
    server and power set server_usd, gpu_power_w and server_power_w to 0."""
    server_usd: Price = key(unit="USD")
    """One GPU's share of the server: all but GPU, and DRAM and SSD of the tier."""
    amortisation_years: PositivePrice = key(unit="years")
    """Over how many years server, DRAM and SSD are paid off."""
    dram_usd_per_gb: Price = key(unit="USD/GB")
    """DRAM, per 10^9 bytes."""
    ssd_usd_per_gb: Price = key(unit="USD/GB")
    """SSD, per 10^9 bytes."""
    ssd_capacity_gb: PositivePrice = key(unit="GB")
    """Capacity of one drive, 10^9 bytes."""
    ssd_read_gbps: PositivePrice = key(unit="10^9 bytes/s")
    """GB/s that one drive reads: a shaped device (scenario key shape) costs as many drives as read its GB/s together."""
    ssd_tbw_tb: PositivePrice = key(unit="TB")
    """Bytes that one drive is rated to take in its life, 10^12 bytes."""
    ssd_write_amplification: Price = key(unit="ratio")
    """What wears a drive per byte that the host writes to it, over what its rating has in it already.
    What a store writes more than it was given is measured and not in it."""
    gpu_power_w: Price = key(unit="W")
    """Power of one GPU."""
    server_power_w: Price = key(unit="W")
    """One GPU's share of the server's other power."""
    dram_power_w_per_gb: Price = key(unit="W/GB")
    """Power of the tier's DRAM."""
    ssd_power_w: Price = key(unit="W")
    """Power of one drive; a tier has its share of it by capacity."""
    usd_per_kwh: Price = key(unit="USD/kWh")
    """Electricity."""
    pue: Price = key(unit="ratio")
    """Power of the data centre over that of its computers."""
