"""A search space that nobody has, and what a trial of it costs."""

from workflow.hyperkv.records.kinds.tune import Round
from workflow.hyperkv.tune.space import Parameter

PARAMETERS = [
    Parameter("connections", 2, tuple(range(1, 17))),
    Parameter("stripe_bytes", 1, (1, 2, 4, 8)),
    Parameter("settings.share", 0.5, (0.5, 0.0, 0.25, 0.75, 1.0)),
]


def a_round(cost: float) -> Round:
    """A round of which nothing but its cost counts."""
    return Round(cost_s_per_ktokens=cost, set_gbps=1, get_gbps=1, device_share=None)


def rounds(values, count=3):
    """Best at 8 connections and stripes of 4."""
    cost = 1 + abs(values["connections"] - 8) + (values["stripe_bytes"] != 4)
    for number in range(count):
        yield a_round(cost + number / 100)
