"""What table predicted says of a prediction, in words."""

from __future__ import annotations

import pandas as pd

TTFT_COMPUTED, TTFT_LOADED, BREAK_EVEN, HIT_RATE = "ttft_computed", "ttft_loaded", "break_even", "hit_rate"
UNITS = {TTFT_COMPUTED: "s", TTFT_LOADED: "s", BREAK_EVEN: "10^9 bytes/s", HIT_RATE: "share"}
ALLOWED = {TTFT_COMPUTED: 0.15, TTFT_LOADED: 0.15, BREAK_EVEN: 0.15, HIT_RATE: 0.10}
WITHIN, OFF = "within", "off"


WORDS = {
    TTFT_COMPUTED: "TTFT computed",
    TTFT_LOADED: "TTFT loaded",
    BREAK_EVEN: "break-even",
    HIT_RATE: "hit rate",
}


def counts_words(table: pd.DataFrame) -> str:
    """'TTFT computed 4 of 4, hit rate 3 of 4': of what was compared, how many are within; "" where nothing was."""
    compared = table.dropna(subset=["verdict"])
    within = {
        word: (own["verdict"] == WITHIN, len(own)) for word, own in compared.groupby("quantity", sort=False)
    }
    return ", ".join(f"{WORDS[word]} {good.sum()} of {of}" for word, (good, of) in within.items())
