"""Prices that are easy to reckon with, and records to cost."""

from tests.record_factory import varied

PRICES = {
    "gpu_usd_per_hour": 2.0,
    "server_usd": 8766.0,
    "amortisation_years": 1.0,
    "dram_usd_per_gb": 8.766,
    "ssd_usd_per_gb": 0.8766,
    "ssd_capacity_gb": 1000.0,
    "ssd_read_gbps": 10.0,
    "ssd_tbw_tb": 876.6,
    "ssd_write_amplification": 2.0,
    "gpu_power_w": 600.0,
    "server_power_w": 200.0,
    "dram_power_w_per_gb": 0.5,
    "ssd_power_w": 10.0,
    "usd_per_kwh": 0.1,
    "pue": 2.0,
}


NO_SLO = {"tps_per_user": None, "ttft_p95_ms": None}


def full_prices() -> dict:
    """PRICES with a range, a unit, a date and a source."""
    more = {"unit": "USD", "date": "2026-11", "source": "assumption"}
    return {
        name: {"value": value, "low": value / 2, "high": 2 * value, **more} for name, value in PRICES.items()
    }


def records(real, loads=(1, 2), repeats=(1, 2)):
    """The records at several loads and repeats; TPS/user falls with the load, `files` is the slowest."""
    slow = {"none": 1.0, "dram": 0.9, "files": 0.5}
    return [
        varied(record, {"tps_per_user": 100.0 * slow[name] / load, "rps_per_gpu": float(load)}, load=load, repeat=repeat)
        for name, record in real.items()
        for load in loads
        for repeat in repeats
    ]  # fmt: skip
