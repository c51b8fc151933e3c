"""Claims: their grammar, their quantities, their verdicts."""
