"""Where a curve over the GB/s of a device crosses what it is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd


def crossing(points: Sequence[tuple[float, float]]) -> float | None:
    """GB/s at which a gain becomes 1 and stays above; on straight lines between points over the logarithm of GB/s.

    points: (GB/s, gain), GB/s rising. None where the last one does not gain, or all do: nothing is extrapolated.
    """
    known = [(gbps, value) for gbps, value in points if pd.notna(value)]
    below = [number for number, (_, value) in enumerate(known) if value < 1]
    if not below or below[-1] == len(known) - 1:
        return None
    (low, under), (high, over) = known[below[-1]], known[below[-1] + 1]
    share = (1 - under) / (over - under)
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
